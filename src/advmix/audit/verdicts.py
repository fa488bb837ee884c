"""What becomes of a classifier's answers: on images as they are, as the generator draws them, mixed at random, and
under the search.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from advmix.answers import answers
from advmix.audit.evaluate import predict, worst_case
from advmix.data import ImageSet, slices
from advmix.encoders import Encoder, encoded
from advmix.latents import Latents
from advmix.mixing import AdvMix, RandMix
from advmix.modes import evaluating
from advmix.seeds import generator

BATCH = 250


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Whether each of N images is classified rightly, `(N,)` booleans on the CPU.

    Attributes:
        right: as it is.
        right_reconstruction: encoded and decoded: what is lost here is the generator's fault.
        right_mixed: with the z⊥ of one other image, drawn at random.
        right_worst: on itself as it goes into the search, and on every candidate of the search.
    """

    right: Tensor
    right_reconstruction: Tensor
    right_mixed: Tensor
    right_worst: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return dict(vars(self))


def verdicts(
    classifier: nn.Module,
    search: AdvMix,
    encoder: Encoder,
    images: ImageSet,
    pool: Latents,
    *,
    residual: bool = True,
    seed: int = 0,
    title: str = "worst case",
) -> Verdicts:
    """Try a classifier on every image.

    Args:
        classifier: images in [0, 1] to logits.
        search: the search, with the generator; all networks and `pool` are on one device.
        encoder: of the images.
        images: none of which is in the pool.
        pool: whose `z⊥` are borrowed.
        residual: whether mixes keep what the generator cannot draw of an image.
        seed: of the donors; the same ones for every classifier.
        title: of the progress bar.
    """
    device, dec = pool.styles.device, search.generator
    reconstructed = latents = encoded(images, encoder)
    labels = images.labels.to(device)
    if residual:
        pixels = images.batch(slice(None))[0].to(device)
        latents = Latents.cat([dec.complete(latents[part], pixels[part]) for part in slices(len(images), BATCH)])
    found = worst_case(classifier, search, latents, labels, pool, seed=seed, title=title)
    plain, mixed, mixer = [], [], RandMix(dec, search.split)
    for part in slices(len(images), BATCH):
        rng = generator(seed, "random mix", part.start)
        mix = mixer(classifier, latents[part], labels[part], pool, rng=rng)
        assert mix.fooled is not None
        mixed.append(~mix.fooled)
        with torch.no_grad(), evaluating(classifier, dec) as (model, decoder):
            plain.append(answers(model(decoder(reconstructed[part]))) == labels[part])
    right = answers(predict(classifier, images, device)) == images.labels
    return Verdicts(right, torch.cat(plain).cpu(), torch.cat(mixed).cpu(), found.right)
