"""CelebA: attributes of faces."""
