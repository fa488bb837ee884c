"""The doctor's measurements and verdicts, on a generator whose truth is known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from advmix.data.images import ImageSet, to_bytes
from advmix.doctor import checks as diagnose
from advmix.doctor.checks import Finding, Verdict
from advmix.doctor.measure import (
    Found,
    Moves,
    Nested,
    Pool,
    compare_searches,
    describe_pool,
    leakage,
    moves,
    readable,
    survival,
    swap_changes,
)
from advmix.doctor.run import doctor_table
from advmix.generators.base import Generator, State
from advmix.inspect.scores import other_label
from advmix.intervals import Interval
from advmix.latents import Latents, Split
from advmix.metrics import unexplained
from advmix.utils.torch_tools import generator as seeded
from tiny import make_generator

FINE, WRONG = Split(2, (1,)), Split(2, (0,))


class Painter(Generator):
    """The true generator of coloured digits: layer 0 holds the 64 pixels of the shape, layer 1 the colour."""

    resolution, channels, layers = 8, 3, 2

    def prefix(self, latents: Latents, split: Split) -> State:
        return State(latents.styles, latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        styles = state.split.with_perp(state.latents, perp).styles
        return styles[:, 0].view(-1, 1, 8, 8) * styles[:, 1, :3, None, None] * 2 - 1


class ShapeReader(nn.Module):
    """The nearest of the known shapes, whatever the colour: right on all of them."""

    def __init__(self, shapes: Tensor, labels: Tensor) -> None:
        super().__init__()
        self.shapes, self.labels = nn.functional.normalize(shapes), labels

    def forward(self, images: Tensor) -> Tensor:
        shapes = nn.functional.normalize(images.amax(dim=1).flatten(1))
        return nn.functional.one_hot(self.labels[(shapes @ self.shapes.T).argmax(dim=1)], 10).double()


@pytest.fixture(scope="module")
def digits() -> tuple[Latents, Tensor]:
    """Codes of 300 real digits, each class in a colour of its own."""
    raw = load_digits()
    shapes, labels = torch.tensor(raw.data[:300]) / 16, torch.tensor(raw.target[:300])
    colors = torch.rand(10, 64, generator=seeded(0), dtype=torch.float64) * 0.6 + 0.4
    noise = 0.02 * torch.randn(300, 64, generator=seeded(1), dtype=torch.float64)
    return Latents(torch.stack([shapes, colors[labels] + noise], dim=1)), labels


def picture(dec: Generator, latents: Latents, labels: Tensor) -> ImageSet:
    return ImageSet(to_bytes(dec(latents)), labels, tuple("0123456789"))


def donors(labels: Tensor, count: int = 2) -> Tensor:
    return torch.stack([other_label(labels, labels, seeded(number)) for number in range(count)])


def test_a_generator_that_draws_everything_misses_nothing(digits: tuple[Latents, Tensor]) -> None:
    dec, (latents, labels) = Painter(), digits
    images = picture(dec, latents, labels)
    missed = unexplained(dec, latents, images)
    assert missed is not None
    assert missed < 1e-3
    assert diagnose.encoding(missed, missed, 300).verdict == "ok"
    mean = images.batch(slice(None))[0].double().mean(dim=0)

    class Mean(Painter):
        def forward(self, latents: Latents) -> Tensor:
            return mean.expand(len(latents), -1, -1, -1)

    assert unexplained(Mean(), latents, images) == pytest.approx(1)
    assert unexplained(dec, latents[:1], images[:1]) is None
    assert diagnose.encoding(None, None, 1).verdict == "not known"


def test_an_unfitted_generator_is_bad(digits: tuple[Latents, Tensor]) -> None:
    dec, labels = make_generator(), digits[1]
    codes = Latents(torch.randn(300, dec.layers, 4, generator=seeded(2), dtype=torch.float64))
    missed = unexplained(dec, codes, picture(Painter(), *digits))
    found = diagnose.encoding(missed, missed, len(labels))
    assert found.verdict == "bad"
    assert "--fit-steps" in found.remedy


def test_what_is_learnt_by_heart_gets_another_remedy() -> None:
    assert "more images" in diagnose.encoding(0.02, 0.2, 300).remedy
    assert "longer" in diagnose.encoding(0.15, 0.2, 300).remedy


def test_swaps_change_what_the_split_says(digits: tuple[Latents, Tensor]) -> None:
    dec, (latents, labels) = Painter(), digits
    lent = latents[donors(labels)[0]]
    found = moves(dec, latents, lent, FINE)
    literal = (dec(FINE.combine(latents, lent)) - dec(latents)).abs().mean()
    assert found.perp == pytest.approx(float(literal))
    assert found.everything == pytest.approx(float((dec(lent) - dec(latents)).abs().mean()))
    assert diagnose.split(found).verdict == "ok"
    assert swap_changes(dec, latents, latents, [FINE]) == [0]
    assert diagnose.split(moves(dec, latents, latents, FINE)).verdict == "bad"
    assert diagnose.split(Moves(perp=0.01, everything=0.15)).verdict == "doubtful"


def asked(digits: tuple[Latents, Tensor], split: Split) -> Finding:
    latents, labels = digits
    reference = ShapeReader(latents.styles[:, 0], labels)
    found = survival(reference, Painter(), split, latents, labels, latents, donors(labels))
    return diagnose.survival(found.share(), int(found.right.sum()), train=1.0, test=1.0)


def test_the_right_split_keeps_the_label_and_the_wrong_one_does_not(digits: tuple[Latents, Tensor]) -> None:
    right, wrong = asked(digits, FINE), asked(digits, WRONG)
    assert (right.verdict, wrong.verdict) == ("ok", "bad")
    assert right.numbers["kept"]["value"] == 1
    assert wrong.numbers["kept"]["value"] == 0
    assert "advmix inspect" in wrong.remedy


def test_what_goes_with_the_label_is_told_from_what_carries_it(digits: tuple[Latents, Tensor]) -> None:
    """Colour tells the class here, by the bias of the images; shape does, because it is the label."""
    latents, labels = digits
    color, layers = leakage(latents, labels, FINE)
    assert color is not None
    assert color > 0.9
    assert layers["1"] == color
    assert diagnose.leakage(color, layers, asked(digits, FINE).verdict).verdict == "ok"
    assert diagnose.leakage(color, layers, "not known").verdict == "doubtful"
    assert "(by layer: 0 " in diagnose.leakage(color, layers, "not known").why
    shape, _ = leakage(latents, labels, WRONG)
    assert diagnose.leakage(shape, layers, asked(digits, WRONG).verdict).verdict == "bad"
    shuffled = labels[torch.randperm(300, generator=seeded(3))]
    nothing, _ = leakage(latents, shuffled, FINE)
    assert nothing is not None
    assert abs(nothing) < 0.15
    assert diagnose.leakage(nothing, {}, "not known").verdict == "ok"


def test_a_probe_needs_two_classes_with_members_enough() -> None:
    codes = torch.randn(20, 3, generator=seeded(0))
    assert readable(codes, torch.tensor([0] * 16 + [1] * 4)) is None
    assert readable(codes, torch.tensor([0] * 10 + [1] * 10)) is not None
    assert diagnose.leakage(None, {}, "ok").verdict == "not known"


def test_wide_codes_are_projected_and_still_read() -> None:
    labels = torch.arange(100) % 2
    codes = torch.randn(100, 1500, generator=seeded(0)) + labels[:, None]
    found = readable(codes, labels)
    assert found is not None
    assert found > 0.9


def test_pools_that_are_too_small_or_alike(digits: tuple[Latents, Tensor]) -> None:
    perp = FINE.perp_of(digits[0])
    good = describe_pool(perp)
    assert (good.size, good.duplicates) == (300, 0)
    assert diagnose.pool(good).verdict == "ok"
    small = diagnose.pool(describe_pool(perp[:20]))
    assert (small.verdict, "Too small" in small.remedy) == ("bad", True)
    assert diagnose.pool(describe_pool(perp[:100])).verdict == "doubtful"
    twins = describe_pool(torch.cat([perp, perp]))
    assert twins.duplicates == 1
    assert diagnose.pool(twins).verdict == "bad"
    assert describe_pool(torch.cat([perp, perp[:30]])).duplicates == pytest.approx(60 / 330)
    flat = diagnose.pool(describe_pool(perp[:1] + 1e-4 * torch.randn(300, 64, generator=seeded(4))))
    assert (flat.verdict, "No spread" in flat.remedy) == ("bad", True)


def test_an_untrustworthy_reference_is_not_believed() -> None:
    kept = Interval(0.99, 0.97, 1.0)
    assert diagnose.survival(kept, 200, train=0.99, test=0.2).verdict == "not known"
    assert diagnose.survival(kept, 10, train=0.99, test=0.98).verdict == "not known"
    assert diagnose.survival(kept, 200, train=0.99, test=0.98).verdict == "ok"
    assert diagnose.survival(Interval(0.94, 0.9, 0.96), 200, train=0.99, test=0.98).verdict == "ok"
    assert diagnose.survival(Interval(0.9, 0.85, 0.93), 200, train=0.99, test=0.98).verdict == "doubtful"
    assert diagnose.no_reference().verdict == "not known"


def nested(losses: Tensor) -> Nested:
    """A classifier that is wrong above a loss of log 2."""
    count = losses.shape[2]
    wrong = losses > torch.log(torch.tensor(2.0))
    return Nested(torch.ones(count, dtype=torch.bool), wrong, losses, torch.zeros(count, 3, 8, 8))


def test_searches_of_every_size_are_read_off_one() -> None:
    losses = torch.rand(5, 6, 40, generator=seeded(0)) * 0.75  # 2 x 2 steps, 2 x 3 restarts
    found, wrong = compare_searches(nested(losses), restarts=3, steps=2), losses > torch.log(torch.tensor(2.0))
    assert found.right == pytest.approx(float((~wrong[:3, :3].any(0).any(0)).double().mean()))
    assert found.right_restarts == pytest.approx(float((~wrong[:3].any(0).any(0)).double().mean()))
    assert found.right_steps == pytest.approx(float((~wrong[:, :3].any(0).any(0)).double().mean()))
    assert found.right_largest == pytest.approx(float((~wrong.any(0).any(0)).double().mean()))
    assert found.loss_random == pytest.approx(float(losses[0, 0].mean()))
    assert found.loss_climb == pytest.approx(float(losses[:3, 0].amax(0).mean()))
    assert found.loss_random_many == pytest.approx(float(losses[0, :3].amax(0).mean()))


FOUND = Found(60, 5, 5, 0.6, 0.6, 0.6, 0.6, loss_random=0.2, loss_random_many=0.4, loss_climb=0.5)


@pytest.mark.parametrize(
    ("changes", "saturation", "gradient"),
    [
        ({}, "ok", "ok"),
        ({"right_restarts": 0.57}, "doubtful", "ok"),
        ({"right_steps": 0.5}, "bad", "ok"),
        ({"right": 0.0, "right_restarts": 0.0, "right_steps": 0.0}, "ok", "ok"),
        ({"loss_climb": 0.3}, "ok", "doubtful"),
        ({"loss_climb": 0.21}, "ok", "bad"),
        ({"steps": 0}, "ok", "not known"),
    ],
)
def test_searches_that_are_too_short_or_find_nothing(
    changes: dict[str, float], saturation: Verdict, gradient: Verdict
) -> None:
    found = replace(FOUND, **changes)  # type: ignore[arg-type]
    assert diagnose.saturation(found).verdict == saturation
    assert diagnose.gradient(found).verdict == gradient


def test_a_worst_case_is_believed_only_where_generator_and_labels_hold() -> None:
    assert "is real" in diagnose.belief(0.95, "ok", "ok", 0.62, FOUND).remedy
    assert not diagnose.belief(0.62, "ok", "ok", None, FOUND).remedy
    for drawn, kept, checked, verdict, remedy in (
        ("bad", "ok", 0.62, "bad", "Settle"),
        ("ok", "bad", 0.62, "bad", "Settle"),
        ("ok", "not known", None, "not known", "Settle"),
        ("doubtful", "not known", None, "doubtful", "Settle"),
        ("ok", "ok", 0.8, "doubtful", "is real"),
        ("ok", "ok", 0.94, "doubtful", "in brackets"),
    ):
        found = diagnose.belief(0.95, drawn, kept, checked, FOUND)  # type: ignore[arg-type]
        assert found.verdict == verdict
        assert remedy in found.remedy


def test_accuracy_on_reconstructions() -> None:
    verdicts = [diagnose.reconstruction(0.9, drawn, 300).verdict for drawn in (0.95, 0.88, 0.86, 0.84)]
    assert verdicts == ["ok", "ok", "doubtful", "bad"]


def test_the_table_escapes_names_and_has_a_row_for_each() -> None:
    found = [diagnose.pool(Pool(20, 0, 1)), diagnose.gradient(FOUND).about("runs/[red]")]
    table = doctor_table(found)
    assert table.row_count == 3
    assert any("\\[red]" in str(cell) for cell in table.columns[2]._cells)
