"""Smiling again: faces, every method at its own best number of epochs, with and without unlabelled images."""
