from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import least_squares
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as v2

from advmix.change_description import PARTS, TERMS, ChangeDescription, describe_changes, describe_flips
from advmix.change_kinds import OTHER, change_kinds, corroboration_words, main_words
from advmix.linear_light import channel_gains, from_linear, to_linear
from advmix.named_changes import NAMED_CHANGES
from advmix.utils.torch_tools import global_seed
from pictures import scenes

NOTHING = {"exposure": 0.0, "contrast": 1.0, "saturation": 1.0, "temperature": 0.0, "tint": 0.0}


def changed(images: Tensor, **strengths: float) -> Tensor:
    """Named changes, one after the other."""
    for name, strength in strengths.items():
        images = NAMED_CHANGES[name.replace("_", " ")](images, strength)
    return images


@pytest.mark.parametrize(
    ("strengths", "terms"),
    [
        ({}, {}),
        ({"brighter": 1.0}, {"exposure": 1.0}),
        ({"brighter": 2.0}, {"exposure": 2.0}),
        ({"darker": 0.25}, {"exposure": -0.25}),
        ({"darker": 3.0}, {"exposure": -3.0}),
        ({"less_contrast": 0.5}, {"contrast": 0.5}),
        ({"less_contrast": 0.1}, {"contrast": 0.1}),
        ({"more_contrast": 2.0}, {"contrast": 2.0}),
        ({"greyer": 0.4}, {"saturation": 0.4}),
        ({"greyer": 0.0}, {"saturation": 0.0}),
        ({"more_colourful": 2.0}, {"saturation": 2.0}),
        ({"warmer": 0.5}, {"temperature": 0.5}),
        ({"bluer": 2.0}, {"temperature": -2.0}),
        ({"greener": 0.5}, {"tint": 0.5}),
        ({"pinker": 1.0}, {"tint": -1.0}),
        ({"darker": 0.8, "bluer": 0.5}, {"exposure": -0.8, "temperature": -0.5}),
        ({"brighter": 0.5, "warmer": 0.5, "greener": 0.2}, {"exposure": 0.5, "temperature": 0.5, "tint": 0.2}),
        (
            {"darker": 0.5, "pinker": 0.3, "less_contrast": 0.7, "greyer": 0.5},
            {"exposure": -0.5, "tint": -0.3, "contrast": 0.7, "saturation": 0.5},
        ),
    ],
)
def test_named_changes_and_their_mixtures_are_recovered(strengths: dict[str, float], terms: dict[str, float]) -> None:
    images = scenes(12, channels=3)
    found = describe_changes(images, changed(images, **strengths))
    for name, value in (NOTHING | terms).items():
        assert getattr(found, name).tolist() == pytest.approx([value] * 12, rel=0.03, abs=0.03), name
    assert found.explained.min() > 0.99


@pytest.mark.parametrize("size", [16, 64, 100])
def test_grey_images_of_any_size(size: int) -> None:
    images = scenes(4, channels=1, size=size)
    found = describe_changes(images, changed(images, darker=1.0, less_contrast=0.5))
    assert found.exposure.tolist() == pytest.approx([-1] * 4, abs=0.03)
    assert found.contrast.tolist() == pytest.approx([0.5] * 4, abs=0.02)
    for name in ("saturation", "temperature", "tint"):
        assert getattr(found, name).tolist() == [NOTHING[name]] * 4
    assert found.effects[:, 2:5].max() < 1e-6


def test_clipped_pixels_are_left_out() -> None:
    images = scenes(6, channels=3)
    images[:, :, :16] *= 1.4
    brighter = changed(images, brighter=1.5)
    assert (brighter == 1).float().mean() > 0.2
    assert describe_changes(images, brighter).exposure.tolist() == pytest.approx([1.5] * 6, abs=0.03)


def test_what_an_image_says_nothing_of_stays_as_it_is() -> None:
    flat = torch.full((1, 3, 16, 16), 0.4)
    found = describe_changes(flat, changed(flat, darker=1.0))
    assert found.to_dict(0) == pytest.approx({**NOTHING, "exposure": -1.0, "explained": 1.0}, abs=0.01)
    black = torch.zeros(1, 3, 16, 16)
    assert describe_changes(scenes(1, channels=3, size=16), black).to_dict(0) == pytest.approx(
        {**NOTHING, "explained": 0.0}
    )


def test_another_picture_is_not_explained() -> None:
    images = scenes(10, channels=3)
    shuffled = images.flatten(2)[:, :, torch.randperm(32 * 32, generator=torch.Generator().manual_seed(0))].view_as(
        images
    )
    assert describe_changes(images, shuffled).explained.max() < 0.6


