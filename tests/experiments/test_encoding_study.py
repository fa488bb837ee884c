"""The study of the encoders: what it measures against literal loops, its files, and going on where it was stopped."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from running import cli
from torch import Tensor

from advmix.data.colored import ColoredDigits
from advmix.encoders.network import Encoder
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.latents import Latents, Split
from advmix.utils.files import read_tensors, write_tensors
from experiments.encoding.figures import error_curves, mixability_bars
from experiments.encoding.measure import (
    BATCH,
    Mixed,
    bright_color,
    color_numbers,
    cross,
    label_numbers,
    mean_squares,
    trace,
    trace_steps,
)
from tiny import SPATIAL, VECTOR, make_classifier, make_generator, make_latents, no_gradients

SMALL = ["--data", "digits", "--train-images", "80", "--test-images", "40", "--fit-steps", "12", "--epochs", "1"]
SMALL += ["--images", "12", "--pool-images", "7", "--donors", "3", "--optimize-steps", "4", "--device", "cpu"]
SEEDS = ["--seeds", "3", "4"]
ENCODERS = ["network", "mean", "mean-no-mixing", "refine", "refine-no-mixing"]


class Guess(Encoder):
    """Always the same latents."""

    def __init__(self, latents: Latents) -> None:
        super().__init__()
        self.latents = latents

    def encode_signed(self, images: Tensor) -> Latents:
        return self.latents[: len(images)]


def images_of(count: int) -> Tensor:
    with torch.no_grad():
        images: Tensor = make_generator()(make_latents(VECTOR, count, seed=1))
    return images


def make_encoder(steps: int = 4, start: Encoder | None = None) -> OptimizeEncoder:
    options = OptimizeOptions(optimize_steps=steps)
    return OptimizeEncoder(make_generator(), Split.fine(6, 2), make_latents(VECTOR, 9, seed=2), None, start, options)


def test_trace_steps_begin_at_zero_and_end_at_the_last() -> None:
    assert trace_steps(200) == (0, 1, 2, 3, 5, 7, 10, 20, 30, 50, 70, 100, 200)
    assert trace_steps(25) == (0, 1, 2, 3, 5, 7, 10, 20, 25)
    assert trace_steps(1) == (0, 1)


def test_an_optimisation_is_traced_image_by_image() -> None:
    images, encoder = images_of(BATCH + 3), make_encoder()
    done: list[int] = []
    traced = trace(encoder, encoder.generator, images, 2, done.append)
    assert done == [BATCH, 3]
    assert traced.steps == (0, 1, 2, 3, 4)
    assert traced.errors.shape == (5, BATCH + 3)
    assert traced.frames.shape == (5, 2, 3, 8, 8)
    with torch.no_grad():
        last = encoder.generator(traced.latents)
        start = encoder.generator(Latents(encoder.pool.styles.mean(0, keepdim=True)))
    for index in (0, BATCH - 1, BATCH, BATCH + 2):
        torch.testing.assert_close(traced.errors[-1, index], ((2 * last - 2 * images)[index] ** 2).mean())
        torch.testing.assert_close(traced.errors[0, index], ((2 * start[0] - 2 * images[index]) ** 2).mean())
    torch.testing.assert_close(traced.frames[-1], last[:2])
    alone = encoder(images[-1:])
    torch.testing.assert_close(alone.styles, traced.latents.styles[-1:])


def test_times_of_a_trace_never_fall() -> None:
    encoder = make_encoder(steps=6)
    found = encoder.optimize(images_of(3) * 2 - 1, frame_steps=(0, 2, 6))
    assert len(found.frame_seconds) == len(found.frame_steps) == 3
    assert 0 < found.frame_seconds[0] <= found.frame_seconds[1] <= found.frame_seconds[2]
    milliseconds = trace(encoder, encoder.generator, images_of(3), 1).milliseconds
    assert milliseconds.shape == (6,)
    assert (milliseconds.diff() >= 0).all()


def test_a_network_is_done_at_step_zero_with_the_error_of_its_reconstructions() -> None:
    generator, images = make_generator(), images_of(5)
    guess = Guess(make_latents(VECTOR, 5, seed=7))
    traced = trace(guess, generator, images, 3)
    assert traced.steps == (0,)
    assert torch.equal(traced.latents.styles, guess.latents.styles)
    with torch.no_grad():
        torch.testing.assert_close(traced.errors[0], mean_squares(generator(guess.latents), images))
    assert traced.frames.shape == (1, 3, 3, 8, 8)
    assert traced.milliseconds[0] > 0


def test_a_refinement_begins_with_the_networks_error() -> None:
    images, guess = images_of(4), Guess(make_latents(VECTOR, 4, seed=7))
    encoder = make_encoder(start=guess)
    refined, network = (trace(part, encoder.generator, images, 1) for part in (encoder, guess))
    torch.testing.assert_close(refined.errors[0], network.errors[0])
    assert (refined.errors[-1] < refined.errors[0]).all()


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])
def test_mixes_are_those_of_a_literal_loop(config: Any) -> None:
    generator, reference, split = make_generator(config), make_classifier(), Split.fine(config.layers, 2)
    latents, pool = make_latents(config, 4, seed=1), make_latents(config, 5, seed=2)
    labels, donors = torch.tensor([0, 1, 2, 1]), torch.tensor([[0, 4, 2, 2], [3, 1, 0, 4], [2, 2, 1, 0]])
    mixed = cross(reference, generator, split, latents, labels, pool, donors, shown=2)
    assert reference.training
    assert no_gradients(generator, reference)
    reference.eval()
    for row in range(3):
        for image in range(4):
            code = split.combine(latents[image : image + 1], pool[donors[row, image].view(1)])
            with torch.no_grad():
                picture = generator(code)
                answer = reference(picture).argmax()
                plain = reference(generator(latents[image : image + 1])).argmax()
            assert mixed.predictions[row, image] == answer
            assert mixed.right[image] == (plain == labels[image])
            torch.testing.assert_close(mixed.colors[row, image], bright_color(picture)[0])
            if image < 2:
                torch.testing.assert_close(mixed.pictures[row, image], picture[0])


def test_bright_colour_is_the_paint_but_for_its_brightness(digits: ColoredDigits) -> None:
    paint = torch.tensor([1.0, 0.5, 0.1])
    images = digits.gray_test.painted(digits.look, paint.repeat(60, 1)).batch(slice(None))[0]
    found = bright_color(images)
    torch.testing.assert_close(found / found[:, :1], paint.repeat(60, 1), rtol=0, atol=0.01)
    assert found[:, 0].min() > 0.7


def test_bright_colour_is_the_mean_of_the_brightest_pixels() -> None:
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for image, found in zip(images, bright_color(images), strict=True):
        pixels = sorted(image.flatten(1).T.tolist(), key=lambda pixel: -sum(pixel))[:3]  # a twentieth of 64
        torch.testing.assert_close(found, torch.tensor(pixels, dtype=torch.float64).mean(0))


def mixed_of(right: list[bool], predictions: list[list[int]], colors: Tensor) -> Mixed:
    plain = torch.zeros(len(right), 3)
    return Mixed(torch.tensor(right), torch.tensor(predictions), colors, plain, torch.empty(0))


def test_only_what_was_right_unmixed_counts_for_mixability() -> None:
    labels = torch.tensor([0, 1, 2])
    mixed = mixed_of([True, True, False], [[0, 1, 0], [0, 2, 2]], torch.zeros(2, 3, 3))
    numbers = label_numbers(mixed, labels, torch.tensor([[0, 2, 0], [1, 2, 1]]))
    assert numbers["accuracy_reconstruction"] == pytest.approx(2 / 3)
    assert numbers["mixability"] == pytest.approx(3 / 4)
    assert numbers["accuracy_mix"] == pytest.approx(4 / 6)
    assert numbers["label_of_donor"] == pytest.approx(2 / 5)  # one donor has its image's own label


def test_without_a_right_reconstruction_there_is_no_mixability() -> None:
    mixed = mixed_of([False], [[0]], torch.zeros(1, 1, 3))
    assert label_numbers(mixed, torch.tensor([1]), torch.tensor([[1]]))["mixability"] is None


def test_colour_is_compared_where_own_and_donors_differ() -> None:
    own = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])
    donor = torch.tensor([[[0, 0, 1.0], [0, 0, 1.0], [0, 0, 0.9]]])
    got = torch.tensor([[[0, 0, 0.8], [0, 0.9, 0], [0, 0, 1.0]]])
    numbers = color_numbers(mixed_of([True] * 3, [[0, 0, 0]], got), own, donor)
    assert numbers["color_follows"] == pytest.approx(0.5)
    assert numbers["color_error_mix"] == pytest.approx((0.2 + (0.81 + 1) ** 0.5 + 0.1) / 3)
    assert numbers["color_error_reconstruction"] == pytest.approx(1.0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("encoding")
    assert run(root) == 0
    return root


def run(root: Path, *more: str, out: str = "out") -> int:
    return cli(["study", "encoding", *SMALL, *SEEDS, "--cells", str(root / "cells"), "--out", str(root / out), *more])


def results_of(root: Path, out: str = "out") -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((root / out / "results.json").read_text())
    return parsed


def numbers(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What was measured, without its times."""
    runs = [{key: run[key] for key in run if key not in ("seconds", "milliseconds")} for run in results["encodings"]]
    return [run | {"trace": {**run["trace"], "milliseconds": None}} for run in runs]


