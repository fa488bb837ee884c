"""The search as an attack, attacks of others, to foolbox and back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from advmix.attacks import (
    Attack,
    AttackOptions,
    FoolboxAttack,
    MixAttack,
    import_foolbox,
    open_attack,
    right_attacked,
    still_right,
    to_foolbox,
)
from advmix.data.images import ImageSet
from advmix.encoders.network import StyleEncoder
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Mixer, RandMix, calibrated
from advmix.utils.errors import UserError
from advmix.utils.machine import MACHINE
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from tiny import VECTOR, assert_same_state, make_classifier, make_generator, no_gradients, state_of

CPU = torch.device("cpu")
DEC, SPLIT = make_generator(), Split.fine(6, 2)
SEARCH = AdvMix(DEC, SPLIT, restarts=3, steps=2)


class Encoded(NamedTuple):
    encoder: StyleEncoder
    pool: Latents


@pytest.fixture(scope="module")
def encoder() -> StyleEncoder:
    with global_seed(0):
        return StyleEncoder(VECTOR).double()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    return torch.rand(10, 3, 8, 8, generator=seeded(0, "pixels"), dtype=torch.float64)


@pytest.fixture(scope="module")
def pool(encoder: StyleEncoder) -> Latents:
    with torch.no_grad():
        latents: Latents = encoder(torch.rand(9, 3, 8, 8, generator=seeded(1), dtype=torch.float64))
    return latents


class Judge(nn.Module):
    """The tiny classifier, for images in float32 too."""

    def __init__(self) -> None:
        super().__init__()
        self.network = make_classifier()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images.double())
        return logits


@pytest.fixture
def judge() -> Judge:
    return Judge()


def labels_of(model: nn.Module, pixels: Tensor) -> Tensor:
    with torch.no_grad():
        labels: Tensor = model.eval()(pixels).argmax(1)
    return labels


def image_set(judge: Judge, count: int = 12) -> ImageSet:
    """Most of them labelled as the classifier has it."""
    pixels = torch.randint(256, (count, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    labels = labels_of(judge, pixels / 255)
    labels[::4] = (labels[::4] + 1) % 3
    return ImageSet(pixels, labels, ("a", "b", "c"))


@pytest.mark.parametrize("residual", [True, False])
@pytest.mark.parametrize("mixer", [SEARCH, RandMix(DEC, SPLIT)], ids=repr)
def test_mix_attack_is_encode_search_decode(
    mixer: Mixer, residual: bool, encoder: StyleEncoder, pool: Latents, pixels: Tensor, judge: Judge
) -> None:
    labels = labels_of(judge, pixels)
    found = MixAttack(mixer, Encoded(encoder, pool), residual, seeded(3))(judge, pixels, labels)
    with torch.no_grad():
        own = encoder(pixels)
    own = DEC.complete(own, pixels) if residual else own
    expected = mixer(judge, own, labels, pool, loss=calibrated(judge, pixels), rng=seeded(3)).images
    assert torch.equal(found, expected)
    assert found.shape == pixels.shape
    assert 0 <= float(found.min()) <= float(found.max()) <= 1
    assert not found.requires_grad
    assert no_gradients(judge, encoder, DEC)


def test_mix_attack_restores_modes_and_refuses_other_sizes(encoder: StyleEncoder, pool: Latents, judge: Judge) -> None:
    attack, images = MixAttack(SEARCH, Encoded(encoder.train(), pool)), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    attack(judge.train(), images, torch.tensor([0, 1]))
    assert encoder.training
    assert judge.network[1].training
    with pytest.raises(ValueError, match=r"images are \(3, 16, 16\), but the generator draws \(3, 8, 8\)"):
        attack(judge, torch.rand(2, 3, 16, 16), torch.tensor([0, 1]))


@pytest.mark.parametrize("bounds", [(0, 1), (-1, 1)])
def test_any_attack_in_foolbox(bounds: tuple[int, int], judge: Judge, pixels: Tensor) -> None:
    foolbox, (low, high) = import_foolbox(), bounds
    labels, asked = labels_of(judge, pixels), []

    def negative(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        asked.append((model(x), y))
        return 1 - x

    inputs = pixels * (high - low) + low
    model = foolbox.PyTorchModel(judge, bounds=(0, 1), device="cpu").transform_bounds(bounds)
    raw, clipped, success = to_foolbox(negative)(model, inputs, labels, epsilons=[None, 0.25])
    assert torch.allclose(asked[0][0], judge(pixels))
    assert torch.equal(asked[0][1], labels)
    assert torch.allclose((raw[0] - low) / (high - low), 1 - pixels)
    assert torch.equal(clipped[0], raw[0])
    assert float((clipped[1] - inputs).abs().max()) <= 0.25 + 1e-9
    assert torch.equal(success[0], judge(1 - pixels).argmax(1) != labels)
    with pytest.raises(ValueError, match="looks for any wrong class"):
        to_foolbox(negative)(model, inputs, foolbox.criteria.TargetedMisclassification(labels), epsilons=None)


def test_the_search_reaches_foolbox_unchanged(
    encoder: StyleEncoder, pool: Latents, pixels: Tensor, judge: Judge
) -> None:
    foolbox, labels = import_foolbox(), labels_of(judge, pixels)
    model = foolbox.PyTorchModel(judge, bounds=(0, 1), device="cpu")
    attacked, _, success = to_foolbox(MixAttack(SEARCH, Encoded(encoder, pool), rng=seeded(3)))(
        model, pixels, labels, epsilons=None
    )
    assert torch.allclose(attacked, MixAttack(SEARCH, Encoded(encoder, pool), rng=seeded(3))(judge, pixels, labels))
    assert success.any()


def test_foolbox_s_pgd_stays_in_its_ball_and_fools(judge: Judge) -> None:
    images, attack = image_set(judge), open_attack(AttackOptions("foolbox:LinfPGD", '{"epsilon": 0.2, "steps": 10}'))
    assert attack is not None
    before, (x, labels) = state_of(judge), images.batch(slice(None))
    attacked = attack(judge.train(), x, labels)
    assert float((attacked - x).abs().max()) <= 0.2 + 1e-6
    assert judge.network[1].training
    assert_same_state(state_of(judge), before)
    right = right_attacked(judge, attack, images, CPU)
    assert torch.equal(right, right_attacked(judge, attack, images, CPU)), "seeded"
    assert right.sum() < (labels_of(judge, x) == labels).sum()
    assert repr(attack).startswith("FoolboxAttack(attack=LinfProjectedGradientDescentAttack(")


def test_right_attacked_counts_what_is_right_before_and_after(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    images = image_set(judge)
    x, labels = images.batch(slice(None))
    clean, negative = labels_of(judge, x) == labels, labels_of(judge, 1 - x) == labels
    monkeypatch.setattr("advmix.attacks.ATTACKED_TOGETHER", 5)
    assert torch.equal(right_attacked(judge, lambda model, x, y: x, images, CPU), clean)
    assert torch.equal(right_attacked(judge, lambda model, x, y: 1 - x, images, CPU), clean & negative)
    assert not torch.equal(clean, clean & negative)


def test_an_attack_is_given_as_many_images_as_memory_allows(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    """And finds the same; only one that draws at random draws something else."""
    images, seen, attack = image_set(judge), list[int](), FoolboxAttack(import_foolbox().attacks.FGSM(), 0.2)

    def counted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return attack(model, x, y)

    whole = right_attacked(judge, counted, images, CPU)
    assert max(seen) == len(images)
    seen.clear()
    monkeypatch.setattr(MACHINE, "memory", 1)
    assert torch.equal(right_attacked(judge, counted, images, CPU), whole)
    assert seen == [2, *[1] * len(images)], "two are measured"


def test_an_attack_that_calls_backward_leaves_no_gradients(judge: Judge) -> None:
    def fgsm(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        x = x.clone().requires_grad_()
        nn.functional.cross_entropy(model(x), y).backward()
        assert x.grad is not None
        return (x + 0.1 * x.grad.sign()).clamp(0, 1)

    judge.network[0].requires_grad_(False)
    x, labels = image_set(judge).batch(slice(None))
    assert still_right(judge, fgsm, x, labels, seed=0).shape == labels.shape
    assert no_gradients(judge)
    wants = {name: parameter.requires_grad for name, parameter in judge.named_parameters()}
    assert wants == {name: not name.startswith("network.0") for name in wants}


MODULE = """
import torch

