"""Kinds of generator, end to end."""
