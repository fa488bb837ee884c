"""Training on mixes that a classifier must recognise: what the term is, and whom it reaches."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.latents import Latents
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.loop import Loop
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed
from experiments.faces.survival_loss import SurvivalTrainee, survival_error
from test_autoencode import photographs
from tiny import assert_same_state, no_gradients, state_of

STEPS = 6
KINDS = pytest.mark.parametrize(("grid", "perp"), [(0, [4, 5]), (4, [0, 1, 2, 3, 4, 5])], ids=["styles", "grid"])


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return photographs(side=16)


def make_reference() -> nn.Sequential:
    """In train mode; its batch normalisation has seen a few images."""
    with global_seed(0):
        network = conv_net(2, widths=(4, 4))
        network(torch.rand(8, 3, 16, 16))
    return network


def fit_options(grid: int = 0) -> FitOptions:
    return FitOptions(fit_steps=STEPS, fit_batch=6, grid_channels=grid, l1_weight=0.5)


def make_trainee(photos: ImageSet, grid: int = 0) -> SurvivalTrainee:
    return SurvivalTrainee(photos, fit_options(grid), 0, make_fabric("cpu"), 0.7, make_reference())


def crossed(latents: Latents, perp: list[int]) -> Latents:
    """One image at a time, one layer at a time."""
    rows = []
    for image in range(len(latents)):
        row = latents.styles[image].clone()
        for layer in perp:
            row[layer] = latents.styles[image - 1, layer]
        rows.append(row)
    return Latents(torch.stack(rows), latents.grid)


@KINDS
def test_loss_is_the_sum_of_its_terms(
    photos: ImageSet, grid: int, perp: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    trainee = make_trainee(photos, grid)
    index, images, seed = trainee.batch(0)
    signed = images.double()
    model, reference = trainee.model.double(), trainee.reference.double()
    monkeypatch.setattr(trainee, "batch", lambda step: (index, signed, seed))
    with torch.no_grad():
        found = trainee.loss(0)
        latents, size = model.encode_noisy(signed, *model.draw_noise(signed, 0.1, seed))
        gap = model.generator.decode_signed(latents) - signed
        mixes = model.generator.decode_signed(crossed(latents, perp))
        shown = ((mixes + 1) / 2).clamp(0, 1)
        probabilities = torch.stack([reference(image[None])[0].softmax(0) for image in shown])
    survival = torch.stack([-row[photos.labels[place]].log() for row, place in zip(probabilities, index, strict=True)])
    expected = gap.square().mean() + 0.5 * gap.abs().mean() + 1e-3 * size + 0.7 * survival.mean()
    torch.testing.assert_close(found, expected)


def test_survival_is_the_cross_entropy_of_what_leaves_the_generator() -> None:
    reference = make_reference().eval().double()
    mixes = torch.randn(5, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1])
    losses = []
    for mix, label in zip(mixes, labels, strict=True):
        logits = reference(torch.where(mix < -1, 0, torch.where(mix > 1, 1, (mix + 1) / 2))[None])[0]
        losses.append(logits.exp().sum().log() - logits[label])
    torch.testing.assert_close(survival_error(reference, mixes, labels), torch.stack(losses).mean())


def test_the_term_teaches_the_autoencoder_and_nobody_else(photos: ImageSet) -> None:
    plain = AutoencoderTrainee(photos, fit_options(), 0, make_fabric("cpu"))
    trainee = make_trainee(photos)
    for one in (plain, trainee):
        one.loss(0).backward()
    assert not torch.equal(gradient_of(trainee), gradient_of(plain))
    assert no_gradients(trainee.reference)


def gradient_of(trainee: AutoencoderTrainee) -> Tensor:
    gradient = trainee.model.get_parameter("generator.to_image.weight").grad
    assert isinstance(gradient, Tensor)
    return gradient


def test_the_reference_is_left_alone(photos: ImageSet) -> None:
    trainee = make_trainee(photos)
    before = state_of(trainee.reference)
    Loop("test", 2).train(trainee)
    assert_same_state(state_of(trainee.reference), before)
    assert not any(module.training for module in trainee.reference.modules())
    assert not any(parameter.requires_grad for parameter in trainee.reference.parameters())


def test_the_weight_makes_labels_survive(photos: ImageSet) -> None:
    """A reference that tells the two photographs apart recognises more of the mixes of a generator that was told to."""
    with global_seed(0):
        reference = conv_net(2, widths=(8, 8))
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-2)
    images, labels = photos.batch(slice(None))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(images), labels).backward()
        optimizer.step()
    errors = []
    for weight in (0.0, 1.0):
        options = FitOptions(fit_steps=25, fit_batch=8, grid_channels=4)
        trainee = SurvivalTrainee(photos, options, 0, make_fabric("cpu"), weight, reference)
        Loop("test", 25).train(trainee)
        shuffled = torch.randperm(len(photos), generator=generator(0, "tests"))
        with torch.no_grad():
            latents = trainee.model.encoder(images)[shuffled]
            decoded = trainee.model.generator.decode_signed(trainee.mixed(latents))
            errors.append(float(survival_error(reference.eval(), decoded, labels[shuffled])))
    assert errors[1] < 0.5 * errors[0]


def test_a_mix_takes_two_images(photos: ImageSet) -> None:
    with pytest.raises(UserError, match="--fit-batch 1: a mix takes two images"):
        SurvivalTrainee(photos, FitOptions(fit_batch=1), 0, make_fabric("cpu"), 0.1, make_reference())
