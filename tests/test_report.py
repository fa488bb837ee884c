from __future__ import annotations

import copy
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Rectangle
from torch import Tensor

from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig
from advmix.report.drawing import METHODS, RIGHT, WRONG, method_label
from advmix.report.figures import (
    VariationGallery,
    accuracy_chart,
    data_strip,
    mixing_grid,
    rescaled_difference,
    training_curves,
    variations,
)
from advmix.report.page import duration, png, render, save_figures
from advmix.report.tables import DIGIT_COLUMNS
from advmix.training import methods

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def data() -> ColoredDigits:
    return ColoredDigits(DataConfig())


@pytest.fixture(scope="module")
def digits(data: ColoredDigits) -> tuple[Tensor, Tensor]:
    return data.shuffled.batch(slice(0, 6))


@pytest.fixture(scope="module")
def gallery(digits: tuple[Tensor, Tensor], data: ColoredDigits) -> VariationGallery:
    """Six digits with channels rotated; the third is taken for its neighbour."""
    images, labels = digits
    predictions = labels.clone()
    predictions[2] = (labels[2] + 1) % 10
    return VariationGallery(
        "advmix", images, images.roll(1, dims=1), labels, predictions, torch.full((6,), 0.75), data.shuffled.classes
    )


def run(method: str, seed: int = 0, **numbers: Any) -> dict[str, Any]:
    tests = {column.key: 0.5 for column in DIGIT_COLUMNS}
    searched = {"generator": "0123456789abcdef", "worst_case_images": 60}
    return {
        "method": method,
        "seed": seed,
        "data": "digits",
        "color_std": 0.1,
        "train_seconds": 10.0,
        **searched,
        **tests,
        **numbers,
    }


def results(*runs: dict[str, Any]) -> dict[str, Any]:
    return {
        "schema": 1,
        "study": "demo",
        "generator": {"fingerprint": "0123456789abcdef", "fit_seconds": 41.26, "reconstruction_mse": 0.0042},
        "search": {"restarts": 3, "steps": 7, "step_size": 0.25, "radius": None, "step": "sign", "novelty": "new"},
        "phases": {"generator": 125.0, "training": None},
        "environment": {"torch": "2.99"},
        "config": {"data": {"color_std": 0.125}, "methods": ["nominal", "advmix"]},
        "runs": list(runs),
        "unknown": {"key": 1},
    }