def literal_fit(before: np.ndarray, after: np.ndarray) -> list[float]:
    """The same least squares, pixel by pixel, by scipy: gains, contrast, saturation of `(3, H, W)`."""

    def linear(value: float) -> float:
        return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4

    def coded(light: float) -> float:
        return light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055

    pairs = list(zip(before.reshape(3, -1).T.tolist(), after.reshape(3, -1).T.tolist(), strict=True))

    def residual(numbers: np.ndarray) -> list[float]:
        lit = [[coded(linear(v) * 2**g) for v, g in zip(old, numbers[:3], strict=True)] for old, _ in pairs]
        greys = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in lit]
        mean, off = sum(greys) / len(greys), []
        for pixel, grey, (_, new) in zip(lit, greys, pairs, strict=True):
            for value, wanted in zip(pixel, new, strict=True):
                drawn = mean + numbers[3] * (grey + numbers[4] * (value - grey) - mean)
                off.append(linear(drawn) - linear(wanted))
        return off

    found: list[float] = least_squares(residual, [0, 0, 0, 1, 1], xtol=1e-12, ftol=1e-12).x.tolist()
    return found


def test_the_fit_is_that_of_scipy() -> None:
    images = scenes(3, channels=3, size=8)
    others = 0.7 * changed(images, darker=0.5, warmer=0.4, less_contrast=0.8, greyer=0.7) + 0.3 * images.flip(3)
    found = describe_changes(images, others)
    for row in range(3):
        red, green, blue, contrast, saturation = literal_fit(images[row].numpy(), others[row].numpy())
        gains = [2**red, 2**green, 2**blue]
        exposure = math.log2(0.2126 * gains[0] + 0.7152 * gains[1] + 0.0722 * gains[2])
        literal = {
            "exposure": exposure,
            "contrast": contrast,
            "saturation": saturation,
            "temperature": red - blue,
            "tint": green - (red + blue) / 2,
        }
        assert {name: found.to_dict(row)[name] for name in TERMS} == pytest.approx(literal, abs=0.01)


def test_effects_are_what_each_term_alone_changes() -> None:
    images = scenes(5, channels=3)
    found = describe_changes(images, changed(images, darker=0.8, bluer=0.5))
    for term, name, strength in (("exposure", "darker", 0.8), ("temperature", "bluer", 0.5)):
        alone = (changed(images, **{name: strength}) - images).square().mean(dim=(1, 2, 3)).sqrt()
        assert found.effects[:, TERMS.index(term)].tolist() == pytest.approx(alone.tolist(), abs=0.005)
    assert found.effects[:, TERMS.index("saturation")].max() < 0.005


class Warmth(nn.Module):
    """Says 1 of images that are more red than blue, whatever their light."""

    def forward(self, images: Tensor) -> Tensor:
        means = images.mean(dim=(2, 3)).log()
        return torch.stack([torch.zeros(len(images)), 10 * (means[:, 0] - means[:, 2])], dim=1)


def test_effects_on_a_classifier_are_of_what_it_looks_at() -> None:
    """Darkness changes pixels most, and the light's colour the answer."""
    images, network = scenes(30, channels=3), Warmth()
    labels = network(images).argmax(dim=1)
    after = changed(images, darker=2.0, warmer=1.0)
    on_pixels, on_network = describe_changes(images, after), describe_flips(network, labels, images, after)
    flips = (labels == 0) & (network(after).argmax(dim=1) == 1)
    assert 5 < flips.sum() < 30
    assert set(main_words(on_pixels)) == {"darker"}
    assert [kind.terms for kind in change_kinds(on_network[flips])] == [("warmer",)]
    assert torch.equal(on_network.effects[~flips], on_pixels.effects[~flips])


def test_effects_on_a_classifier_are_those_alone_and_those_that_are_missing() -> None:
    images = scenes(12, channels=3)
    after = 0.9 * changed(images, bluer=1.5, less_contrast=0.8) + 0.1 * images.flip(3)
    with global_seed(0):
        last = nn.Linear(12, 3)
        network = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), last).eval()
    last.bias.data -= network(images).mean(dim=0)  # so that no class is that of all images
    labels = network(images).argmax(dim=1)
    found = describe_flips(network, labels, images, after)
    flips = (network(after).argmax(dim=1) != labels).nonzero()[:, 0].tolist()
    assert flips
    for row in flips:
        image, terms = images[row][None], found.to_dict(row)

        def margin(shown: Tensor, label: int = int(labels[row])) -> float:
            logits = network(shown.clamp(0, 1))[0].tolist()
            return float(max(logits[:label] + logits[label + 1 :]) - logits[label])

        def drawn(parts: set[str], image: Tensor = image, terms: dict[str, float] = terms) -> Tensor:
            kept = {name: terms[name] if name in parts else NOTHING[name] for name in TERMS}
            exposed = from_linear(
                to_linear(image)
                * channel_gains(*torch.tensor([kept["exposure"], kept["temperature"], kept["tint"]]))[:, None, None]
            )
            made: Tensor = v2.adjust_saturation(v2.adjust_contrast(exposed, kept["contrast"]), kept["saturation"])
            return made

        rest = after[row][None] - drawn(set(TERMS))
        for place, part in enumerate(PARTS):
            others = set(PARTS) - {part}
            alone = margin(image + rest if part == "other" else drawn({part})) - margin(image)
            without = drawn(others - {"other"}) + (rest if part != "other" else 0)
            missing = margin(after[row][None]) - margin(without)
            assert float(found.effects[row, place]) == pytest.approx((alone + missing) / 2, abs=0.02), part


