"""`advmix fit --regime invert`: an encoder network for a generator that is finished, an imported one for example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advmix.config import to_dict
from advmix.data import ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.errors import UserError
from advmix.generators import MappedGenerator
from advmix.training.invert import InvertOptions, InvertTrainee
from advmix.training.loop import Loop

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True, eq=False)
class Finished:
    """A generator that an encoder is wanted for, and what its file says of it."""

    dec: MappedGenerator
    metadata: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> Finished:
        """The generator of an `import` folder, or of a GAN's `fit`.

        Raises:
            UserError: one that makes nothing up, so that there is nothing to learn from.
        """
        model, metadata = load_autoencoder(folder)
        if not isinstance(model.generator, MappedGenerator):
            raise UserError(f"--generator {folder}: trained together with its encoder; this is for GANs and imports")
        return cls(model.generator, metadata)

    def train(self, images: ImageSet, options: InvertOptions, seed: int, fabric: Fabric, loop: Loop) -> Autoencoder:
        """The generator with an encoder network."""
        trainee = InvertTrainee(self.dec.to(fabric.device), images, options, seed, fabric, from_mean=True)
        loop.train(trainee)
        return trainee.model

    def settings(self, options: InvertOptions) -> dict[str, Any]:
        """What the file says about how it was made."""
        origin = {"imported": self.metadata["imported"]} if "imported" in self.metadata else {}
        return {"regime": "invert", "invert": to_dict(options), **origin}
