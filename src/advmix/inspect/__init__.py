"""`advmix inspect`: which layers of a generator carry the label."""