def test_parts_of_a_description() -> None:
    images = scenes(7, channels=3)
    whole = describe_changes(images, changed(images, darker=1.0))
    again = ChangeDescription.cat([whole[:3], whole[torch.tensor([3, 4, 5, 6])]])
    assert len(again) == 7
    assert torch.equal(again.exposure, whole.exposure)
    assert torch.equal(again.effects, whole.effects)
    assert len(describe_changes(images[:0], images[:0])) == 0


def made_flips() -> ChangeDescription:
    """Of 40 flips: 16 darker and bluer, 10 with less contrast, 6 greener, 4 brighter, 2 greyer, 2 mirrored."""
    counts = [
        (16, {"darker": 0.8, "bluer": 1.0}),
        (10, {"less_contrast": 0.3}),
        (6, {"greener": 1.0}),
        (4, {"brighter": 0.5}),
        (2, {"greyer": 0.0}),
        (2, {"mirror": 1.0}),
    ]
    images = scenes(40, channels=3)
    parts = images.split([count for count, _ in counts])
    after = [changed(part, **strengths) for part, (_, strengths) in zip(parts, counts, strict=True)]
    return describe_changes(images, torch.cat(after))


def test_flips_are_grouped_by_what_changed_most() -> None:
    kinds = change_kinds(made_flips())
    assert [kind.terms for kind in kinds] == [("darker", "bluer"), ("less contrast",), ("greener",), ("brighter",), ()]
    assert [len(kind.members) for kind in kinds] == [16, 10, 6, 4, 4]
    assert kinds[0].members.tolist() == list(range(16))
    assert kinds[-1].members.tolist() == [36, 37, 38, 39]
    assert kinds[0].name == "darker by 0.8 stops and bluer"
    assert kinds[0].sentence == "Darker by 0.8 stops and bluer: 40 % of the flips (16 of 40)"
    assert kinds[1].name == "less contrast (× 0.3)"
    assert kinds[-1].name == OTHER
    assert kinds[0].share.value == 0.4
    assert 0.25 < kinds[0].share.low < 0.4 < kinds[0].share.high < 0.56
    assert kinds[0].medians["temperature"] == pytest.approx(-1, abs=0.03)
    row = kinds[0].to_dict()
    assert json.loads(json.dumps(row)) == row
    assert row["count"] == 16


def test_five_kinds_need_no_others() -> None:
    assert [kind.terms for kind in change_kinds(made_flips()[:38])][-1] == ("greyer",)
    assert change_kinds(made_flips()[:0]) == []


def kind_row(terms: tuple[str, ...], **medians: float) -> dict[str, Any]:
    return {"terms": list(terms), "count": 47, "medians": NOTHING | medians}


def change_rows(**flips: list[float]) -> list[dict[str, Any]]:
    rows = []
    for name, change in NAMED_CHANGES.items():
        values = flips.get(name.replace(" ", "_"), [0.0] * len(change.strengths))
        strengths = [{"strength": s, "flips": {"value": v}} for s, v in zip(change.strengths, values, strict=True)]
        rows.append({"name": name, "right": 230, "strengths": strengths})
    return rows


def test_named_changes_corroborate_the_search() -> None:
    kinds = [kind_row(("darker", "bluer"), exposure=-0.75), kind_row(("bluer",), temperature=-5.0), kind_row(())]
    rows = change_rows(darker=[0, 0.04, 0.2, 0.5, 0.6], bluer=[0, 0.03, 0.1, 0.1, 0.3])
    assert corroboration_words(kinds, rows) == (
        "Named changes corroborate the search: darker by 0.75 stops flips 12 % and bluer by 3 stops flips 30 % of 230 "
        "right answers."
    )
    more = [*kinds, kind_row(("less contrast",), contrast=0.5), kind_row(("greyer",), saturation=0.0)]
    assert corroboration_words(more, rows).endswith(
        "right answers. Alone, less contrast (× 0.5) flips 0 % and greyer (saturation × 0) flips 0 %."
    )


def test_named_changes_that_flip_nothing_do_not_confirm_it() -> None:
    kinds = [kind_row(()), kind_row(("less contrast",), contrast=0.5)]
    words = corroboration_words(kinds, change_rows(less_contrast=[0, 0.02, 0.03, 0.5, 0.6]))
    assert words.startswith(
        "Named changes do not confirm the search: less contrast (× 0.5) flips 2 % of 230 right answers."
    )


def test_there_may_be_nothing_to_compare() -> None:
    assert corroboration_words([], change_rows()) == ""
    assert corroboration_words([kind_row(()), kind_row(("darker",), exposure=-1.0) | {"count": 9}], change_rows()) == ""
    rows = [row | {"right": 0} for row in change_rows()]
    assert corroboration_words([kind_row(("darker",), exposure=-1.0)], rows) == ""
