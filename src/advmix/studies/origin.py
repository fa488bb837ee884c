"""Where the generator and the latents of a cell come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from advmix.data import ImageSet
from advmix.encoders import OptimizeOptions
from advmix.generators import NetworkConfig
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.gan import GanOptions, gan_config
from advmix.training.invert import InvertOptions

SHARD_SIZE = 512
"""Images per file where each is optimised: what is lost at most when that is stopped."""


@dataclass(frozen=True)
class Origin:
    """The regime of `fit` and the encoder of `encode`, with the settings of these; the default is a cell's as ever.

    >>> Origin("gan", "refine", optimize=OptimizeOptions(optimize_steps=100))

    Args:
        regime: `autoencode` or `gan`.
        encoder: `network`, `mean` or `refine`: what encodes the training set, and test images after it.
        gan: how StyleGAN is trained.
        invert: how its encoder network is.
        optimize: settings of Algorithm 2.
        features: whether Algorithm 2 compares images by the features of StyleGAN's discriminator, too.
    """

    regime: str = "autoencode"
    encoder: str = "network"
    gan: GanOptions = field(default_factory=GanOptions)
    invert: InvertOptions = field(default_factory=InvertOptions)
    optimize: OptimizeOptions = field(default_factory=OptimizeOptions)
    features: bool = False

    @property
    def folder_tags(self) -> tuple[str, str]:
        """What tells it from the default in the names of folders: regime, encoder; empty where they are the default."""
        default = Origin()
        encoder = "" if self.encoder == default.encoder else self.encoder
        return "" if self.regime == default.regime else self.regime, f"{encoder}{'-features' if self.features else ''}"

    def network(self, images: ImageSet, fit: FitOptions) -> NetworkConfig:
        """The generator's shape for such images."""
        if self.regime == "gan":
            return gan_config(images, self.gan.gan_channels)
        return style_config(images, fit)

    def fitting(self, fit: FitOptions) -> dict[str, Any]:
        """The fields of `FitConfig` that matter: settings of the other regime are no part of what is made."""
        if self.regime == "gan":
            return {"regime": self.regime, "gan": self.gan, "invert": self.invert}
        return {"fit": fit}

    def encoding(self, fitted: Path) -> dict[str, Any]:
        """The fields of `EncodeConfig` that matter, for a generator's folder; a network has no settings."""
        if self.encoder == "network":
            return {}
        features = {"features": str(fitted)} if self.features else {}
        return {"encoder": self.encoder, "optimize": self.optimize, "shard_size": SHARD_SIZE, **features}
