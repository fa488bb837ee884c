"""Training: autoencoding, classifiers, objectives."""
