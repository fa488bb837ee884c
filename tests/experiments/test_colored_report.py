"""The pictures of `python -m experiments colored-mnist`, and the words and colours they share with the report."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.image import imread

from advmix.commands.demo import RunSettings, data_figure, roles
from advmix.data.colored import ColoredDigits
from advmix.data.digits import MEAN_COLORS
from advmix.data.settings import DataConfig
from advmix.latents import Split
from advmix.mixing import SearchOptions
from advmix.report import drawing as styles
from advmix.report.drawing import method_label
from advmix.report.figures import accuracy_chart
from advmix.report.page import facts, looks_at, png
from advmix.report.tables import DIGIT_COLUMNS, columns, schema
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from advmix.training.methods import METHODS
from advmix.utils.errors import UserError
from experiments.cells import Cell
from experiments.colored_mnist.study import ColoredMnistConfig, accuracy_figures, colors_figure, draw, run_colored_mnist
from experiments.controls import CONTROLS, REFIT
from experiments.faces import settings as celeba
from experiments.figures import curves, published, spread_apart, tick_labels
from study_runs import study_runs

STDS = (0.02, 0.1, 0.3)
SMALL: dict[str, Any] = {
    "fit": FitOptions(fit_steps=3),
    "train": TrainOptions(epochs=1),
    "worst_restarts": 1,
    "worst_steps": 1,
    "worst_images": 5,
    "device": "cpu",
}


def words(figure: Figure) -> list[str]:
    inside = [text.get_text() for axes in figure.axes for text in axes.texts]
    return [text.get_text() for text in figure.texts] + inside


def line_of(axes: Axes, name: str, dashes: str = "-") -> Any:
    """The curve of a method: the line in its colour that has markers at several places."""
    wanted = to_rgba(styles.method_color(name))
    mine = [line for line in axes.lines if to_rgba(line.get_color()) == wanted and line.get_marker() == "o"]
    found = [line for line in mine if np.size(line.get_xdata()) > 1]
    assert [line.get_linestyle() for line in found] == [dashes]
    return found[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study itself, very small."""
    folder = tmp_path_factory.mktemp("study")
    run_colored_mnist(
        ColoredMnistConfig(
            data="digits",
            color_std=(0.1, 0.02),
            methods=("nominal", "advmix"),
            seeds=(3,),
            train_images=30,
            test_images=10,
            cells=folder / "cells",
            out=folder / "out",
            **SMALL,
        )
    )
    return folder


def test_the_study_follows_the_schema(study: Path) -> None:
    results = json.loads((study / "out" / "results.json").read_text())
    jsonschema.validate(results, schema())
    known = schema()["$defs"]["run"]["properties"].keys()
    assert all(run.keys() == known - {"color_variance"} for run in results["runs"])
    assert {run["generator"] for run in results["runs"]} == {made["fingerprint"] for made in results["generators"]}


def test_the_study_draws_its_figures(study: Path) -> None:
    folder = study / "out" / "figures"
    names = {"colors", "data", "mixing", "shuffled", "uniform", "worst-case", "worst-recolor"}
    assert {path.stem for path in folder.iterdir()} == names
    assert all(imread(path).shape[0] > 300 for path in folder.iterdir())


def test_the_reversed_task_has_bars_and_no_recolouring(study: Path, tmp_path: Path) -> None:
    """From the cell of the first task: only the labels differ, so the folder of another target is its own."""
    data = DataConfig(train_images=30, test_images=10, target="color")
    cell = Cell(tmp_path / "cell", data, 3, RunSettings(search=SearchOptions(perp=(0, 1, 2, 3)), **SMALL))
    cell.fit()
    runs = study_runs(["nominal"], [0.1], target="color", data="digits", accuracy_recolor_worst=None)
    draw(tmp_path, [cell], runs)
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {"colors", "data", "mixing", "accuracy"}
    assert "Worst recolour" not in words(accuracy_figures(runs)["accuracy"])


def test_what_was_not_measured_has_no_curve() -> None:
    runs = study_runs(["nominal"], STDS, accuracy_recolor_worst=None)
    assert accuracy_figures(runs).keys() == {"shuffled", "uniform", "worst-case"}


def test_a_curve_is_the_mean_over_the_seeds() -> None:
    figure = curves(study_runs(["nominal", "ceiling"], STDS), "accuracy_shuffled")
    (axes,) = figure.axes
    line = line_of(axes, "nominal")
    assert line.get_xdata() == pytest.approx(STDS)
    assert line.get_ydata() == pytest.approx([0.51 + std for std in STDS])
    band = np.asarray(axes.collections[0].get_paths()[0].vertices)
    assert band[:, 1].min() == pytest.approx(0.52)
    assert band[:, 1].max() == pytest.approx(0.82)
    line_of(axes, "ceiling", "--")
    assert {"Nominal", "Ceiling", "Shuffled"} <= set(words(figure))
    assert "Mean over the seeds; band: lowest to highest seed. Dashed: controls." in words(figure)
    assert "One seed." in words(curves(study_runs(["nominal"], STDS, [4]), "accuracy_shuffled"))


