"""`advmix study marginalize`: averaging over z⊥ beside retraining."""
