"""Classifiers: the wrapper, the studies' networks, what `advmix train` wrote, and other people's."""