def test_a_method_may_lack_a_spread() -> None:
    runs = study_runs(["nominal"], STDS) + study_runs(["advmix"], STDS[:2])
    figure = curves(runs, "accuracy_shuffled")
    assert line_of(figure.axes[0], "advmix").get_xdata() == pytest.approx(STDS[:2])
    assert "AdvMix" in words(figure)


def test_axes_are_numbers_logarithmic_where_far_apart() -> None:
    far = curves(study_runs(["nominal"], STDS), "accuracy_shuffled").axes[0]
    near = curves(study_runs(["nominal"], [0.02, 0.03, 0.05], unit="color_variance"), "accuracy_shuffled").axes[0]
    zero = curves(study_runs(["nominal"], [0.0, 0.5]), "accuracy_shuffled").axes[0]
    assert [axes.get_xscale() for axes in (far, near, zero)] == ["log", "linear", "linear"]
    assert tick_labels((0.0, 0.01, 0.1, 0.5), False) == ["0", "", "0.1", "0.5"]
    assert tick_labels(STDS, True) == ["0.02", "0.1", "0.3"]


def test_what_lies_close_together_at_the_top_is_enlarged() -> None:
    runs = study_runs(["nominal"], STDS)
    for name, value in (("randmix", 0.971), ("advmix", 0.979)):
        runs += study_runs([name], STDS, accuracy_shuffled=value)
    full, enlarged = curves(runs, "accuracy_shuffled").axes
    assert full.get_ylim() == pytest.approx((-0.02, 1.02))
    assert enlarged.get_ylim() == pytest.approx((0.96 - 0.0004, 0.98 + 0.0004))
    assert [text.get_text() for text in enlarged.texts] == ["RandMix", "AdvMix"]
    assert len(curves(runs, "accuracy_uniform").axes) == 1


def test_published_numbers_are_drawn_on_the_test_like_theirs() -> None:
    runs = study_runs(["advmix"], [0.02, 0.03, 0.05], unit="color_variance")
    figure = curves(runs, "accuracy_shuffled", published(runs))
    grey = [line for line in figure.axes[0].lines if line.get_linestyle() == ":"]
    assert [np.asarray(line.get_ydata()).tolist() for line in grey] == [
        [0.4055, 0.5996, 0.845],
        [0.8185, 0.9137, 0.9618],
        [0.929],
    ]
    assert {"LNL, published", "CGN, published"} <= set(words(figure))
    assert any("not a strict comparison" in text for text in words(figure))
    assert not any("published" in text for text in words(curves(runs, "accuracy_uniform", published(runs))))


def test_published_numbers_stand_beside_their_own_kind_only() -> None:
    assert [row.label for row in published(study_runs(["advmix"], [0.02], unit="color_variance"))] == [
        "Baseline",
        "LNL",
        "CGN",
    ]
    assert [row.at(0.1) for row in published(study_runs(["advmix"], [0.1], look="double-colored"))] == [0.101, 0.866]
    for other in ({"unit": "color_std"}, {"data": "digits"}, {"target": "color"}):
        same: dict[str, Any] = {"unit": "color_variance", **other}
        assert published(study_runs(["advmix"], [0.02], **same)) == ()


def test_bars_show_what_was_published() -> None:
    runs = study_runs(["advmix"], [0.1], look="wildlife")
    figure = accuracy_figures(runs)["accuracy"]
    places = [
        [np.asarray(line.get_xdata())[0] for line in axes.lines if line.get_linestyle() == ":"] for axes in figure.axes
    ]
    assert places == [[], [0.108, 0.814], [], [], [], []]
    assert any("CGN 81.4" in text and "other textures" in text for text in words(figure))
    assert "training textures at random" in words(figure)


@pytest.mark.parametrize("key", ["generator", "worst_case_images"])
def test_worst_cases_that_do_not_compare_are_not_drawn(key: str) -> None:
    runs = study_runs(["nominal", "advmix"], STDS)
    runs[0][key] = "another"
    with pytest.raises(UserError, match=key):
        curves(runs, "accuracy_worst_case")
    with pytest.raises(UserError, match=key):
        accuracy_chart(runs[:4])


@given(st.lists(st.integers(0, 50), min_size=1, max_size=8), st.integers(1, 30), st.integers(0, 2**16))
def test_labels_are_apart_in_order_and_as_near_as_can_be(percents: list[int], apart: int, seed: int) -> None:
    """No other placement that keeps order and distance is nearer: compared with many at random."""
    wanted, pitch = [percent / 50 for percent in percents], apart / 100
    found = spread_apart(wanted, pitch, 0.0, 1.0)
    kept = min(pitch, 1 / max(len(wanted) - 1, 1))
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    placed = np.array([found[index] for index in order])
    assert placed[0] >= -1e-9
    assert placed[-1] <= 1 + 1e-9
    assert all(b - a >= kept - 1e-9 for a, b in pairwise(placed))
    rng = np.random.default_rng(seed)
    spare = 1 - kept * (len(wanted) - 1)
    others = np.sort(rng.uniform(0, max(spare, 0), (200, len(wanted))), axis=1) + kept * np.arange(len(wanted))
    best = np.square(placed - np.sort(wanted)).sum()
    assert best <= np.square(others - np.sort(wanted)).sum(axis=1).min() + 1e-9


