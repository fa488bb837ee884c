"""The search study: what a mix is made of, the map of a search, the whole run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import cli
from torch import nn

from advmix.data.colored import ColoredDigits
from advmix.data.digits import make_painting
from advmix.encoders.autoencoder import load_autoencoder
from advmix.latents import Latents
from advmix.mixing import FINEST
from advmix.report.tables import schema
from advmix.training.gan import GanOptions, InvertOptions
from advmix.utils.config import load
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_json
from advmix.utils.torch_tools import generator
from experiments.cells import Origin, make_cell
from experiments.comparison import Measured, difference
from experiments.search.figures import Matrix, transfer_matrix
from experiments.search.generators import is_fitted
from experiments.search.grid import FOUND, TRACE
from experiments.search.measure import Bench, in_words, recoloring
from experiments.search.results import column, comparisons, curves_of, row_label
from experiments.search.study import SearchConfig
from experiments.search.trace import principal, shadow
from experiments.search.transfer import flat_paint

CPU = torch.device("cpu")
SMALL = ["--data", "digits", "--train-images", "96", "--test-images", "60", "--fit-steps", "10", "--epochs", "1"]
SMALL += ["--fit-batch", "16", "--worst-images", "6", "--worst-restarts", "3", "--worst-steps", "2", "--device", "cpu"]
SMALL += ["--step-counts", "0", "2", "3", "--restart-counts", "1", "4", "--radii", "0", "0.5", "None"]
SMALL += ["--methods", "nominal", "advmix", "--reference", "nominal", "--seeds", "3", "4"]


@pytest.mark.parametrize(
    "other",
    [
        {"restarts": 2},
        {"steps": 3},
        {"step_size": 0.3},
        {"radius": None},
        {"radius": 0.25},
        {"step": "gradient"},
        {"perp": (-1,)},
        {"perp_grid": True},
    ],
)
def test_every_setting_of_a_search_is_in_its_name(other: dict[str, Any]) -> None:
    assert in_words(replace(FINEST, **other), 0) != in_words(FINEST, 0)
    assert in_words(FINEST, 1) != in_words(FINEST, 0)


@pytest.mark.parametrize("look", ["colored", "double-colored"])
def test_flat_paint_finds_the_colours_of_a_recolouring(digits: ColoredDigits, look: str) -> None:
    gray = digits.gray_test.pixels[:20].float() / 255
    chosen = make_painting(look, 0.1)
    paints = chosen.anything(20, generator(0, "tests", "paints"))
    digit, ground, unexplained = flat_paint(chosen.paint(gray, paints), gray)
    torch.testing.assert_close(digit.float(), paints[:, :3])
    torch.testing.assert_close(ground.float(), paints[:, 3:] if look == "double-colored" else torch.zeros(20, 3))
    assert unexplained.max() < 1e-6


def test_flat_paint_equals_least_squares_one_by_one(digits: ColoredDigits) -> None:
    """Digits that are *not* recolourings of the grey ones they are held against."""
    gray, images = digits.gray_test.pixels[:6].float() / 255, digits.shuffled.batch(slice(10, 16))[0]
    paint, ground, unexplained = flat_paint(images, gray)
    for index in range(6):
        design = torch.stack([gray[index].flatten(), 1 - gray[index].flatten()], dim=1).double()
        pixels = images[index].flatten(1).T.double()
        solution = torch.linalg.lstsq(design, pixels).solution
        torch.testing.assert_close(torch.stack([paint[index], ground[index]]), solution)
        rest = (pixels - design @ solution).square().sum() / (pixels - pixels.mean(dim=0)).square().sum()
        torch.testing.assert_close(unexplained[index], rest)
    assert unexplained.min() > 0.05


def test_an_image_without_a_digit_is_unexplained(digits: ColoredDigits) -> None:
    gray = digits.gray_test.pixels[:1].float() / 255
    assert flat_paint(torch.full((1, 3, 16, 16), 0.3), gray)[2] == 1


def test_the_shadow_of_a_box_is_the_hull_of_its_corners() -> None:
    rng = generator(0, "tests", "shadow")
    widths, directions = torch.rand(6, generator=rng) + 0.1, torch.randn(6, 2, generator=rng)
    corners = torch.tensor(list(product((-1.0, 1.0), repeat=6))) * widths @ directions
    outline = shadow(widths, directions)
    assert len(outline) == 12
    assert torch.cdist(outline, corners, compute_mode="donot_use_mm_for_euclid_dist").min(dim=1).values.max() < 1e-5
    edges = outline.roll(-1, 0) - outline
    inward = corners[:, None] - outline[None]
    assert (edges[:, 0] * inward[..., 1] - edges[:, 1] * inward[..., 0]).min() > -1e-4


def test_principal_components_equal_those_of_torch() -> None:
    points = torch.randn(200, 5, generator=generator(0, "tests", "pca")) @ torch.diag(torch.tensor([1, 4, 0.5, 2, 0.1]))
    mean, directions, explained = principal(points)
    _, values, vectors = torch.linalg.svd((points - points.mean(dim=0)).double(), full_matrices=False)
    assert (directions * vectors[:2].T).sum(dim=0).abs().min() > 1 - 1e-6
    torch.testing.assert_close(explained, values[:2] ** 2 / (values**2).sum())
    torch.testing.assert_close(mean, points.double().mean(dim=0))
    assert bool((directions.gather(0, directions.abs().argmax(dim=0, keepdim=True)) > 0).all())


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("search")
    assert cli(["study", "search", *SMALL, "--cells", str(root / "cells"), "--out", str(root / "out")]) == 0
    return root


def results_of(out: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((out / "results.json").read_text())
    return parsed


def bench_of(study: Path, seed: int) -> Bench:
    config = load(study / "out" / "config.json", "study search", SearchConfig)
    cell = make_cell(study / "cells", config.data_config(), seed, config)
    return Bench(cell, config.worst_images, CPU)


def test_everything_is_written(study: Path) -> None:
    results = results_of(study / "out")
    jsonschema.validate(results, schema())
    figures = {path.stem for path in (study / "out" / "figures").iterdir()}
    assert figures == {"saturation", "recolouring", "leaves", "found", "transfer", "steps-nominal", "steps-advmix"}
    assert len(results["saturation"]) == 2 * 2 * (2 + 3 + 3)
    assert len(results["transfer"]) == 2 * 3 * 4
    assert [(found["seed"], found["regime"]) for found in results["generators"][:3]] == [
        (3, "own"),
        (3, "seed"),
        (3, "grid"),
    ]
    assert len({found["fingerprint"] for found in results["generators"]}) == 6


def test_the_own_column_is_what_evaluate_measures(study: Path) -> None:
    """The same images, donors and verdicts as `advmix evaluate` with the same settings, found another way."""
    for method in ("nominal", "advmix"):
        (run,) = bench_of(study, 4).cell.evaluate(method)["runs"]
        (found,) = [
            record
            for record in results_of(study / "out")["transfer"]
            if (record["method"], record["trained_with"], record["generator"], record["seed"])
            == (method, "own", "own", 4)
        ]
        for key in ("accuracy_worst_case", "accuracy_reconstruction"):
            assert found[key] == run[key]
        (held,) = [r for r in results_of(study / "out")["recolouring"] if (r["method"], r["seed"]) == (method, 4)]
        assert held["accuracy_recolor_worst"] == run["accuracy_recolor_worst"]


def test_curves_meet_at_the_setting_they_share(study: Path) -> None:
    """No step is a box of no width; the study's setting is on the axes of steps and radius."""
    records = results_of(study / "out")["saturation"]
    for method, place in product(("nominal", "advmix"), (0, 1)):
        steps, radii, restarts = (curves_of(records, method, axis)[place] for axis in ("steps", "radius", "restarts"))
        assert [record["steps"] for record in steps] == [0, 2, 3]
        assert [record["radius"] for record in radii] == [0, 0.5, None]
        assert steps[1]["key"] == radii[1]["key"]
        for value in ("accuracy_worst_case", "loss"):
            assert steps[1][value] == radii[1][value]
            assert steps[0][value] == radii[0][value]
        for curve in (steps, restarts):
            losses = [record["loss"] for record in curve]
            assert losses == sorted(losses)
        assert restarts[0]["loss"] < restarts[-1]["loss"]