def shift(model, x, y, by=0.1):
    return (x + by).clamp(0, 1)

class Shift:
    def __init__(self, by):
        self.by = by
    def __call__(self, model, x, y):
        return (x + self.by).clamp(0, 1)

def one(x):
    return x

value = 3
"""


def test_attacks_by_name_from_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, judge: Judge
) -> None:
    (tmp_path / "own_attacks.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    x, y = torch.full((1, 3, 8, 8), 0.5), torch.tensor([0])

    def tried(name: str, settings: str = "") -> float:
        attack = open_attack(AttackOptions(f"own_attacks:{name}", settings))
        assert attack is not None
        return float(attack(judge, x, y).mean())

    assert tried("shift") == pytest.approx(0.6)
    assert tried("shift", '{"by": 0.2}') == pytest.approx(0.7)
    assert tried("Shift", '{"by": 0.3}') == pytest.approx(0.8)
    for name, settings, words in (
        ("Shift", "", "missing 1 required positional argument: 'by'"),
        ("shift", '{"far": 1}', "unexpected keyword argument 'far'"),
        ("one", "", "too many positional arguments"),
        ("value", "", "own_attacks has no callable value"),
        ("nothing", "", "own_attacks has no callable nothing"),
    ):
        with pytest.raises(UserError, match=words):
            tried(name, settings)
    assert open_attack(AttackOptions()) is None


@pytest.mark.parametrize(
    ("attack", "settings", "words"),
    [
        ("shift", "", "--attack shift: write foolbox:NAME or package.module:name"),
        (None, "{}", "goes together with --attack"),
        ("foolbox:LinfPGD", "", "needs its radius, --attack-args"),
        ("foolbox:LinfPGD", '{"epsilon": "wide"}', "could not convert string to float"),
        ("foolbox:LinfPGD", '{"epsilon": 0.1, "stops": 3}', "unexpected keyword argument 'stops'"),
        ("foolbox:LinfPDG", "", "foolbox has no attack of this name"),
        ("foolbox:LinfPGD", "{", "not JSON"),
        ("foolbox:LinfPGD", "[1]", "must be a JSON object"),
        ("no_such_package.attacks:pgd", "", "No module named 'no_such_package'"),
    ],
)
def test_what_cannot_be_an_attack_is_refused(attack: str | None, settings: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_attack(AttackOptions(attack, settings))


@pytest.mark.parametrize(
    ("attack", "words"),
    [
        (lambda model, x, y: x[:1], "returns"),
        (lambda model, x, y: x * 255, "returns pixels from 0 to 254; they must stay in"),
        (lambda model, x, y: x / 0, "returns pixels from nan"),
        (lambda model, x, y: None, "returns a NoneType, not a tensor"),
    ],
)
def test_what_is_no_image_is_refused(attack: Attack, words: str, judge: Judge) -> None:
    with pytest.raises(UserError, match=words):
        right_attacked(judge, attack, image_set(judge), CPU)


def test_what_an_attack_raises_is_one_line(judge: Judge) -> None:
    def picky(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        raise ValueError("wants eleven\nand says more")

    with pytest.raises(UserError, match=r"--attack .*picky.*: raised ValueError: wants eleven \(.*line") as caught:
        right_attacked(judge, picky, image_set(judge), CPU)
    assert "\n" not in str(caught.value)


def test_a_smallest_change_needs_no_radius() -> None:
    attack = open_attack(AttackOptions("foolbox:LinfDeepFoolAttack"))
    assert isinstance(attack, FoolboxAttack)
    assert attack.epsilon is None