def blocks(figure: Figure) -> list[Any]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_mean_colours_and_their_noise() -> None:
    figure = colors_figure(ColoredDigits(DataConfig()), [0.02, 0.3])
    shown = blocks(figure)
    assert len(shown) == 30
    for index, color in enumerate(MEAN_COLORS):
        np.testing.assert_allclose(shown[index], color.expand(8, 8, 3), atol=1e-6)
    noise = [np.abs(block[:8, :8] - shown[place % 10][0, 0]).mean() for place, block in enumerate(shown[10:])]
    assert 0 < np.mean(noise[:10]) < 0.05 < np.mean(noise[10:])
    assert {"red", "pink", "std 0.02", "std 0.3", "Mean"} <= set(words(figure))


def test_a_variance_is_the_square_of_a_standard_deviation() -> None:
    std = colors_figure(ColoredDigits(DataConfig(color_std=0.2)), [0.2])
    variance = colors_figure(ColoredDigits(DataConfig(color_variance=0.04)), [0.04])
    for one, other in zip(blocks(std), blocks(variance), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert "variance 0.04" in words(variance)


@pytest.mark.parametrize("look", ["double-colored", "wildlife"])
def test_other_looks_are_shown_on_digits(look: str) -> None:
    data = ColoredDigits(DataConfig(look=look))
    shown = blocks(colors_figure(data, [0.1]))
    assert len(shown) == 20
    first = data.gray_train.pixels[data.gray_train.labels == 3][:1].float() / 255
    if look == "double-colored":
        painted = data.look.paint(first, data.look.of_classes(torch.full((1, 2), 3), torch.Generator()))
        assert painted.shape[1] == 3
        digit, background = MEAN_COLORS[3], MEAN_COLORS[4]
        expected = first[0, 0, :, :, None] * digit + (1 - first[0, 0, :, :, None]) * background
        np.testing.assert_allclose(shown[3], expected, atol=1e-6)
    assert shown[3].std() > 0.05


def test_data_strip_says_what_is_special() -> None:
    def said(**settings: Any) -> str:
        return " ".join(words(data_figure(ColoredDigits(DataConfig(train_images=40, test_images=20, **settings)))))

    assert "each class has\nits own colour" in said()
    assert "each class has\nits own digit" in said(target="color")
    assert "magenta" in said(target="color")
    assert "both textures\nat random" in said(look="wildlife")


def test_mixing_is_named_after_the_layers() -> None:
    fine, coarse = Split(6, (4, 5)), Split(6, (0, 1, 2, 3))
    assert roles(fine, "colored") == ("its shape, z∥", "its colour, z⊥")
    assert roles(coarse, "colored") == ("its colour, z∥", "its shape, z⊥")
    assert roles(fine, "wildlife") == ("its coarse layers, z∥", "its fine layers, z⊥")
    assert roles(Split(6, (0, 5)), "colored") == roles(Split(6, (2, 3)), "colored") == ("z∥", "z⊥")


def test_every_method_has_a_name_a_colour_and_a_meaning() -> None:
    known = {name: style for name, style in styles.METHODS.items() if not name.endswith(REFIT)}
    assert known.keys() == {*METHODS, *CONTROLS, *celeba.METHODS, *celeba.CONTROLS}
    assert {name for name, style in known.items() if style.control} == {*CONTROLS, *celeba.CONTROLS}
    assert len({method_label(name) for name in styles.METHODS}) == len(styles.METHODS)
    assert all(known.meaning.endswith(".") for known in styles.METHODS.values())


def test_words_suit_look_and_target() -> None:
    assert columns([{"look": "colored"}]) == DIGIT_COLUMNS
    assert not any("colour" in column.hint for column in columns([{"look": "wildlife"}]))
    runs = study_runs(["advmix"], [0.1], accuracy_shuffled=0.99)
    assert looks_at(runs, "advmix") == "digit"
    assert looks_at([{**run, "target": "color"} for run in runs], "advmix") == "colour"
    lnl = study_runs(["advmix"], [0.02], unit="color_variance", target="color")
    assert {"target color", "colours with variance 0.02"} <= set(facts(lnl))
    assert "look colored" not in facts(lnl)


def test_figures_are_the_same_every_time() -> None:
    runs = study_runs(["nominal", "advmix"], STDS)
    one, other = (png(curves(runs, "accuracy_shuffled")) for _ in range(2))
    assert one == other
    assert imread(io.BytesIO(one)).ndim == 3
