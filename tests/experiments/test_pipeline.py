"""The paper's own pipeline beside the autoencoder: cells of another origin, what is compared with what, the study."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import cli
from torch.nn import functional as F

from advmix.classifiers.networks import load_classifier
from advmix.commands.demo import RunSettings
from advmix.commands.fit import FitConfig
from advmix.data.settings import DataConfig
from advmix.encoders.optimize import OptimizeOptions
from advmix.mixing import FINEST, SearchOptions
from advmix.report.tables import schema
from advmix.training.autoencode import FitOptions
from advmix.training.encoding import EncodeConfig, pool_encoder
from advmix.training.features import PenultimateFeatures, frechet_distance
from advmix.training.gan import GanOptions
from advmix.utils.config import load, to_dict
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator
from experiments.cells import Origin, make_cell
from experiments.comparison import Measured, difference
from experiments.pipeline.measure import Line, classifier_table, comparisons, quality_table, training
from experiments.pipeline.study import PipelineConfig

CPU = torch.device("cpu")
PIPELINES = ("autoencoder", "gan", "gan-refine", "gan-features")
METHODS = ("nominal", "randmix", "advmix")
SMALL = ["--data", "digits", "--train-images", "80", "--test-images", "40", "--fit-steps", "10", "--epochs", "1"]
SMALL += ["--gan-steps", "4", "--gan-batch", "8", "--invert-steps", "4", "--invert-batch", "8"]
SMALL += ["--optimize-steps", "5", "--worst-images", "8", "--worst-restarts", "2", "--worst-steps", "1"]
SMALL += ["--images", "10", "--donors", "2", "--pool-images", "5", "--seeds", "3", "4", "--device", "cpu"]


def run(root: Path, *more: str) -> int:
    return cli(["study", "pipeline", *SMALL, "--cells", str(root / "cells"), "--out", str(root / "out"), *more])


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    assert run(root) == 0
    return root


def results_of(root: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((root / "out" / "results.json").read_text())
    return parsed


def line_of(root: Path, pipeline: str, seed: int = 3) -> Line:
    lines = load(root / "out" / "config.json", "study pipeline", PipelineConfig).lines()
    (found,) = [line for line in lines if (line.pipeline, line.cell.seed) == (pipeline, seed)]
    return found


def picked(records: list[dict[str, Any]], **wanted: Any) -> list[dict[str, Any]]:
    return [record for record in records if record.items() >= wanted.items()]


def test_everything_is_written(study: Path) -> None:
    results = results_of(study)
    jsonschema.validate(results, schema())
    assert [(run["seed"], run["pipeline"], run["method"]) for run in results["runs"]] == [
        (seed, pipeline, method) for seed in (3, 4) for pipeline in PIPELINES for method in METHODS
    ]
    assert [(found["seed"], found["pipeline"], found["reference_seed"]) for found in results["pipelines"]] == [
        (seed, pipeline, judge) for seed, judge in ((3, 4), (4, 3)) for pipeline in PIPELINES
    ]
    figures = {path.stem for path in (study / "out" / "figures").iterdir()}
    assert figures == {"accuracy", "samples", *(f"mixing-{pipeline}" for pipeline in PIPELINES)}


def test_what_no_pipeline_has_a_part_in_is_trained_once(study: Path) -> None:
    """One nominal classifier stands in every section; its worst cases are those of each pipeline."""
    for seed in (3, 4):
        nominal = picked(results_of(study)["runs"], method="nominal", seed=seed)
        assert len({found["classifier"] for found in nominal}) == 1
        assert len({found["accuracy_shuffled"] for found in nominal}) == 1
        assert len({found["key"]["pool"] for found in nominal}) == len(PIPELINES)
    trained = {path.parent.name for path in (study / "cells").glob("*-gan-seed3/**/classifier.safetensors")}
    assert trained == {"randmix", "advmix"}


def test_all_encoders_share_one_stylegan_and_have_pools_of_their_own(study: Path) -> None:
    runs = picked(results_of(study)["runs"], seed=3, method="advmix")
    plain, *gans = (picked(runs, pipeline=name)[0] for name in PIPELINES)
    assert {gan["generator"] for gan in gans} == {gans[0]["generator"]} != {plain["generator"]}
    assert len({gan["key"]["pool"] for gan in gans}) == len({gan["classifier"] for gan in gans}) == len(gans)
    cells = {path.parent.parent.name for path in (study / "cells").glob("*/fit/generator.safetensors")}
    assert cells == {f"digits-80-std0.1{regime}-seed{seed}" for regime in ("", "-gan") for seed in (3, 4)}


def test_algorithm_2_encodes_the_whole_training_set_and_improves_on_the_guess(study: Path) -> None:
    line = line_of(study, "gan-refine")
    mixable, images = line.cell.mixable(CPU), line.cell.check().train
    assert mixable.index["encoder"] == "refine"
    assert len(mixable.pool) == len(images) == 80
    guess = line_of(study, "gan").cell.mixable(CPU).pool
    pixels = images.batch(slice(None))[0]
    with torch.no_grad():
        refined, guessed = (F.mse_loss(mixable.model.generator(pool), pixels) for pool in (mixable.pool, guess))
    assert refined < guessed


def test_features_are_those_of_the_discriminator_that_trained_the_generator(study: Path) -> None:
    """In the pool and in the quality alike; by pixels alone the codes come nearer to the pixels."""
    cell = line_of(study, "gan-features").cell
    found = load(cell.latents / "config.json", "encode", EncodeConfig)
    assert found.features == str(cell.fitted)
    assert (cell.fitted / "discriminator.safetensors").is_file()
    by_pixels, by_features = (
        picked(results_of(study)["pipelines"], pipeline=name, seed=3)[0] for name in ("gan-refine", "gan-features")
    )
    assert by_pixels["generator"] == by_features["generator"]
    assert by_pixels["error"] < by_features["error"]


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_the_encoder_of_a_pool_makes_it_again(study: Path, pipeline: str) -> None:
    cell = line_of(study, pipeline).cell
    mixable, images = cell.mixable(CPU), cell.check().train
    encoder = pool_encoder(cell.latents, mixable.model, images, CPU)
    again = encoder(images.batch(slice(10, 14))[0])
    torch.testing.assert_close(again.styles, mixable.pool.styles[10:14], rtol=0, atol=1e-3)  # Adam magnifies rounding


def test_worst_cases_compare_within_a_pipeline_only(study: Path) -> None:
    results = results_of(study)
    runs = picked(results["runs"], seed=3)
    numbers = {(found["pipeline"], found["method"]): Measured.of(found) for found in runs}
    for pipeline, other, words in (("autoencoder", "gan", "generator"), ("gan", "gan-refine", "pool")):
        with pytest.raises(UserError, match=f"under different {words}"):
            difference(numbers[pipeline, "advmix"], numbers[other, "advmix"])
    assert len(results["comparisons"]) == len(PIPELINES) * 3
    for entry in results["comparisons"]:
        for seed, value in zip((3, 4), entry["values"], strict=True):
            first, second = (
                picked(results["runs"], pipeline=entry["pipeline"], method=entry[name], seed=seed)[0]
                for name in ("first", "second")
            )
            assert value == pytest.approx(first["accuracy_worst_case"] - second["accuracy_worst_case"])


@pytest.mark.parametrize(
    ("circumstance", "words"),
    [("generator", "compare only under one generator"), ("pool", "under different pool")],
)
def test_a_worst_case_from_elsewhere_gives_no_table(study: Path, circumstance: str, words: str) -> None:
    runs = results_of(study)["runs"]
    runs[1]["key"][circumstance] = "another"
    if circumstance == "generator":
        runs[1]["generator"] = "another"
    for refused in (classifier_table, comparisons):
        with pytest.raises(UserError, match=words if refused is classifier_table else "under different"):
            refused(runs)


def test_generators_are_judged_by_the_next_seeds_ceiling(study: Path) -> None:
    """Distances and shares against plain recomputations, in other batches."""
    line, results = line_of(study, "gan"), results_of(study)
    (found,) = picked(results["pipelines"], pipeline="gan", seed=3)
    network, metadata = load_classifier(study / "cells" / "digits-80-std0.1-seed4" / "ceiling")
    assert metadata["method"] == "ceiling"
    mixable, images = line.cell.mixable(CPU), line.cell.check().train.batch(slice(None))[0]
    dec = mixable.model.generator
    with torch.no_grad():
        made: Any = dec
        samples = dec(made.sample(80, generator(3, "judged"), mixing=0))
        rng = generator(3, "judged")
        thousand = [dec(made.sample(count, rng, mixing=0)) for count in (256, 256, 256, 232)]
        decoded, answers = dec(mixable.pool), torch.cat([network(part).argmax(dim=1) for part in thousand])
    features = PenultimateFeatures(network)
    parts = list(images.split(33))
    assert found["frechet_samples"] == pytest.approx(frechet_distance(parts, samples.split(7), features), rel=1e-3)
    distance = frechet_distance(parts, decoded.split(7), features)
    assert found["frechet_reconstruction"] == pytest.approx(distance, rel=1e-3)
    assert list(found["class_shares"].values()) == [float((answers == label).double().mean()) for label in range(10)]
    assert found["class_shares_samples"] == len(answers) == 1000
    for other in picked(results["pipelines"], pipeline="autoencoder"):
        assert other["frechet_samples"] is other["class_shares"] is None
        assert other["frechet_reconstruction"] > 0


def test_tables_hold_every_pipeline_and_the_means_of_the_seeds(study: Path) -> None:
    results = results_of(study)
    table, quality = classifier_table(results["runs"]), quality_table(results["pipelines"])
    assert table.row_count == len(PIPELINES) * (1 + len(METHODS))
    assert len(quality.columns) == 1 + len(PIPELINES)
    records = picked(results["pipelines"], pipeline="gan-refine")
    rows = dict(zip(quality.columns[0].cells, quality.columns[3].cells, strict=True))
    assert rows["reconstruction error"] == f"{sum(record['error'] for record in records) / 2:.4f}"
    shares = [max(record["class_shares"].values()) for record in records]
    assert rows["commonest class, %"] == f"{100 * sum(shares) / 2:.1f}"
    autoencoder = dict(zip(quality.columns[0].cells, quality.columns[1].cells, strict=True))
    assert autoencoder["commonest class, %"] == autoencoder["Fréchet, samples"] == "–"


def test_a_stopped_study_makes_only_what_is_missing(study: Path) -> None:
    before = results_of(study)
    cell = line_of(study, "gan-refine", 4).cell
    shutil.rmtree(cell.place("advmix"))
    (study / "out" / "points" / "gan-seed3.json").unlink()
    (study / "out" / "results.json").unlink()
    kept = {path: path.stat().st_mtime_ns for path in (study / "cells").rglob("*.safetensors")}
    assert run(study) == 0
    again = {path for path in (study / "cells").rglob("*.safetensors") if path not in kept}
    assert again == {cell.place("advmix") / "classifier.safetensors"} | set(
        cell.place("advmix").glob("*/*.safetensors")
    )
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items())

    def numbers(results: dict[str, Any]) -> list[dict[str, Any]]:
        records = results["runs"] + results["pipelines"]
        return [{key: value for key, value in record.items() if key != "train_seconds"} for record in records]

    assert numbers(results_of(study)) == numbers(before)


def test_cells_as_they_ever_were_keep_names_and_settings(tmp_path: Path) -> None:
    """What the default origin asks of `fit` and `encode` is what cells asked before there were origins."""
    fit = FitOptions(fit_steps=7)
    assert FitConfig(**Origin().fitting(fit)) == FitConfig(fit=fit)
    assert EncodeConfig(tmp_path, **Origin().encoding(tmp_path)) == EncodeConfig(tmp_path)
    unused = Origin(gan=GanOptions(gan_steps=5), optimize=OptimizeOptions(optimize_steps=3))
    assert to_dict(FitConfig(**unused.fitting(fit))) == to_dict(FitConfig(fit=fit))
    assert EncodeConfig(tmp_path, **unused.encoding(tmp_path)) == EncodeConfig(tmp_path)


def test_cells_of_another_origin_have_folders_of_their_own() -> None:
    def name(origin: Origin, search: SearchOptions | None = None) -> str:
        settings = replace(RunSettings(), search=search or FINEST)
        return make_cell(Path("c"), DataConfig("mnist"), 3, settings, origin).name

    assert name(Origin()) == "mnist-std0.1-seed3"
    assert name(Origin("gan")) == "mnist-std0.1-gan-seed3"
    assert name(Origin("gan", "refine")) == "mnist-std0.1-gan-seed3 refine"
    assert name(Origin("gan", "refine", features=True)) == "mnist-std0.1-gan-seed3 refine-features"
    assert name(Origin("gan", "refine"), SearchOptions(perp=(-1,))) == "mnist-std0.1-gan-seed3 refine-perp-1"
    assert name(Origin(encoder="mean")) == "mnist-std0.1-seed3 mean"


def test_a_pipeline_that_is_left_out_is_not_made(study: Path, tmp_path: Path) -> None:
    arguments = ["--pipelines", "gan", "--methods", "randmix", "--seeds", "3", "--out", str(tmp_path / "out")]
    assert run(study, *arguments) == 0
    results = results_of(tmp_path)
    assert [found["pipeline"] for found in results["pipelines"]] == ["gan"]
    assert results["comparisons"] == []
    config = load(tmp_path / "out" / "config.json", "study pipeline", PipelineConfig)
    titles = [job.title for job in training(config.lines(), config.methods)]
    base, gan = "digits-80-std0.1-seed3", "digits-80-std0.1-gan-seed3"
    assert titles == [
        f"{base}: generator",
        f"{gan}: generator",
        f"{base}: ceiling",
        f"{gan}: randmix",
        f"{gan}: randmix, evaluation",
    ]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--pipelines", "vae"], "--pipelines vae: unknown; choose from autoencoder gan gan-refine"),
        (["--pipelines", "gan", "gan"], "--pipelines gan gan: name at least one, and none twice"),
        (["--methods", "advmx"], "method 'advmx': unknown"),
        (["--donors", "101"], "--donors 101: more than --pool-images 100 to draw them from"),
        (["--images", "0"], "--images 0: must be at least 1"),
        (["--gan-steps", "0"], "--gan-steps 0: must be more than 0"),
        (["--data", "digits", "--perp", "6"], "--perp 6: outside the network, which has layers 0 to 5"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert cli(["study", "pipeline", *flags, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(f"advmix: {words}")
    assert not (tmp_path / "out").exists()
