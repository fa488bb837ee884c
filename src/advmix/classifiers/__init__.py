"""Classifiers: the wrapper, the studies' networks, what `advmix train` wrote, and other people's."""

from advmix.classifiers.networks import Grayscale, InstanceNorm, build_network, conv_net, load_classifier
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier

__all__ = [
    "Classifier",
    "ClassifierOptions",
    "Grayscale",
    "InstanceNorm",
    "OpenClassifier",
    "build_network",
    "conv_net",
    "load_classifier",
    "open_classifier",
]
