"""Colored-MNIST: debiasing step by step."""