def test_every_encoder_of_every_seed_is_there(study: Path) -> None:
    results = results_of(study)
    assert [(run["seed"], run["encoder"]) for run in results["encodings"]] == [
        (seed, name) for seed in (3, 4) for name in ENCODERS
    ]
    assert [run["reference_seed"] for run in results["encodings"]] == [4] * 5 + [3] * 5
    assert results["study"] == "encoding"
    assert results["config"]["command"] == "study encoding"
    for run in results["encodings"]:
        assert run["trace"]["error"][-1] == run["error"]
        assert run["trace"]["steps"] == ([0] if run["encoder"] == "network" else [0, 1, 2, 3, 4])
        assert 0 <= run["accuracy_mix"] <= 1


def test_the_mixing_loss_is_what_sets_the_pairs_apart(study: Path) -> None:
    by_name = {run["encoder"]: run["trace"]["error"] for run in results_of(study)["encodings"] if run["seed"] == 3}
    for start in ("mean", "refine"):
        assert by_name[start][0] == by_name[f"{start}-no-mixing"][0]
        assert by_name[start][-1] != by_name[f"{start}-no-mixing"][-1]
    assert by_name["refine"][0] == pytest.approx(by_name["network"][0], rel=1e-4)


def test_figures_are_written(study: Path) -> None:
    assert {path.name for path in (study / "out" / "figures").iterdir()} == {
        "error.png",
        "mixability.png",
        "convergence.png",
        "variations.png",
    }


