"""What usual augmentations do to an image."""
