"""Studies: the stages put together."""
