"""`advmix study pipeline`: the paper's own generator and encoder beside the autoencoder's."""
