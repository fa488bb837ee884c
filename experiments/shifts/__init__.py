"""Real shifts: another laboratory, lamp, medium or background; the rivals; the forecast."""
