"""One common test over all objectives: what must hold of every way to train a classifier."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.v2 import ColorJitter, RandomChannelPermutation

from advmix.classifiers.networks import conv_net
from advmix.data.colored import ColoredDigits
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.style import StyleConfig
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, RandMix
from advmix.training.classify import ClassifierTrainee, TrainOptions, flipped
from advmix.training.loop import Loop
from advmix.training.objectives import Adversarial, Augment, Batch, Mixing, Mixup, Nominal, Objective, WithCopy
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from tiny import assert_same_state, interrupt_at, no_gradients, state_of

SPLIT = Split.fine(6, 2)


class Parts:
    """What the objectives are made of: data, a generator, the latents of the data."""

    def __init__(self, data: ColoredDigits) -> None:
        self.data = data
        with global_seed(0):
            self.model = Autoencoder(StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5)))
        with torch.no_grad():
            self.pool: Latents = self.model.encoder(data.train.batch(slice(None))[0])

    def batch(self) -> Batch:
        index = torch.arange(0, 64, 2)
        return Batch(*self.data.train.batch(index), index)


OBJECTIVES: dict[str, Callable[[Parts], Objective]] = {
    "nominal": lambda parts: Nominal(),
    "mixup": lambda parts: Mixup(10),
    "linf": lambda parts: Adversarial(0.1, steps=2),
    "l2": lambda parts: Adversarial(0.5, steps=2, norm="l2"),
    "randmix": lambda parts: Mixing(RandMix(parts.model.generator, SPLIT), parts.pool),
    "advmix": lambda parts: Mixing(AdvMix(parts.model.generator, SPLIT, restarts=2, steps=1), parts.pool),
    "advmix alone": lambda parts: Mixing(AdvMix(parts.model.generator, SPLIT), parts.pool, clean_weight=0),
    "randmix residual": lambda parts: Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, residual=True),
    "randmix consistent": lambda parts: Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, consistency=2),
    "jitter": lambda parts: Augment(ColorJitter(0.5, 0.5, 0.5, 0.5)),
}
ALL = pytest.mark.parametrize("name", OBJECTIVES)
LEARNS = pytest.mark.parametrize(
    "name", [name for name in OBJECTIVES if name not in ("advmix alone", "randmix consistent")]
)
"""A network that knows nothing contradicts itself nowhere: that part of the loss grows as it learns."""
COPIES = pytest.mark.parametrize("name", ["randmix", "advmix", "randmix residual", "jitter"])


@pytest.fixture
def parts(digits: ColoredDigits) -> Parts:
    return Parts(digits)


def make_network(seed: int = 0) -> nn.Sequential:
    with global_seed(seed):
        return conv_net(10, widths=(8, 16))


def make_trainee(name: str, parts: Parts, epochs: int, seed: int = 0) -> ClassifierTrainee:
    options = TrainOptions(epochs=epochs, batch=32, lr=1e-2)
    objective = OBJECTIVES[name](parts)
    return ClassifierTrainee(make_network(), objective, parts.data.train, options, seed, make_fabric("cpu"))


def train(name: str, parts: Parts, folder: Path | None = None, epochs: int = 2, seed: int = 0) -> dict[str, Tensor]:
    trainee = make_trainee(name, parts, epochs, seed)
    Loop("test", 3 * epochs, folder).train(trainee)
    return state_of(trainee.network)


@LEARNS
def test_loss_falls(name: str, parts: Parts) -> None:
    loop = Loop("test", 36, log_every=1)
    loop.train(make_trainee(name, parts, epochs=12))
    losses = torch.tensor([line["loss"] for line in loop.history])
    assert len(losses) == 36
    assert losses[-6:].mean() < 0.9 * losses[:6].mean()


@ALL
def test_loss_is_a_scalar_that_reaches_every_weight(name: str, parts: Parts) -> None:
    network, batch = make_network(), parts.batch()
    loss = OBJECTIVES[name](parts)(network, batch, seeded(0))
    assert loss.shape == ()
    assert loss.dtype == torch.float32
    torch.autograd.backward(loss)
    assert all(parameter.grad is not None for parameter in network.parameters())


@ALL
def test_batch_is_left_as_it_was(name: str, parts: Parts) -> None:
    batch, expected = parts.batch(), parts.batch()
    torch.autograd.backward(OBJECTIVES[name](parts)(make_network(), batch, seeded(0)))
    assert torch.equal(batch.images, expected.images)
    assert torch.equal(batch.labels, expected.labels)
    assert torch.equal(batch.index, expected.index)


@ALL
def test_modes_are_restored(name: str, parts: Parts) -> None:
    network = make_network()
    parts.model.encoder.eval()
    OBJECTIVES[name](parts)(network, parts.batch(), seeded(0))
    assert all(part.training for part in network.modules())
    assert all(part.training for part in parts.model.generator.modules())


@ALL
def test_no_stray_gradients(name: str, parts: Parts) -> None:
    pool = parts.pool.styles.clone()
    before = state_of(parts.model)
    torch.autograd.backward(OBJECTIVES[name](parts)(make_network(), parts.batch(), seeded(0)))
    assert no_gradients(parts.model)
    assert parts.pool.styles.grad is None
    assert torch.equal(parts.pool.styles, pool)
    assert_same_state(parts.model.state_dict(), before)


@ALL
def test_all_randomness_is_the_generators(name: str, parts: Parts) -> None:
    objective, state = OBJECTIVES[name](parts), torch.get_rng_state()
    first, again = (objective(make_network(), parts.batch(), seeded(5)) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name in OBJECTIVES if name != "nominal"])
def test_another_generator_gives_another_loss(name: str, parts: Parts) -> None:
    first, other = (OBJECTIVES[name](parts)(make_network(), parts.batch(), seeded(seed)) for seed in (1, 2))
    assert not torch.equal(first, other)


@ALL
def test_another_seed_gives_other_weights(name: str, parts: Parts) -> None:
    first, other = train(name, parts, epochs=1), train(name, parts, epochs=1, seed=1)
    assert not torch.equal(first["0.weight"], other["0.weight"])


@ALL
def test_resumed_training_equals_one_without_a_stop(
    name: str, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(name, parts)
    trainee = make_trainee(name, parts, epochs=2)
    interrupt_at(3, trainee, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Loop("test", 6, tmp_path).train(trainee)
    assert not torch.equal(state_of(trainee.network)["0.weight"], expected["0.weight"])
    assert_same_state(train(name, parts, tmp_path), expected)


def test_every_step_has_its_own_randomness_and_every_epoch_all_images(parts: Parts) -> None:
    class Record(Nominal):
        def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            draws.append(int(torch.randint(2**60, (), generator=rng)))
            visited.append(batch.index)
            return super().__call__(classifier, batch, rng)

    draws: list[int] = []
    visited: list[Tensor] = []
    options = TrainOptions(epochs=2, batch=32)
    Loop("test", 6).train(ClassifierTrainee(make_network(), Record(), parts.data.train, options, 0, make_fabric("cpu")))
    assert len(set(draws)) == 6
    for epoch in (visited[:3], visited[3:]):
        assert torch.cat(epoch).sort().values.tolist() == list(range(96))
    assert not torch.equal(torch.cat(visited[:3]), torch.cat(visited[3:]))


def test_balanced_training_sees_every_class_alike(parts: Parts) -> None:
    class Record(Nominal):
        def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            seen.append(batch.labels)
            return super().__call__(classifier, batch, rng)

    train = parts.data.train
    uneven = replace(train, labels=torch.where(train.labels < 2, train.labels, 2), classes=("0", "1", "other"))
    shares = []
    for balance in (False, True):
        seen: list[Tensor] = []
        options = TrainOptions(epochs=1, batch=32, balance=balance)
        trainee = ClassifierTrainee(make_network(), Record(), uneven, options, 0, make_fabric("cpu"))
        Loop("test", options.steps(uneven)).train(trainee)
        shares.append(torch.cat(seen).bincount().tolist())
    assert shares[0][2] > 60
    assert shares[1] == [32, 32, 32]


def test_own_latent_is_never_mixed_in(parts: Parts) -> None:
    index, pool, generator = torch.arange(2), parts.pool[:2], parts.model.generator
    batch = Batch(*parts.data.train.batch(index), index)
    pool = Latents(pool.styles * torch.tensor([1.0, 50.0])[:, None, None])
    with torch.no_grad():
        own, swapped = generator(pool), generator(SPLIT.combine(pool, pool[index.flip(0)]))
    assert ((own - swapped).abs().flatten(1).amax(dim=1) > 0.01).all()
    for seed in range(6):
        copy = Mixing(RandMix(generator, SPLIT), pool).copy(make_network(), batch, seeded(seed))
        torch.testing.assert_close(copy, swapped)


@COPIES
def test_copy_is_a_batch_of_images(name: str, parts: Parts) -> None:
    objective, batch = OBJECTIVES[name](parts), parts.batch()
    assert isinstance(objective, WithCopy)
    copy = objective.copy(make_network(), batch, seeded(0))
    assert copy.shape == batch.images.shape
    assert copy.dtype == batch.images.dtype
    assert 0 <= copy.min() <= copy.max() <= 1
    assert not copy.requires_grad


def test_clean_weight_mixes_the_two_losses(parts: Parts) -> None:
    def loss(weight: float) -> Tensor:
        mixer = RandMix(parts.model.generator, SPLIT)
        return Mixing(mixer, parts.pool, weight)(make_network(), parts.batch(), seeded(0))

    torch.testing.assert_close(loss(0.25), 0.25 * loss(1) + 0.75 * loss(0))
    torch.testing.assert_close(loss(1), Nominal()(make_network(), parts.batch(), seeded(0)))


@pytest.mark.parametrize("weight", [-0.1, 1.1])
def test_clean_weight_outside_its_range_is_refused(parts: Parts, weight: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, weight)


def test_every_image_is_augmented_on_its_own(parts: Parts) -> None:
    batch = parts.batch()
    copy = Augment(RandomChannelPermutation()).copy(make_network(), batch, seeded(0))
    orders = [
        [order for order in itertools.permutations(range(3)) if torch.equal(image[list(order)], found)]
        for image, found in zip(batch.images, copy, strict=True)
    ]
    assert all(orders)
    assert len({found[0] for found in orders}) > 3


def test_augmented_images_are_encoded_and_others_come_from_the_pool(parts: Parts) -> None:
    objective = Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, encoder=parts.model.encoder)
    batch = parts.batch()
    mirrored = replace(batch, images=batch.images.flip(-1), augmented=True)
    assert torch.equal(objective.latents(batch).styles, parts.pool[batch.index].styles)
    torch.testing.assert_close(objective.latents(mirrored).styles, parts.model.encoder(mirrored.images).styles)
    with pytest.raises(ValueError, match="give Mixing an encoder"):
        Mixing(RandMix(parts.model.generator, SPLIT), parts.pool).latents(mirrored)


def test_images_are_encoded_where_the_pool_is_of_others(parts: Parts) -> None:
    places, batch = torch.full((len(parts.data.train),), -1), parts.batch()
    objective = Mixing(
        RandMix(parts.model.generator, SPLIT), parts.pool[:5], encoder=parts.model.encoder, places=places
    )
    torch.testing.assert_close(objective.latents(batch).styles, parts.model.encoder(batch.images).styles)
    assert objective.copy(make_network(), batch, seeded(0)).shape == batch.images.shape


def test_images_and_copies_may_be_one_batch(parts: Parts) -> None:
    """Batch normalisation then sees both, as it does in a literal pass; without it nothing changes."""
    apart, together = (
        Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, 0.25, together=joint) for joint in (False, True)
    )
    batch, network = parts.batch(), make_network()
    copy = together.copy(network, batch, seeded(0))
    logits = network(torch.cat([copy, batch.images]))
    losses = nn.functional.cross_entropy(logits, batch.labels.repeat(2), reduction="none").view(2, -1).mean(dim=1)
    torch.testing.assert_close(together(network, batch, seeded(0)), 0.75 * losses[0] + 0.25 * losses[1])
    assert not torch.isclose(apart(network, batch, seeded(0)), together(network, batch, seeded(0)))
    plain = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 10))
    torch.testing.assert_close(apart(plain, batch, seeded(0)), together(plain, batch, seeded(0)))


def test_a_residual_is_that_of_the_batch(parts: Parts) -> None:
    objective = Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, residual=True)
    batch = parts.batch()
    torch.testing.assert_close(parts.model.generator(objective.latents(batch)), batch.images)


def test_about_half_of_the_images_are_mirrored_and_the_others_are_not() -> None:
    images = torch.rand(200, 3, 4, 4)
    found = flipped(images, seeded(0))
    mirrored = (found == images.flip(-1)).flatten(1).all(1)
    assert torch.equal(found[~mirrored], images[~mirrored])
    assert 80 < int(mirrored.sum()) < 120
    assert torch.equal(found, flipped(images, seeded(0)))


def test_flip_reaches_the_objective(parts: Parts) -> None:
    class Seen(Nominal):
        def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
            self.batch = batch
            return super().__call__(classifier, batch, rng)

    objective = Seen()
    options = TrainOptions(epochs=1, batch=32, flip=True)
    trainee = ClassifierTrainee(make_network(), objective, parts.data.train, options, 0, make_fabric("cpu"))
    trainee.loss(0)
    original = parts.data.train.batch(objective.batch.index)[0]
    assert objective.batch.augmented
    assert torch.equal(objective.batch.images, flipped(original, seeded(0, "flip", 0)))
    assert not torch.equal(objective.batch.images, original)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("clean_weight", [0.0, 0.25, 1.0])
def test_consistency_is_the_divergence_from_the_answer_to_the_image(
    parts: Parts, clean_weight: float, joint: bool
) -> None:
    batch, network = parts.batch(), make_network().eval()
    mixer = RandMix(parts.model.generator, SPLIT)
    objective = Mixing(mixer, parts.pool, clean_weight, together=joint, consistency=1.5)
    found = objective(network, batch, seeded(0))
    of_copy, of_image = network(objective.copy(network, batch, seeded(0))), network(batch.images)
    expected = torch.zeros(())
    for copy, image, label in zip(of_copy.softmax(1), of_image.softmax(1), batch.labels, strict=True):
        divergence = sum(p * (p / q).log() for p, q in zip(image.detach(), copy, strict=True))
        expected += 1.5 * divergence - clean_weight * image[label].log() - (1 - clean_weight) * copy[label].log()
    torch.testing.assert_close(found, expected / len(batch.labels))
    found.backward()
    grads = [part.grad.clone() for part in network.parameters() if part.grad is not None]
    network.zero_grad()
    (expected / len(batch.labels)).backward()
    for one, other in zip(grads, [part.grad for part in network.parameters()], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_a_negative_consistency_is_refused(parts: Parts) -> None:
    with pytest.raises(ValueError, match="consistency must be at least 0, not -1"):
        Mixing(RandMix(parts.model.generator, SPLIT), parts.pool, consistency=-1)