def test_a_stopped_study_does_only_what_is_missing_damaged_or_of_another_generator(study: Path) -> None:
    before, folder = results_of(study), study / "out" / "seed3"
    parts = {path: path.stat().st_mtime_ns for path in (study / "out").glob("seed*/*.safetensors")}
    again = {folder / f"{name}.safetensors" for name in ("network", "mean", "refine")}
    assert len(parts) == 10
    (folder / "network.safetensors").write_bytes(b"damaged")
    tensors, kept = read_tensors(folder / "mean.safetensors", "encoding")
    write_tensors(folder / "mean.safetensors", "encoding", tensors, kept | {"generator": "0" * 16, "error": 0.0})
    (folder / "refine.safetensors").unlink()
    (study / "out" / "results.json").unlink()
    assert run(study) == 0
    assert numbers(results_of(study)) == numbers(before)
    assert {path for path, when in parts.items() if path.stat().st_mtime_ns != when} == again


def test_features_change_what_is_found(study: Path) -> None:
    assert run(study, "--features", "nominal", "--seeds", "3", out="features") == 0
    plain, found = results_of(study)["encodings"][:5], results_of(study, "features")["encodings"]
    assert [run["reference_seed"] for run in found] == [3] * 5
    assert found[0]["error"] == plain[0]["error"]
    assert all(a["error"] != b["error"] for a, b in zip(found[1:], plain[1:], strict=True))
    shutil.rmtree(study / "features")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--mixing-weight", "0"], "--mixing-weight 0.0: must be more than 0"),
        (["--optimize-steps", "0"], "--optimize-steps 0: must be at least 1"),
        (["--seeds", "1", "1"], "--seeds 1 1: name at least one, and none twice"),
        (["--donors", "60"], "--donors 60: more than --pool-images 50 to draw them from"),
        (["--images", "0"], "--images 0: must be at least 1"),
        (["--features", "vgg"], "method 'vgg': unknown"),
        (["--look", "plaid"], "--look plaid: unknown"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli(["study", "encoding", *flags, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"advmix: {words}")
    assert not (tmp_path / "out").exists()


def test_charts_show_what_the_runs_say(study: Path) -> None:
    runs = results_of(study)["encodings"]
    texts = {text.get_text() for axes in mixability_bars(runs).axes for text in axes.texts}
    mean = sum(run["error"] for run in runs if run["encoder"] == "mean") / 2
    assert f"{mean:#.2g}" in texts
    for run in runs:
        run["mixability"] = None
    bars = mixability_bars(runs)
    assert sum(text.get_text() == "–" for axes in bars.axes for text in axes.texts) == 5
    curves = error_curves(runs)
    assert np.asarray(curves.axes[0].lines[1].get_xdata()).tolist() == [0]  # the network's star, after its level
    assert np.asarray(curves.axes[0].lines[2].get_ydata())[-1] == pytest.approx(mean)
