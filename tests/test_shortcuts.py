"""What styles alone tell: on painted digits, whose colours are known to tell the digit or nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from advmix.cli import main
from advmix.commands.data import STYLES, style_features
from advmix.data.datasets import open_data, painted_digits
from advmix.data.images import ImageSet
from advmix.data.photos.load import Photos, PhotoSet
from advmix.data.settings import DataConfig
from advmix.data.shortcuts import ShortcutImages, Told, cross_validate, fit_rule, tell, tell_elsewhere
from advmix.report.shortcut_tables import shortcut_words
from advmix.utils.torch_tools import generator
from pictures import encoded, write

COLOURS = STYLES[0]


def photos(images: ImageSet, sites: Tensor | None = None, units: Tensor | None = None) -> Photos:
    """As if they had been read from files, all to train on."""
    nothing = torch.zeros_like(images.labels)
    found = PhotoSet(
        images,
        nothing,
        nothing if sites is None else sites,
        torch.arange(len(images)) if units is None else units,
        tuple(map(str, range(len(images)))),
    )
    names = () if sites is None else tuple(f"site {site}" for site in range(int(sites.max()) + 1))
    return Photos({"train": found}, images.classes, (), names, (), Counter(), Counter(), 0)


@pytest.fixture(scope="module")
def digits() -> tuple[ImageSet, ImageSet]:
    """Each in the colour of its class, and in any of these colours."""
    data = painted_digits(open_data(DataConfig(color_std=0.02), seed=0), "test")
    return data.train, data.shuffled


def told(images: ShortcutImages, style: str = COLOURS, target: str = "label") -> Told:
    found = tell(style_features(images.images, style), images, target, seed=0)
    assert found is not None
    return found


def test_colours_tell_a_digit_that_is_painted_by_its_class_and_no_other(digits: tuple[ImageSet, ImageSet]) -> None:
    biased, shuffled = (told(ShortcutImages.draw(photos(images), seed=0)) for images in digits)
    assert biased.accuracy.value > 0.97
    assert biased.chance == pytest.approx(0.1)
    assert shuffled.accuracy.value < 0.3  # the mean still tells how much ink there is
    mixed = shuffled.labels[torch.randperm(len(shuffled.labels), generator=generator(1))]
    images = ImageSet(digits[1].pixels[shuffled.rows], mixed, digits[1].classes)
    accuracy = told(ShortcutImages.draw(photos(images), seed=0)).accuracy
    assert accuracy.low <= 0.1 <= accuracy.high


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_style_is_numbers_of_each_image(style: str, channels: int) -> None:
    pixels = torch.randint(256, (6, channels, 16, 16), dtype=torch.uint8, generator=generator(2))
    images = ImageSet(pixels, torch.zeros(6, dtype=torch.int64), ("a", "b"))
    found = style_features(images, style)
    assert found.shape[0] == 6
    assert torch.allclose(style_features(images[2:3], style), found[2:3], atol=1e-5)


def test_the_six_numbers_are_means_and_log_deviations() -> None:
    """Up to a linear map, which a regression does not mind."""
    pixels = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=generator(3))
    pixels = (pixels * torch.rand(40, 3, 1, 1, generator=generator(4))).to(torch.uint8)
    images = ImageSet(pixels, torch.zeros(40, dtype=torch.int64), ("a", "b"))
    plain = images.batch(slice(None))[0].double().flatten(2)
    literal = torch.cat([plain.mean(dim=2), (plain.var(dim=2, correction=0) + 0.02**2).sqrt().log2()], dim=1)
    known = torch.cat([style_features(images, COLOURS).double(), torch.ones(40, 1)], dim=1)
    fitted = known @ torch.linalg.lstsq(known, literal).solution
    assert known.shape[1] == 7
    assert torch.allclose(fitted, literal, atol=1e-4)


def test_the_rule_is_a_logistic_regression() -> None:
    """Against the same loss, taken down step by step: cross-entropy, classes alike in weight, and half the squared
    weights.
    """
    rng = generator(5)
    labels = torch.arange(60) % 3 * (torch.arange(60) < 50)
    features = torch.randn(60, 4, generator=rng, dtype=torch.float64) * 3 + 1 + labels[:, None]
    scaled = (features - features.mean(dim=0)) / features.std(dim=0, correction=0)
    weights = (60 / (3 * labels.bincount().double()))[labels]
    weight = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        each = torch.nn.functional.cross_entropy(scaled @ weight + bias, labels, reduction="none")
        total = (weights * each).sum() + weight.square().sum() / 2
        total.backward()
        return total

    solver.step(loss)
    expected = (scaled @ weight + bias).softmax(dim=1).detach()
    found = fit_rule(features, labels, 4)(features)
    assert torch.allclose(found[:, :3], expected, atol=5e-3)
    assert not found[:, 3].any()


def test_no_image_is_judged_by_a_rule_that_knows_it() -> None:
    """Numbers that know each image by heart tell nothing of the others; nor of a person whose images stay together."""
    labels = torch.randint(2, (100,), generator=generator(6))
    by_heart = torch.eye(100)
    found = cross_validate(by_heart, labels, torch.arange(100), seed=0)
    assert found is not None
    assert float((found.argmax(dim=1) == labels).double().mean()) < 0.65
    person, truth = torch.arange(200) % 20, (torch.arange(200) % 20) % 2
    apart = cross_validate(torch.eye(20)[person], truth, torch.arange(200), seed=0)
    together = cross_validate(torch.eye(20)[person], truth, person, seed=0)
    assert apart is not None
    assert together is not None
    assert float((apart.argmax(dim=1) == truth).double().mean()) == 1
    assert float((together.argmax(dim=1) == truth).double().mean()) < 0.8


def coloured(labels: Tensor, colour_of: Tensor, seed: int) -> Tensor:
    """Noise around a colour, `(N, 3, 16, 16)` uint8."""
    noise = torch.rand(len(labels), 3, 16, 16, generator=generator(seed))
    return (255 * (0.2 * noise + 0.8 * colour_of[:, :, None, None])).to(torch.uint8)


SURE = {"value": 0.54, "low": 0.53, "high": 0.55, "chance": 0.5, "images": 9000}
PAINTS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]])


def test_a_rule_of_home_is_tried_elsewhere() -> None:
    """At site 1 the colours are exchanged, at site 2 they say nothing; site 3 has too few images."""
    labels = torch.arange(220) % 2
    sites = torch.tensor([0] * 100 + [1] * 60 + [2] * 55 + [3] * 5)
    shade = torch.where(sites == 1, 1 - labels, torch.where(sites == 2, torch.arange(220) // 2 % 2, labels))
    images = ShortcutImages.draw(photos(ImageSet(coloured(labels, PAINTS[shade], 7), labels, ("a", "b")), sites), 0)
    features = style_features(images.images, COLOURS)
    away = tell_elsewhere(features, images)
    home = tell(features, images, "label", seed=0, at_home=True)
    assert images.home == 0
    assert home is not None
    assert (len(home.rows), home.accuracy.value) == (100, 1)
    assert sorted(away) == [1, 2]
    assert away[1].accuracy.value == 0
    assert away[2].accuracy.low < 0.5 < away[2].accuracy.high
    worst = away[1].surest(False, 5)
    assert len(worst) == 5
    assert not len(away[1].surest(True, 5))
    sure = away[1].probabilities.max(dim=1).values
    assert sure[worst].tolist() == sorted(sure.tolist(), reverse=True)[:5]


def test_what_is_rare_is_not_asked() -> None:
    labels = torch.tensor([0] * 30 + [1] * 30 + [2] * 9)
    paints = torch.cat([PAINTS, torch.tensor([[0.1, 0.1, 0.9]])])
    images = ImageSet(coloured(labels, paints[labels], 8), labels, ("a", "b", "c"))
    found = told(ShortcutImages.draw(photos(images), seed=0))
    assert (len(found.rows), found.chance) == (60, 0.5)
    alone = ShortcutImages.draw(photos(images[torch.arange(20, 39)]), seed=0)
    assert tell(style_features(alone.images, COLOURS), alone, "label", seed=0) is None


def files(sites: bool) -> dict[str, bytes | str]:
    """Noise whose colour is that of the class at home, and not elsewhere."""
    labels = torch.arange(120) % 2
    away = (torch.arange(120) >= 80) & sites
    pixels = coloured(labels, PAINTS[torch.where(away, 1 - labels, labels)], 9)
    found: dict[str, bytes | str] = {
        f"{place:03}.png": encoded(Image.fromarray(np.asarray(image.permute(1, 2, 0))))
        for place, image in enumerate(pixels)
    }
    rows = [
        f"{place:03}.png,{['no', 'yes'][labels[place]]},{'away' if away[place] else 'home'}" for place in range(120)
    ]
    return {**found, "labels.csv": "\n".join(["filename,sick,clinic", *rows])}


def run(data: Path, out: Path, *options: str) -> dict[str, Any]:
    size = [] if "--size" in options else ["--size", "16"]
    assert main(["data", str(data), "--target", "sick", *size, "--holdout", "0", "--out", str(out), *options]) == 0
    read: dict[str, Any] = json.loads((out / "data.json").read_text())
    return read


def test_the_command_says_and_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write(tmp_path / "data", files(sites=True))
    found = run(data, tmp_path / "out", "--site", "clinic")
    assert (found["sites"], found["shortcuts"]["home"]) == (["away", "home"], "home")
    assert found["splits"]["train"]["sites"] == {name: {"away": 20, "home": 40} for name in ("not sick", "sick")}
    first = found["shortcuts"]["styles"][0]
    assert (first["style"], first["numbers"], first["home"]["value"]) == (COLOURS, 6, 1)
    assert first["elsewhere"]["away"]["value"] == 0
    assert [row["style"] for row in found["shortcuts"]["styles"]] == list(STYLES)
    assert (tmp_path / "out" / "shortcuts.png").is_file()
    said = " ".join(capsys.readouterr().out.split())
    assert "Learned at home, it is right on 100 % there and on 0 % at another site." in said
    assert run(data, tmp_path / "again", "--site", "clinic") == found
    again, plain = tmp_path / "again" / "shortcuts.png", tmp_path / "out" / "shortcuts.png"
    assert again.read_bytes() == plain.read_bytes()
    assert run(data, tmp_path / "out", "--site", "clinic", "--no-shortcuts")["shortcuts"] is None
    assert not plain.exists()


def test_a_shortcut_without_sites(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(write(tmp_path / "data", files(sites=False)), tmp_path / "out", "--group", "clinic")
    first = found["shortcuts"]["styles"][0]
    assert (first["group"], first["site"], first["elsewhere"]) == (None, None, {})
    said = " ".join(capsys.readouterr().out.split())
    assert "Six colour numbers alone tell the label on 100 % (chance 50 %): a classifier may learn it." in said
    assert run(tmp_path / "data", tmp_path / "small", "--size", "8")["shortcuts"] is None  # of 8 pixels are no styles


def test_the_sentence_says_when_nothing_is_told() -> None:
    def row(style: str, value: float) -> dict[str, Any]:
        share = {"value": value, "low": value - 0.1, "high": value + 0.1, "chance": 0.5, "images": 100}
        return {"style": style, "numbers": 9, "label": share, "site": None, "home": None, "elsewhere": {}}

    nothing = {"home": None, "styles": [row("statistics:moments", 0.52), row("statistics:local", 0.55)]}
    assert shortcut_words(nothing) == "No style alone tells much of the label: 55 % at most (chance 50 %)."
    sure = {"home": None, "styles": [row("statistics:moments", 0.54) | {"label": SURE}]}
    assert str(shortcut_words(sure)).startswith("No style alone tells much of the label: 54 %")
    place = {"home": None, "styles": [row("statistics:moments", 0.52), row("statistics:local", 0.8)]}
    assert "The style statistics:local alone (9 numbers) tells the label on 80 %" in str(shortcut_words(place))
    assert shortcut_words({"home": None, "styles": [row("photo", 0.5) | {"label": None}]}) is None
