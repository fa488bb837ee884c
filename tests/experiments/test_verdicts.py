"""Verdicts image by image."""

from __future__ import annotations

import pytest
import torch

from advmix.data.images import ImageSet
from advmix.encoders.network import StyleEncoder
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, RandMix
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from experiments.faces.evaluate import Verdicts, verdicts
from tiny import VECTOR, make_classifier, make_generator

COUNT = 12
DEC, SPLIT, CLASSIFIER = make_generator(), Split.fine(6, 2), make_classifier().eval()


class Code(StyleEncoder):
    """In float64, as the other tiny networks are."""

    def encode_signed(self, images: torch.Tensor) -> Latents:
        return super().encode_signed(images.double())


@pytest.fixture(scope="module")
def encoder() -> Code:
    with global_seed(0):
        return Code(VECTOR).double()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(256, (COUNT, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    with torch.no_grad():
        labels = CLASSIFIER(pixels.double() / 255).argmax(1)
    labels[::3] = (labels[::3] + 1) % 3
    return ImageSet(pixels, labels, ("a", "b", "c"))


class Judge(torch.nn.Module):
    """The tiny classifier, for images in float32 too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = CLASSIFIER(images.double())
        return logits


def judged(encoder: Code, images: ImageSet, residual: bool, steps: int = 1) -> Verdicts:
    with torch.no_grad():
        pool = encoder(torch.rand(9, 3, 8, 8, generator=seeded(5)))
    search = AdvMix(DEC, SPLIT, restarts=3, steps=steps, stop_early=True)
    return verdicts(Judge(), search, encoder, images, pool, residual=residual, seed=1)


@pytest.mark.parametrize("residual", [True, False])
def test_verdicts_equal_trying_one_after_the_other(encoder: Code, images: ImageSet, residual: bool) -> None:
    found, (pixels, labels) = judged(encoder, images, residual), images.batch(slice(None))
    with torch.no_grad():
        own, pool = encoder(pixels), encoder(torch.rand(9, 3, 8, 8, generator=seeded(5)))
        assert torch.equal(found.right, Judge()(pixels).argmax(1) == labels)
        assert torch.equal(found.right_reconstruction, Judge()(DEC(own)).argmax(1) == labels)
        latents = DEC.complete(own, pixels) if residual else own
        mix = RandMix(DEC, SPLIT)(None, latents, labels, pool, rng=seeded(1, "random mix", 0))
        assert torch.equal(found.right_mixed, Judge()(mix.images).argmax(1) == labels)
    assert found.right.any()
    assert not found.right.all()


def test_worst_is_never_better_than_what_it_begins_with(encoder: Code, images: ImageSet) -> None:
    exact, drawn = judged(encoder, images, residual=True), judged(encoder, images, residual=False)
    assert not (exact.right_worst & ~exact.right).any()
    assert not (drawn.right_worst & ~drawn.right_reconstruction).any()
    assert not (judged(encoder, images, residual=True, steps=4).right_worst & ~exact.right_worst).any()
