from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.linear_light import channel_gains, from_linear, light_terms, to_linear
from advmix.named_changes import (
    CHANGE_BATCH,
    NAMED_CHANGES,
    _strength_of_few,
    changed_example,
    changes_for,
    flips_at,
    measure_changes,
    unanswered_words,
)
from advmix.utils.torch_tools import generator
from pictures import scenes

PLACE = ("shift", "rotation", "nearer", "farther", "crop")


class Threshold(nn.Module):
    """Says 1 of images brighter than a half, in the mean."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(mean), 50 * (mean - 0.5)], dim=1)


def test_linear_light_is_that_of_the_standard() -> None:
    pixels = torch.linspace(0, 1, 1001, dtype=torch.float64)
    literal = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in pixels.tolist()]
    assert torch.allclose(to_linear(pixels), torch.tensor(literal, dtype=torch.float64))
    assert torch.allclose(from_linear(to_linear(pixels)), pixels, atol=1e-6)


def test_gains_are_undone_by_their_terms_and_keep_the_luminance_of_grey() -> None:
    terms = torch.tensor([[0.0, 0.0, 0.0], [-0.8, 1.5, 0.2], [2.0, -3.0, -0.7]], dtype=torch.float64)
    gains = channel_gains(*terms.unbind(1))
    assert torch.allclose(torch.stack(light_terms(gains), dim=1), terms)
    assert torch.allclose(gains @ torch.tensor([0.2126, 0.7152, 0.0722], dtype=torch.float64), 2 ** terms[:, 0])


def test_a_light_bulb_is_three_stops_warmer_than_daylight() -> None:
    """Illuminant A of CIE 15 in linear sRGB, whose white is D65."""
    matrix = [[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]]
    lamp = torch.tensor(matrix) @ torch.tensor([1.0985, 1.0, 0.3558])
    assert float(light_terms(lamp)[1]) == pytest.approx(3.0, abs=0.05)


@pytest.mark.parametrize("name", NAMED_CHANGES)
def test_a_change_grows_with_its_strength_and_stays_an_image(name: str) -> None:
    change, images = NAMED_CHANGES[name], scenes(4, channels=3, size=64)
    differences = []
    for strength in change.strengths:
        changed = change(images, strength)
        assert changed.shape == images.shape
        assert 0 <= changed.min() <= changed.max() <= 1
        differences.append(float((changed - images).square().mean()))
    assert differences[0] > 0
    assert name in PLACE or differences == sorted(differences)
    sizes = [change.size(strength) for strength in change.strengths]
    assert sizes == sorted(sizes)
    assert [change.at(size) for size in sizes] == pytest.approx(list(change.strengths))


@pytest.mark.parametrize("name", [name for name in NAMED_CHANGES if name not in ("mirror", "JPEG", "blur")])
def test_the_neutral_strength_changes_nothing(name: str) -> None:
    change, images = NAMED_CHANGES[name], scenes(4, channels=3)
    assert torch.allclose(change(images, change.neutral), images, atol=1e-5)


def test_grey_images_have_no_changes_of_colour() -> None:
    images = scenes(3, channels=1)
    names = [change.name for change in changes_for(1)]
    assert "darker" in names
    assert not {"greyer", "more colourful", "hue", "warmer", "bluer", "greener", "pinker"} & set(names)
    assert all(change(images, change.strengths[0]).shape == images.shape for change in changes_for(1))


def test_light_and_colour_are_what_they_are_called() -> None:
    images = scenes(6, channels=3)
    light = to_linear(images)
    assert torch.allclose(to_linear(NAMED_CHANGES["darker"](images, 1)), light / 2, atol=1e-5)
    ratio = to_linear(NAMED_CHANGES["warmer"](images, 1)) / light
    assert torch.allclose(ratio[:, 0] / ratio[:, 2], torch.full_like(ratio[:, 0], 2), rtol=1e-3)
    greener = to_linear(NAMED_CHANGES["greener"](images, 0.5)) / light
    assert torch.allclose(greener[:, 1] / (greener[:, 0] * greener[:, 2]).sqrt(), torch.tensor(2**0.5), rtol=1e-3)
    grey = NAMED_CHANGES["greyer"](images, 0)
    assert torch.allclose(grey[:, 0], grey[:, 2], atol=1e-6)


def test_directions_are_those_of_the_seed_at_every_strength() -> None:
    images, shift = scenes(40, channels=3), NAMED_CHANGES["shift"]
    assert torch.equal(shift(images, 12, seed=3), shift(images, 12, seed=3))
    assert not torch.equal(shift(images, 12, seed=3), shift(images, 12, seed=4))
    assert not torch.equal(shift(images, 12, seed=3, start=0), shift(images, 12, seed=3, start=100))


def test_a_shift_continues_the_edge() -> None:
    """Of an image of four columns by a quarter: each column moves by one, and the one at the edge stays as well."""
    columns = torch.tensor([0.1, 0.3, 0.6, 1.0]).expand(12, 1, 4, 4)
    expected = {
        "left": torch.tensor([0.3, 0.6, 1.0, 1.0]).expand(1, 4, 4),
        "right": torch.tensor([0.1, 0.1, 0.3, 0.6]).expand(1, 4, 4),
        "up or down": columns[0],
    }
    found = set()
    for image in NAMED_CHANGES["shift"](columns, 25):
        names = [name for name, wanted in expected.items() if torch.allclose(image, wanted, atol=1e-5)]
        assert len(names) == 1
        found |= set(names)
    assert found == set(expected)


def test_a_rotation_turns_about_the_centre_of_an_oblong_image() -> None:
    """A quarter turn of a square drawn in the middle of an oblong image gives the square again."""
    image = torch.zeros(8, 1, 20, 40)
    image[:, :, 6:14, 16:24] = torch.rand(8, 8, generator=generator(0, "tests"))
    turned = NAMED_CHANGES["rotation"](image, 90)
    ways = [torch.rot90(image[0, :, 6:14, 16:24], turns, dims=(1, 2)) for turns in (1, -1)]
    for one in turned:
        assert any(torch.allclose(one[:, 6:14, 16:24], way, atol=1e-4) for way in ways)


def test_farther_makes_small_and_continues_the_edge() -> None:
    image = torch.zeros(1, 1, 8, 8)
    image[:, :, 4:] = 1
    small = NAMED_CHANGES["farther"](image, 0.5)
    assert torch.equal(small[0, 0, :, 0] > 0.5, torch.tensor([False] * 4 + [True] * 4))
    assert small[0, 0, 7, 7] == 1


def literal_share(right: Tensor, wrong: Tensor) -> float:
    return sum(bool(a) and bool(b) for a, b in zip(right, wrong, strict=True)) / int(right.sum())


def test_what_a_change_costs_is_counted() -> None:
    images = (
        scenes(CHANGE_BATCH + 30, channels=3) * torch.linspace(0.4, 1.6, CHANGE_BATCH + 30)[:, None, None, None]
    ).clamp(0, 1)
    network = Threshold()
    labels = network(images).argmax(dim=1)
    labels[:10] = 1 - labels[:10]
    rows = {row["name"]: row for row in measure_changes(network, images, labels, seed=5)}
    assert set(rows) == set(NAMED_CHANGES)
    for name in ("darker", "noise", "crop"):
        row, change = rows[name], NAMED_CHANGES[name]
        assert row["images"] == len(labels)
        right = network(images).argmax(dim=1) == labels
        assert row["right"] == int(right.sum()) == len(labels) - 10
        for one in row["strengths"]:
            parts = [change(images[s : s + CHANGE_BATCH], one["strength"], 5, s) for s in (0, CHANGE_BATCH)]
            still = network(torch.cat(parts)).argmax(dim=1) == labels
            assert one["accuracy"]["value"] == float(still.double().mean())
            assert one["flips"]["value"] == literal_share(right, ~still)
            assert one["flips"]["low"] <= one["flips"]["value"] <= one["flips"]["high"]
    assert rows["mirror"]["strengths"][0]["flips"]["value"] == 0
    assert rows["mirror"]["strength_at_5_percent"] is None
    assert json.loads(json.dumps(list(rows.values()))) == list(rows.values())


def test_bytes_are_measured_as_floats_are() -> None:
    pixels = (scenes(20, channels=1) * 255).round().byte()
    labels = torch.arange(20) % 2
    assert measure_changes(Threshold(), pixels, labels) == measure_changes(Threshold(), pixels.float() / 255, labels)


def test_an_example_is_made_again() -> None:
    images = scenes(CHANGE_BATCH + 20, channels=3)
    network = Threshold()
    labels = network(images).argmax(dim=1)
    labels[:CHANGE_BATCH] = 1 - labels[:CHANGE_BATCH]  # only those of the second batch are right
    shown = 0
    for row in measure_changes(network, images, labels, seed=2):
        if row["example"] is None:
            assert all(one["flips"]["value"] == 0 for one in row["strengths"])
            continue
        place, shown = row["example"]["image"], shown + 1
        assert place >= CHANGE_BATCH
        assert int(network(images[place][None]).argmax()) == labels[place]
        assert int(network(changed_example(row, images, seed=2)[None]).argmax()) != labels[place]
    assert shown > 5


def row_of(flips: list[float], name: str = "darker", right: int = 100) -> dict[str, Any]:
    strengths = [
        {"strength": strength, "flips": {"value": value}}
        for strength, value in zip(NAMED_CHANGES[name].strengths, flips, strict=True)
    ]
    return {"name": name, "right": right, "strengths": strengths}


def test_between_strengths_flips_are_on_a_line_and_never_fall() -> None:
    row = row_of([0.0, 0.02, 0.01, 0.10, 0.08])
    found = [flips_at(row, stops) for stops in (0, 0.25, 0.375, 0.5, 1, 1.5, 2, 3, 9)]
    assert found == pytest.approx([0, 0, 0.01, 0.02, 0.02, 0.06, 0.10, 0.10, 0.10])
    assert flips_at(row_of([0.0] * 5, right=0), 1) is None


@pytest.mark.parametrize(
    ("name", "flips", "strength"),
    [
        ("darker", [0.0, 0.0, 0.0, 0.10, 0.2], 1.5),
        ("darker", [0.10, 0.1, 0.2, 0.3, 0.4], 0.125),
        ("darker", [0.0, 0.05, 0.2, 0.3, 0.4], 0.5),
        ("less contrast", [0.0, 0.10, 0.2, 0.3, 0.4], 0.7),
        ("JPEG", [0.0, 0.0, 0.0, 0.0, 0.10], 7.5),
        ("crop", [0.1, 0.1, 0.1, 0.1, 0.10], 97.5),
        ("darker", [0.0, 0.0, 0.0, 0.0, 0.049], None),
        ("mirror", [0.05], 1),
        ("mirror", [0.04], None),
    ],
)
def test_the_strength_at_which_five_percent_flip(name: str, flips: list[float], strength: float | None) -> None:
    found = _strength_of_few(row_of(flips, name))
    assert found == (None if strength is None else pytest.approx(strength))


def test_what_flips_most_easily_comes_first() -> None:
    images = scenes(60, channels=3)
    labels = Threshold()(images).argmax(dim=1)
    names = [row["name"] for row in measure_changes(Threshold(), images, labels)]
    assert names[0] in ("brighter", "gamma, brighter")  # most are a little darker than a half
    assert names.index("brighter") < names.index("shift") < names.index("mirror")


def test_nothing_right_is_no_share_of_flips() -> None:
    images = scenes(5, channels=1)
    labels = 1 - Threshold()(images).argmax(dim=1)
    for row in measure_changes(Threshold(), images, labels):
        assert row["right"] == 0
        assert row["strength_at_5_percent"] is None
        assert row["example"] is None
        assert all(one["flips"] is None for one in row["strengths"])


def test_an_answer_that_is_no_number_is_no_flip() -> None:
    images = scenes(5, channels=1)

    class Broken(Threshold):
        def forward(self, shown: Tensor) -> Tensor:
            logits: Tensor = super().forward(shown)
            return logits if torch.equal(shown, images) else logits * torch.nan

    rows = measure_changes(Broken(), images, Threshold()(images).argmax(dim=1))
    darker = next(row for row in rows if row["name"] == "darker")
    assert darker["right"] == 5
    assert darker["strengths"][0]["accuracy"]["value"] == 0
    assert darker["strengths"][0]["flips"]["value"] == 0


def test_answers_that_are_no_numbers_are_said() -> None:
    """They are not right, and no flips: without a word the classifier would seem to withstand."""

    class Blind(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            bright = images.mean(dim=(1, 2, 3))
            return torch.stack([torch.where(bright < 0.3, torch.nan, bright), 1 - bright - 0.5], dim=1)

    images = torch.full((6, 3, 8, 8), 0.6)
    rows = measure_changes(Blind(), images, torch.zeros(6, dtype=torch.int64))
    darker = next(row for row in rows if row["name"] == "darker")
    assert darker["unanswered"] == 6
    assert darker["strengths"][-1]["accuracy"]["value"] == 0
    assert darker["strengths"][-1]["flips"]["value"] == 0
    assert "(6 of 6 images): there it is not right, and this counts as no flip." in unanswered_words(rows)
    assert unanswered_words([row | {"unanswered": 0} for row in rows]) == ""
