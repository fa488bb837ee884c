"""`photo`, the generator in the wheel: its photographs, its training, its measures."""