class Page(HTMLParser):
    """What a browser would make of it: tags with attributes, and the words of every table row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text, self.in_row = "", False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
            self.in_row = True

    def handle_endtag(self, tag: str) -> None:
        self.in_row &= tag != "tr"

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.in_row and data.strip():
            self.rows[-1].append(data.strip())

    def row(self, first: str) -> list[str]:
        return next(row for row in self.rows if row and row[0] == first)


def decoded(figure: Figure) -> Any:
    return imread(io.BytesIO(png(figure)))


def pictures(figure: Figure) -> list[Any]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_data_strip_groups_by_class(data: ColoredDigits) -> None:
    train, test = data.train.batch(slice(0, 300)), data.shuffled.batch(slice(0, 300))
    blocks = pictures(data_strip(*train, *test, data.shuffled.classes))
    assert len(blocks) == 20
    first = train[0][train[1] == 4][0].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(blocks[4][:16, :16], first)


def test_data_strip_leaves_absent_classes_white(data: ColoredDigits) -> None:
    images, labels = data.train.batch(slice(0, 300))
    kept = labels != 7
    blocks = pictures(data_strip(images[kept], labels[kept], images, labels, data.shuffled.classes))
    assert blocks[7].min() == 1
    assert blocks[8].min() < 1


def test_mixing_grid_is_row_major(digits: tuple[Tensor, Tensor]) -> None:
    images, _ = digits
    figure = mixing_grid(images[:2], images[2:5], images.flip(0))
    lent, kept, mixes = pictures(figure)
    side = images.shape[-1]
    gap = max(1, side // 10)
    step = side + gap
    assert mixes.shape[:2] == (2 * step - gap, 3 * step - gap)
    np.testing.assert_array_equal(mixes[step:, :side], images.flip(0)[3].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(lent[:, step : step + side], images[3].permute(1, 2, 0).numpy())
    np.testing.assert_array_equal(kept[step:], images[1].permute(1, 2, 0).numpy())
    top, left, body = (axes.get_position() for axes in figure.axes)
    assert (top.x0, top.x1) == pytest.approx((body.x0, body.x1))
    assert (left.y0, left.y1) == pytest.approx((body.y0, body.y1))
    assert any("z∥" in text for text in words(figure))
    assert any("z⊥" in text for text in words(figure))


@pytest.mark.parametrize("count", [1, 2])
def test_png_has_the_aspect_of_the_figure(digits: tuple[Tensor, Tensor], count: int) -> None:
    images, _ = digits
    figure = mixing_grid(images[:count], images[:3], images[:1].repeat(3 * count, 1, 1, 1))
    height, width = decoded(figure).shape[:2]
    inches = figure.get_size_inches()
    assert width / height == pytest.approx(inches[0] / inches[1], rel=0.01)


def test_pixels_are_squares(gallery: VariationGallery) -> None:
    figure = variations(gallery)
    width, height = figure.get_size_inches()
    for axes in figure.axes:
        box = axes.get_position()
        assert box.width * width == pytest.approx(box.height * height)


def test_difference_is_rescaled_to_full_range(gallery: VariationGallery) -> None:
    faint = gallery.originals + 0.01 * (gallery.variations - gallery.originals)
    difference = rescaled_difference(gallery.originals, faint)
    torch.testing.assert_close(difference.amax(dim=(1, 2, 3)), torch.ones(6))
    assert difference.min() >= 0
    assert rescaled_difference(gallery.originals, gallery.originals).max() == 0


def test_variations_frame_right_and_wrong(gallery: VariationGallery) -> None:
    figure = variations(gallery)
    frames = [axes.spines["left"].get_edgecolor() for axes in figure.axes[6:12]]
    assert frames == [to_rgba(WRONG if index == 2 else RIGHT) for index in range(6)]
    assert words(figure).count("75 %") == 6
    assert f"✗ {gallery.predictions[2]}" in words(figure)
    assert "AdvMix: right on 5 of 6" in words(figure)


def test_class_names_are_no_formulas(gallery: VariationGallery) -> None:
    odd = VariationGallery(**{**vars(gallery), "classes": ("$\\frac{", *"abcdefghi")})
    assert decoded(variations(odd)).shape[2] == 4


def bars(figure: Figure, panel: int) -> list[float]:
    return [patch.get_width() for patch in figure.axes[panel].patches[1::2] if isinstance(patch, Rectangle)]


def test_chart_shows_means_and_leaves_out_what_is_not_there() -> None:
    runs = [run("nominal", 0, accuracy_biased=0.9), run("nominal", 1, accuracy_biased=0.7)]
    runs.append(run("advmix", 0, accuracy_biased=None))
    figure = accuracy_chart(runs)
    assert bars(figure, 0) == pytest.approx([0.8])
    assert bars(figure, 1) == pytest.approx([0.5, 0.5])
    assert np.asarray(figure.axes[0].lines[-1].get_xdata()).tolist() == [0.7, 0.9]
    assert not figure.axes[1].lines


def test_chart_drops_a_test_that_nobody_took() -> None:
    runs = [run("nominal", accuracy_uniform=None), run("advmix", accuracy_uniform=None)]
    figure = accuracy_chart(runs)
    assert len(figure.axes) == len(DIGIT_COLUMNS) - 1
    assert "Uniform" not in words(figure)


TRAINED = (*methods.METHODS, *methods.CONTROLS)


def test_methods_differ_in_colour_and_keep_it() -> None:
    assert len({METHODS[name].color for name in TRAINED}) == len(TRAINED)
    one, both = accuracy_chart([run("advmix")]), accuracy_chart([run("nominal"), run("advmix")])
    assert one.axes[0].patches[1].get_facecolor() == both.axes[0].patches[3].get_facecolor()


def test_training_curve_is_logarithmic() -> None:
    figure = training_curves([{"step": 0, "mse": 0.2}, {"step": 100, "mse": 0.002}])
    (axes,) = figure.axes
    assert axes.get_yscale() == "log"
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.2, 0.002]


def test_page_is_self_contained(gallery: VariationGallery) -> None:
    figures = {"accuracy": accuracy_chart([run("advmix")]), "variations-advmix": variations(gallery), "own": Figure()}
    html = render(results(run("nominal"), run("advmix")), figures)
    page = Page(html)
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href", "srcset")]
    assert len(sources) == 3
    assert all(source is not None and source.startswith("data:image/png;base64,") for source in sources)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert not re.search(r"url\(|@import|https?://", html)


def test_every_number_is_in_the_table() -> None:
    numbers: dict[str, Any] = {column.key: 0.111 * (index + 1) for index, column in enumerate(DIGIT_COLUMNS)}
    page = Page(render(results(run("linf", train_seconds=54.32, **numbers)), {}))
    assert page.row(method_label("linf")) == [
        "l∞ adversarial",
        "11.1",
        "22.2",
        "33.3",
        "44.4",
        "55.5",
        "66.6",
        "77.7",
        "54.3",
    ]


def test_every_method_is_in_the_table() -> None:
    page = Page(render(results(*(run(name) for name in [*METHODS, "my own"])), {}))
    for name in [*METHODS, "my own"]:
        assert len(page.row(method_label(name))) == 2 + len(DIGIT_COLUMNS)


def test_seeds_are_averaged_and_their_spread_is_shown() -> None:
    runs = [run("mixup", seed, accuracy_biased=value) for seed, value in enumerate((0.9, None, 0.7))]
    assert Page(render(results(*runs), {})).row("mixup")[1:4] == ["80.0", "70.0 – 90.0", "50.0"]


def test_missing_numbers_are_dashes() -> None:
    bare = {"method": "mixup", "seed": 0, "accuracy_biased": None}
    assert Page(render({"runs": [bare]}, {})).row("mixup") == ["mixup", *"––––––––"]


def best_cells(html: str) -> list[str]:
    return re.findall(r'<td class="best">([^<]*)', html)


def test_best_of_each_column_is_marked_but_never_a_control() -> None:
    high: dict[str, Any] = {column.key: 0.6 for column in DIGIT_COLUMNS}
    runs = [run("nominal", train_seconds=5.0), run("advmix", **high), run("ceiling", train_seconds=1.0)]
    assert best_cells(render(results(*runs), {})) == ["5.0", *["60.0"] * len(DIGIT_COLUMNS)]
    runs[2].update({column.key: 0.99 for column in DIGIT_COLUMNS})
    assert best_cells(render(results(*runs), {})) == ["5.0", *["60.0"] * len(DIGIT_COLUMNS)]


def test_headline_says_what_the_numbers_say() -> None:
    nominal = [
        run("nominal", seed, accuracy_biased=1.0, accuracy_shuffled=value) for seed, value in ((0, 0.1), (1, 0.2))
    ]
    good, bad = (run("advmix", accuracy_biased=1.0, accuracy_shuffled=value) for value in (0.99, 0.3))
    page = Page(render(results(*nominal, good), {})).text
    assert "15.0 %" in page
    assert "99.0 %" in page
    assert "it looks at the digit." in page
    assert "it looks at the digit." not in Page(render(results(*nominal, bad), {})).text


def test_no_headline_without_a_comparison() -> None:
    assert "Right in random colours" in render(results(run("nominal"), run("randmix")), {})
    assert "Right in random colours" not in render(results(run("nominal"), run("mixup")), {})


def test_settings_are_shown() -> None:
    page = Page(render(results({**run("advmix"), "setting": {"epochs": 15}}), {}))
    assert page.row("steps")[1] == "7"
    assert page.row("radius")[1] == "–"
    assert page.row("novelty") == ["novelty", "new"]
    assert page.row("data.color_std") == ["data.color_std", "0.125"]
    assert page.row("AdvMix.epochs") == ["AdvMix.epochs", "15"]
    assert page.row("torch") == ["torch", "2.99"]
    assert page.row("generator") == ["generator", "2 min 5 s"]
    assert "41.3 s" in page.text
    assert "0.0042" in page.text


def test_strangers_names_are_escaped() -> None:
    told = results(run(HOSTILE), {**run("advmix"), "setting": {HOSTILE: HOSTILE}, "data": HOSTILE})
    for section in ("search", "environment", "config", "generator"):
        told[section] = {"file": HOSTILE, HOSTILE: 1, "fingerprint": HOSTILE}
    told["study"], told["phases"] = HOSTILE, {HOSTILE: 1.0}
    html = render(told, {HOSTILE: Figure(), f"variations-{HOSTILE}": Figure()})
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 10


@pytest.mark.parametrize("key", sorted(results().keys()))
def test_no_key_is_required(key: str) -> None:
    told = results(run("nominal"), run("advmix"))
    del told[key]
    assert "Does the classifier look at the digit" in render(told, {})


def test_render_changes_nothing() -> None:
    told = results(run("nominal"), run("advmix"))
    before = copy.deepcopy(told)
    assert render(told, {}) == render(told, {})
    assert told == before


def test_figures_are_saved_inside_the_folder(tmp_path: Path) -> None:
    figure = training_curves([{"step": 0, "mse": 0.2}, {"step": 9, "mse": 0.1}])
    paths = save_figures({"training": figure, "../<script>": figure}, tmp_path / "out")
    assert paths[0] == tmp_path / "out" / "training.png"
    assert {path.parent for path in paths} == {tmp_path / "out"}
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())
    assert imread(paths[0]).shape == decoded(figure).shape
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.96, "1 min 0 s"), (125, "2 min 5 s"), (3780, "1 h 3 min"), (None, "–")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
