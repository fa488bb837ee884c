"""Algorithm 1: what a search finds, and at what cost."""