def test_each_column_is_one_comparison_and_columns_are_not(study: Path) -> None:
    transfer = results_of(study / "out")["transfer"]
    for regime in ("own", "seed", "grid"):
        assert [len(values) for values in column(transfer, regime).values()] == [2] * 4
    first = [record for record in transfer if record["method"] == "nominal" and record["seed"] == 3]
    assert len({json.dumps(record["key"]) for record in first}) == 3
    with pytest.raises(UserError, match="under different generator"):
        difference(*(Measured.of(record) for record in first[:2]))


def test_differences_are_taken_seed_by_seed(study: Path) -> None:
    results = results_of(study / "out")
    transfer = results["transfer"]
    found = comparisons(transfer, results["saturation"])
    assert found == results["comparisons"]
    (entry,) = [
        row for row in found["classifiers"] if (row["generator"], row["second"]) == ("grid", ["advmix", "grid"])
    ]
    numbers = column(transfer, "grid")
    for value, mine, theirs in zip(entry["values"], numbers["advmix", "own"], numbers["advmix", "grid"], strict=True):
        assert value == pytest.approx(mine - theirs, abs=1e-6)
    assert all(row["mean"] >= 0 for row in found["searches"] if row["axis"] != "radius")


@pytest.mark.parametrize("name", ["transfer-advmix-seed", "saturation-nominal", "found-advmix", "recolouring-advmix"])
def test_a_number_from_elsewhere_is_refused(study: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A point whose pool is another one: the run ends with one line, and gives no table."""
    path = study / "out" / "points" / f"{name}-seed4.json"
    kept = path.read_text()
    point = json.loads(kept)
    point["records"][0]["key"]["pool"] = "another"
    write_json(path, point)
    again = ["study", "search", *SMALL, "--cells", str(study / "cells"), "--out", str(study / "out")]
    try:
        assert cli(again) == 2
    finally:
        path.write_text(kept)
    assert "worst cases under different pool" in capsys.readouterr().err


def test_recolourings_in_the_generator_equal_brute_force(study: Path) -> None:
    bench = Bench(bench_of(study, 3).cell, 2, CPU)
    judge, _ = bench.classifier("advmix")
    model, grid = bench.searched().model, bench.data.look.grid()
    right = {"decoded": 0, "mixed": 0}
    with torch.no_grad():
        for index, label in enumerate(bench.labels.tolist()):
            gray = bench.gray.pixels[index].float() / 255
            own = model.encoder(bench.images[index : index + 1])
            painted = [model.encoder((gray * color[:, None, None])[None]) for color in grid]
            mixed = [Latents(torch.cat([own.styles[:, :-2], code.styles[:, -2:]], dim=1)) for code in painted]
            for name, codes in (("decoded", painted), ("mixed", mixed)):
                answers = [int(judge(model.generator(code)).argmax()) for code in [own, *codes]]
                right[name] += answers == [label] * 49
    found = recoloring(bench, "advmix")
    assert {name: found[f"accuracy_recolor_{name}"] * 2 for name in right} == right


def test_the_trace_shows_what_the_search_saw(study: Path) -> None:
    tensors, _ = read_tensors(study / "out" / "points" / "trace-advmix-seed3.safetensors", TRACE)
    bench = bench_of(study, 3)
    judge, _ = bench.classifier("advmix")
    searched = bench.searched()
    assert torch.equal(tensors["original"], bench.images[0])
    with torch.no_grad():
        logits = judge(tensors["images"].flatten(0, 1))
    losses = nn.functional.cross_entropy(logits, tensors["label"].expand(9), reduction="none")
    torch.testing.assert_close(losses.view(3, 3), tensors["losses"], atol=1e-4, rtol=1e-4)
    assert torch.equal(logits.argmax(dim=1).view(3, 3), tensors["predictions"])
    assert bool((tensors["losses"].amax(dim=0) > tensors["losses"][0]).all())
    pool = bench.split(searched).perp_of(searched.pool)
    mean, directions, _ = principal(pool)
    places = ((pool - mean) @ directions).float()
    assert (tensors["path"][0][:, None] - places).norm(dim=2).min(dim=1).values.max() < 1e-4
    torch.testing.assert_close(tensors["cloud"], places, atol=1e-5, rtol=1e-5)
    brightest = bench.data.train.batch(slice(None))[0].amax(dim=(2, 3))
    whitest = bench.data.gray_train.pixels.float().flatten(1).amax(dim=1) / 255
    torch.testing.assert_close(tensors["colors"] * whitest[:, None], brightest, atol=0.01, rtol=0)


def test_worst_mixes_are_read_by_the_next_seeds_reference(study: Path) -> None:
    for seed, other in ((3, 4), (4, 3)):
        tensors, _ = read_tensors(study / "out" / "points" / f"found-advmix-seed{seed}.safetensors", FOUND)
        reader = bench_of(study, other)
        answers = reader.read(reader.classifier("nominal")[0], tensors["variations"]).argmax(dim=1)
        assert torch.equal(answers, tensors["reference"])
        (record,) = [r for r in results_of(study / "out")["found"] if (r["method"], r["seed"]) == ("advmix", seed)]
        assert record["accuracy_reference"] == float((answers == tensors["labels"]).double().mean())


def test_generators_differ_and_their_data_do_not(study: Path) -> None:
    bench = bench_of(study, 3)
    own, other, grid = (bench._searched(regime) for regime in ("own", "seed", "grid"))
    assert len({own.name, other.name, grid.name}) == len({own.pool_name, other.pool_name, grid.pool_name}) == 3
    assert own.model.config == other.model.config != grid.model.config
    assert own.latents.grid is None
    assert grid.latents.grid is not None
    assert own.mixable.metadata["data_fingerprint"] == grid.mixable.metadata["data_fingerprint"]
    assert is_fitted(bench.cell, "grid")


def test_a_stopped_study_does_only_what_is_missing(study: Path) -> None:
    out, before = study / "out", results_of(study / "out")
    points = sorted((out / "points").glob("*.json"))
    missing = out / "points" / "saturation-nominal-seed4.json"
    missing.unlink()
    kept = {path: path.stat().st_mtime_ns for path in points if path != missing}
    assert cli(["study", "search", *SMALL, "--cells", str(study / "cells"), "--out", str(out)]) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    after = results_of(out)
    changed = {"phases": None, "sha256": None}
    assert {**after, **changed} == {**before, **changed}


def test_the_saved_config_runs_it_again_with_the_same_numbers(study: Path, tmp_path: Path) -> None:
    """From nothing but the cells' seeds: the cells are made anew too."""
    again = ["--seeds", "3", "--methods", "advmix", "--generators", "own", "--cells", str(tmp_path / "cells")]
    saved = str(study / "out" / "results.json")
    assert cli(["study", "search", "--config", saved, *again, "--out", str(tmp_path / "out")]) == 0
    first, second = results_of(study / "out"), results_of(tmp_path / "out")
    assert second["saturation"] == [r for r in first["saturation"] if (r["method"], r["seed"]) == ("advmix", 3)]
    assert len(second["transfer"]) == 1


def test_rows_are_called_by_method_and_generator() -> None:
    assert row_label(("advmix", "own")) == "AdvMix"
    assert row_label(("advmix", "seed")) == "AdvMix, other seed"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "magic"], "magic"),
        (["--reference", "magic"], "magic"),
        (["--generators", "own", "vae"], "--generators vae: unknown; choose from own seed grid gan"),
        (["--generators", "seed", "own"], "begin with own"),
        (["--step-counts", "-1"], "--step-counts -1: each must be at least 0"),
        (["--restart-counts", "0"], "--restart-counts 0: each must be at least 1"),
        (["--radii", "0.5", "0.5"], "--radii 0.5 0.5: name at least one, and none twice"),
        (["--radii", "nan"], "--radii nan: each must be at least 0, and finite"),
        (["--seeds", "1", "1"], "--seeds 1 1"),
        (["--data", "digits", "--perp", "9"], "--perp 9: outside the network"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli(["study", "search", *flags, "--out", str(tmp_path / "out"), "--cells", str(tmp_path / "cells")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_stylegan_is_searched_with_and_shared_with_the_pipeline(study: Path, tmp_path: Path) -> None:
    gan = ["--gan-steps", "3", "--gan-batch", "4", "--invert-steps", "3", "--invert-batch", "4", "--seeds", "3"]
    places = ["--cells", str(study / "cells"), "--out", str(tmp_path / "out")]
    assert cli(["study", "search", *SMALL, *gan, "--generators", "own", "gan", *places]) == 0
    results = results_of(tmp_path / "out")
    jsonschema.validate(results, schema())
    rows = {(record["method"], record["trained_with"], record["generator"]) for record in results["transfer"]}
    classifiers = (("nominal", "own"), ("advmix", "own"), ("advmix", "gan"))
    assert rows == {(*row, regime) for row in classifiers for regime in ("own", "gan")}
    own, other = (found["fingerprint"] for found in results["generators"])
    assert own == results_of(study / "out")["generators"][0]["fingerprint"]
    options = Origin("gan", gan=GanOptions(gan_steps=3, gan_batch=4), invert=InvertOptions(3, 4))
    config = load(tmp_path / "out" / "config.json", "study search", SearchConfig)
    cell = make_cell(study / "cells", config.data_config(), 3, config, options)
    assert other == load_autoencoder(cell.fitted)[1]["fingerprint"]
    written = (cell.place("advmix") / "classifier.safetensors").stat().st_mtime_ns
    cell.fit()
    cell.train("advmix")
    assert (cell.place("advmix") / "classifier.safetensors").stat().st_mtime_ns == written


@pytest.mark.parametrize("generators", [2, 3])
def test_no_text_of_the_transfer_matrix_is_cut_off(generators: int) -> None:
    numbers = [[[0.5, 0.6]] * generators] * 3
    figure = transfer_matrix(
        Matrix(["a", "b", "c"], ["own", "seed", "grid"][:generators], numbers, numbers, frozenset())
    )
    whole = figure.bbox
    for text in figure.texts:
        extent = text.get_window_extent()
        assert whole.x0 <= extent.x0 <= extent.x1 <= whole.x1, text.get_text()
        assert whole.y0 <= extent.y0 <= extent.y1 <= whole.y1, text.get_text()
