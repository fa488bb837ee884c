"""Encoders: a network, the optimisation of Algorithm 2, and the store that keeps what they found."""

from advmix.encoders.autoencoder import Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.encoders.network import Encoder, MeanEncoder, NoEncoder, StyleEncoder, encoded
from advmix.encoders.optimize import Activations, Encoding, OptimizeEncoder, OptimizeOptions
from advmix.encoders.store import LatentStore, open_latents, write_store

__all__ = [
    "Activations",
    "Autoencoder",
    "Encoder",
    "Encoding",
    "LatentStore",
    "MeanEncoder",
    "NoEncoder",
    "OptimizeEncoder",
    "OptimizeOptions",
    "StyleEncoder",
    "encoded",
    "fingerprint",
    "load_autoencoder",
    "open_latents",
    "save_autoencoder",
    "write_store",
]
