"""Data sets: digits, Colored-MNIST and its relatives."""
