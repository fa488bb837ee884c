"""The rivals: against literal references, image by image, and what must hold of every way to train."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Beta, Dirichlet
from torch.nn import functional as F
from torchvision.transforms import v2

from advmix.classifiers.networks import conv_net
from advmix.data.colored import ColoredDigits
from advmix.data.images import to_bytes, to_float
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Batch, Objective, WithCopy
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import draw_seed, global_seed
from advmix.utils.torch_tools import generator as seeded
from experiments.shifts.rivals import (
    AugMixConsistency,
    DonorMixing,
    EachAugMix,
    FourierMixing,
    HistogramMatching,
    RandConv,
    TrivialAugment,
    jensen_shannon,
)
from experiments.shifts.style_layers import DSU, MixStyle, Seeded, with_style_layers

Make = Callable[[ColoredDigits], Objective]

RIVALS: dict[str, Make] = {
    "augmix": lambda digits: AugMixConsistency(),
    "trivial": lambda digits: TrivialAugment(),
    "randconv": lambda digits: RandConv(),
    "randconv image": lambda digits: RandConv(mix=False, clean_share=0.5, weight=5),
    "mixstyle": lambda digits: Seeded(),
    "dsu": lambda digits: Seeded(),
    "fourier": lambda digits: FourierMixing(digits.test.pixels),
    "fourier all": lambda digits: FourierMixing(digits.test.pixels, beta=0.5, interpolate=True),
    "histogram": lambda digits: HistogramMatching(digits.test.pixels),
}
LAYERS = {"mixstyle": MixStyle, "dsu": DSU}
ALL = pytest.mark.parametrize("name", RIVALS)


def make_network(name: str = "", widths: tuple[int, ...] = (8, 16, 16)) -> nn.Module:
    with global_seed(0):
        network = conv_net(10, widths=widths)
    return with_style_layers(network, LAYERS[name]) if name in LAYERS else network


def make_batch(digits: ColoredDigits) -> Batch:
    index = torch.arange(0, 64, 2)
    return Batch(*digits.train.batch(index), index)


@ALL
def test_loss_falls(name: str, digits: ColoredDigits) -> None:
    epochs = 7 if name == "augmix" else 12  # it takes the longest
    objective, loop = RIVALS[name](digits), Loop("test", 3 * epochs, log_every=1)
    options = TrainOptions(epochs=epochs, batch=32, lr=1e-2)
    loop.train(ClassifierTrainee(make_network(name), objective, digits.train, options, 0, make_fabric("cpu")))
    losses = torch.tensor([line["loss"] for line in loop.history])
    assert losses[-6:].mean() < 0.9 * losses[:6].mean()


@ALL
@pytest.mark.parametrize("low", [False, True], ids=["float32", "bfloat16"])
def test_loss_reaches_the_weights_alone_and_leaves_the_batch(name: str, low: bool, digits: ColoredDigits) -> None:
    network, batch, expected = make_network(name), make_batch(digits), make_batch(digits)
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = RIVALS[name](digits)(network, batch, seeded(0))
    assert loss.shape == ()
    assert loss.isfinite()
    torch.autograd.backward(loss)
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert all(part.training for part in network.modules())
    assert torch.equal(batch.images, expected.images)
    assert torch.equal(batch.labels, expected.labels)
    assert batch.images.grad is None


@ALL
def test_low_precision_changes_little(name: str, digits: ColoredDigits) -> None:
    objective, batch = RIVALS[name](digits), make_batch(digits)
    exact = objective(make_network(name), batch, seeded(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(make_network(name), batch, seeded(2))
    torch.testing.assert_close(rough.float(), exact, rtol=0.03, atol=0.03)


@ALL
def test_all_randomness_is_the_generators(name: str, digits: ColoredDigits) -> None:
    objective, state, batch = RIVALS[name](digits), torch.get_rng_state(), make_batch(digits)
    first, again, *others = (objective(make_network(name), batch, seeded(seed)) for seed in (5, 5, 6, 7, 8))
    assert torch.equal(first, again)
    assert not all(torch.equal(first, other) for other in others)
    assert torch.equal(torch.get_rng_state(), state)


@ALL
def test_copies_are_images(name: str, digits: ColoredDigits) -> None:
    objective, batch = RIVALS[name](digits), make_batch(digits)
    if isinstance(objective, WithCopy):
        copy = objective.copy(make_network(), batch, seeded(0))
        assert copy.shape == batch.images.shape
        assert copy.dtype == torch.float32
        assert 0 <= copy.min() <= copy.max() <= 1
        assert (copy != batch.images).flatten(1).any(dim=1).sum() > 20


def test_divergence_is_the_mean_of_three_from_their_mean() -> None:
    logits = list(2 * torch.randn(3, 5, 4, generator=seeded(0), dtype=torch.float64))
    total = 0.0
    for row in range(5):
        shares = [np.exp(part[row].numpy()) / np.exp(part[row].numpy()).sum() for part in logits]
        mean = sum(shares) / 3
        total += sum((share * np.log(share / mean)).sum() for share in shares) / 3 / 5
    assert float(jensen_shannon(logits)) == pytest.approx(total, rel=1e-5)
    assert float(jensen_shannon([logits[0]] * 3)) == pytest.approx(0, abs=1e-6)


def test_chains_are_run_together_as_one_by_one(digits: ColoredDigits) -> None:
    augment = EachAugMix()
    with global_seed(0):
        chains = augment.draw(40, 16, 16)
    pixels = digits.train.pixels[:40]
    found = augment.run(pixels, chains)
    for image, chain, together in zip(pixels, chains, found, strict=True):
        alone = image
        for name, magnitude in chain:
            alone = augment._apply_image_or_video_transform(alone, name, magnitude, v2.InterpolationMode.BILINEAR, {})
        assert torch.equal(together, alone)
    assert not torch.equal(found, pixels)


def test_chains_are_torchvisions() -> None:
    augment = EachAugMix(severity=3)
    with global_seed(0):
        chains = augment.draw(3000, 32, 32)
    depths = torch.tensor([len(chain) for chain in chains]).bincount().tolist()
    assert depths[0] == 0
    assert all(900 < count < 1100 for count in depths[1:])
    found: dict[str, set[float]] = {}
    for name, magnitude in (operation for chain in chains for operation in chain):
        found.setdefault(name, set()).add(magnitude)
    assert found.keys() == v2.AugMix._AUGMENTATION_SPACE.keys()
    for name, (levels, signed) in v2.AugMix._AUGMENTATION_SPACE.items():
        three = levels(10, 32, 32)
        three = [0.0] if three is None else three[:3].tolist()
        assert found[name] == {*three, *(-level for level in three if signed)}


def test_augmented_image_is_a_mean_of_the_image_and_its_chains(digits: ColoredDigits) -> None:
    augment, pixels = EachAugMix(), digits.train.pixels[:24]
    with global_seed(3):
        found = augment(pixels)
    with global_seed(3):
        chains, share = augment.draw(72, 16, 16), Beta(1, 1).sample((24,))
        weights = Dirichlet(torch.ones(3)).sample((24,))
    for row, image in enumerate(pixels):
        mixed = torch.zeros(image.shape)
        for place in range(3):
            augmented = augment.run(image[None], [chains[3 * row + place]])[0]
            mixed += weights[row, place] * augmented
        torch.testing.assert_close(found[row], (1 - share[row]) * image + share[row] * mixed, atol=0.01, rtol=0.01)


def test_consistency_is_of_three_in_one_batch(digits: ColoredDigits) -> None:
    batch, objective, rng = make_batch(digits), AugMixConsistency(), seeded(4)
    with global_seed(draw_seed(rng)):
        copies = objective.augment(to_bytes(batch.images).repeat(2, 1, 1, 1)) / 255
    first, second = copies.chunk(2)
    assert not torch.equal(first, second)
    three = make_network()(torch.cat([batch.images, first, second])).chunk(3)
    expected = F.cross_entropy(three[0], batch.labels) + 12 * jensen_shannon(three)
    torch.testing.assert_close(objective(make_network(), batch, seeded(4)), expected)


def test_trivial_augment_is_torchvisions_for_each_image(digits: ColoredDigits) -> None:
    batch, rng = make_batch(digits), seeded(1)
    with global_seed(draw_seed(rng)):
        expected = torch.stack([v2.TrivialAugmentWide()(image) for image in digits.train.pixels[batch.index]])
    copy = TrivialAugment().copy(make_network(), batch, seeded(1))
    assert torch.equal(to_bytes(copy), expected)
    loss = TrivialAugment()(make_network(), batch, seeded(1))
    torch.testing.assert_close(loss, F.cross_entropy(make_network()(to_float(expected)), batch.labels))


def correlated(image: Tensor, kernel: Tensor) -> Tensor:
    """A convolution in loops, with zeros around the image."""
    size, reach = kernel.shape[-1], kernel.shape[-1] // 2
    _, height, width = image.shape
    out = torch.zeros_like(image)
    for channel, row, column in np.ndindex(*image.shape):
        for source, down, across in np.ndindex(len(image), size, size):
            i, j = row + down - reach, column + across - reach
            if 0 <= i < height and 0 <= j < width:
                out[channel, row, column] += kernel[channel, source, down, across] * image[source, i, j]
    return out


@pytest.mark.parametrize("mix", [True, False])
def test_random_convolution_is_the_papers(mix: bool) -> None:
    images, sizes = torch.rand(6, 3, 6, 5, generator=seeded(0)), set()
    rng = seeded(1)
    found = RandConv(sizes=(1, 3, 5), mix=mix).copy(images, seeded(1))
    for image, changed in zip(images, found, strict=True):
        torch.rand((), generator=rng)
        size = (1, 3, 5)[int(torch.randint(3, (), generator=rng))]
        kernel = torch.randn(3, 3, size, size, generator=rng) / math.sqrt(3 * size**2)
        share = float(torch.rand((), generator=rng)) if mix else 1.0
        expected = (1 - share) * image + share * (correlated(image - 0.5, kernel) + 0.5)
        torch.testing.assert_close(changed, expected)
        sizes.add(size)
    assert len(sizes) > 1


def test_a_share_of_the_images_is_not_convolved() -> None:
    images = torch.rand(200, 3, 6, 6)
    same = (RandConv(clean_share=0.25).copy(images, seeded(0)) == images).flatten(1).all(dim=1)
    assert 30 < int(same.sum()) < 70


def test_three_random_convolutions_agree(digits: ColoredDigits) -> None:
    batch, objective, network, rng = make_batch(digits), RandConv(weight=7), make_network(), seeded(3)
    loss = objective(make_network(), batch, seeded(3))
    first, *more = [network(objective.copy(batch.images, rng)) for _ in range(3)]
    expected = F.cross_entropy(first, batch.labels) + 7 * jensen_shannon([first, *more])
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("kind", [FourierMixing, HistogramMatching])
def test_donors_are_checked(kind: type[DonorMixing], digits: ColoredDigits) -> None:
    with pytest.raises(ValueError, match="uint8 images"):
        kind(torch.rand(2, 3, 16, 16))
    with pytest.raises(ValueError, match="uint8 images"):
        kind(digits.train.pixels[:0])
    with pytest.raises(ValueError, match=r"images of \(3, 16, 16\), but donors of \(3, 8, 16\)"):
        kind(digits.train.pixels[:, :, :8])(make_network(), make_batch(digits), seeded(0))


@pytest.mark.parametrize("kind", [FourierMixing, HistogramMatching])
def test_images_and_copies_may_be_one_batch(kind: type[DonorMixing], digits: ColoredDigits) -> None:
    batch, objective = make_batch(digits), kind(digits.test.pixels, clean_weight=0.25, together=True)
    copy = objective.copy(make_network(), batch, seeded(0))
    of_copy, of_image = make_network()(torch.cat([copy, batch.images])).chunk(2)
    expected = 0.75 * F.cross_entropy(of_copy, batch.labels) + 0.25 * F.cross_entropy(of_image, batch.labels)
    torch.testing.assert_close(objective(make_network(), batch, seeded(0)), expected)


def donors_of(batch: Batch, count: int, seed: int) -> tuple[Tensor, torch.Generator]:
    rng = seeded(seed)
    return torch.randint(count, (len(batch.images),), generator=rng), rng


def spectrum_swapped(image: np.ndarray, donor: np.ndarray, reach: int, share: float) -> np.ndarray:
    """One channel, in the way of the authors' code: the middle of a shifted spectrum."""
    own, lent = (np.fft.fftshift(np.fft.fft2(part)) for part in (image, donor))
    amplitude, middle = np.abs(own), [side // 2 for side in image.shape]
    low = tuple(slice(max(0, at - reach), at + reach + 1) for at in middle)
    amplitude[low] = share * np.abs(lent)[low] + (1 - share) * amplitude[low]
    return np.real(np.fft.ifft2(np.fft.ifftshift(amplitude * np.exp(1j * np.angle(own))))).clip(0, 1)


@pytest.mark.parametrize(("beta", "reach"), [(0.0, 0), (0.09, 1), (0.2, 3), (0.5, 8)])
@pytest.mark.parametrize("interpolate", [True, False])
def test_amplitudes_are_the_donors(beta: float, reach: int, interpolate: bool) -> None:
    pixels = torch.randint(256, (14, 3, 16, 20), dtype=torch.uint8, generator=seeded(0))
    lent = torch.randint(256, (5, 3, 16, 20), dtype=torch.uint8, generator=seeded(1))
    batch = Batch(to_float(pixels), torch.zeros(14, dtype=torch.int64), torch.arange(14))
    found = FourierMixing(lent, beta, interpolate).copy(make_network(), batch, seeded(2))
    donors, rng = donors_of(batch, 5, 2)
    shares = torch.rand(14, generator=rng).tolist() if interpolate else [1.0] * 14
    for row, (donor, share) in enumerate(zip(donors.tolist(), shares, strict=True)):
        for channel in range(3):
            one, other = batch.images[row, channel].numpy(), lent[donor, channel].numpy() / 255
            expected = torch.from_numpy(spectrum_swapped(one, other, reach, share)).float()
            torch.testing.assert_close(found[row, channel], expected, atol=1e-4, rtol=0)


def test_beta_out_of_range_is_refused(digits: ColoredDigits) -> None:
    with pytest.raises(ValueError, match="beta"):
        FourierMixing(digits.train.pixels, beta=0.6)


@pytest.mark.parametrize("values", [256, 6, 1])
def test_histogram_is_the_donors(values: int) -> None:
    pixels = torch.randint(values, (9, 3, 8, 6), dtype=torch.uint8, generator=seeded(0))
    lent = torch.randint(256, (4, 3, 8, 6), dtype=torch.uint8, generator=seeded(1))
    batch = Batch(to_float(pixels), torch.zeros(9, dtype=torch.int64), torch.arange(9))
    found = HistogramMatching(lent).copy(make_network(), batch, seeded(2))
    donors, _ = donors_of(batch, 4, 2)
    for row, donor in enumerate(donors.tolist()):
        for channel in range(3):
            own, other = pixels[row, channel].flatten().tolist(), sorted(lent[donor, channel].flatten().tolist())
            ranked = sorted(own)
            for place, value in enumerate(own):
                ranks = [rank for rank, one in enumerate(ranked) if one == value]
                expected = sum(other[rank] for rank in ranks) / len(ranks) / 255
                assert float(found[row, channel].flatten()[place]) == pytest.approx(expected, abs=1e-6)


def test_histogram_is_exact_where_no_pixels_are_equal() -> None:
    pixels = torch.stack([torch.randperm(256, generator=seeded(row))[:192] for row in range(6)]).to(torch.uint8)
    lent = torch.randint(256, (1, 1, 16, 12), dtype=torch.uint8, generator=seeded(9))
    batch = Batch(to_float(pixels.view(6, 1, 16, 12)), torch.zeros(6, dtype=torch.int64), torch.arange(6))
    found = to_bytes(HistogramMatching(lent).copy(make_network(), batch, seeded(0)))
    assert torch.equal(found.flatten(1).sort(dim=1).values, lent.flatten(1).sort(dim=1).values.expand(6, -1))
