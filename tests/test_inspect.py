from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

import trained
from advmix.cli import parse
from advmix.commands.encode import run_encode
from advmix.commands.train import TrainConfig, run_train
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, save_autoencoder
from advmix.encoders.store import LatentStore
from advmix.generators.style import StyleConfig
from advmix.inspect.figures import headline, layer_bars, layer_table, sentences
from advmix.inspect.run import draw_pairs, flags
from advmix.latents import Split
from advmix.metrics import accuracy
from advmix.training.classify import TrainOptions
from advmix.training.encoding import EncodeConfig
from advmix.training.reference import Reference, judge_reference, open_reference, unbiased_test
from advmix.utils.config import to_dict
from advmix.utils.files import make_folder, read_tensors, write_tensors
from advmix.utils.torch_tools import global_seed
from tiny import cli

CPU = torch.device("cpu")
SMALL = ["--images", "40", "--dimension-images", "2", "--resamples", "20", "--device", "cpu"]


def words(out: Path, *more: str) -> list[str]:
    return ["inspect", *trained.mixing(), *SMALL, *more, "--out", str(out)]


def results_of(out: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((out / "results.json").read_text())
    return parsed


@pytest.fixture(scope="module")
def inspected() -> Path:
    return trained.made("inspect", *trained.mixing(), *SMALL, "--reference", trained.classifier("ceiling"))


@pytest.fixture
def _undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without figures, which take longer than the rest."""
    monkeypatch.setattr("advmix.inspect.run._mixing", lambda *_: Figure())
    monkeypatch.setattr("advmix.inspect.run.save_figures", lambda *_: None)


def test_results_hold_every_layer_and_a_proposal(inspected: Path) -> None:
    results = results_of(inspected)
    assert results["study"] == "inspect"
    assert [row["name"] for row in results["layers"]] == list("012345")
    assert [row["resolution"] for row in results["layers"]] == [4, 4, 8, 8, 16, 16]
    assert len(results["swaps"]) == 21
    assert results["pairs"]["images"] == 40
    assert 0 < results["pairs"]["counted"] == round(40 * results["reference"]["accuracy_reconstruction"]) <= 40
    everything = results["layers"][0]["with_finer"]
    assert everything == results["layers"][-1]["with_coarser"]
    assert (everything["layers"], everything["image_share"]) == ([0, 1, 2, 3, 4, 5], 1.0)
    assert everything["label_changes"] > 0.5
    assert results["layers"][5]["alone"]["image_change"] > 0


def test_the_proposal_is_one_of_the_swaps_and_its_parts_are_z_perp(inspected: Path) -> None:
    results = results_of(inspected)
    proposal = results["proposal"]
    assert proposal["split"] in results["swaps"]
    assert proposal["flags"] == "--perp " + " ".join(map(str, proposal["split"]["layers"]))
    assert 1 - proposal["split"]["label_changes"] >= 0.95
    verdicts = {row["name"]: row["verdict"] for row in results["layers"]}
    assert [name for name, found in verdicts.items() if found == "z⊥"] == [str(n) for n in proposal["split"]["layers"]]
    assert sorted(proposal["rest"]["layers"] + proposal["split"]["layers"]) == [0, 1, 2, 3, 4, 5]
    assert list(proposal["added"]) == [str(layer) for layer in proposal["rest"]["layers"]]


def test_dimensions_cover_every_number(inspected: Path) -> None:
    numbers = results_of(inspected)["dimensions"]
    assert numbers["images"] == 2
    assert [len(row) for row in numbers["image_change"]] == [64] * 6
    for row, top in zip(numbers["image_change"], numbers["top"], strict=True):
        assert [entry["image_change"] for entry in top] == sorted(row, reverse=True)[:3]


def test_figures_show_something(inspected: Path) -> None:
    names = sorted(path.name for path in (inspected / "figures").iterdir())
    assert names == ["dimensions.png", "layers.png", "mixing-by-layer.png"]
    for name in names:
        assert imread(inspected / "figures" / name)[..., :3].std() > 0.05


def test_a_finished_run_is_shown_again_and_not_overwritten(
    inspected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, here = (inspected / "results.json").read_bytes(), tmp_path / "run"
    shutil.copytree(inspected, here)
    again = words(here, "--reference", str(trained.classifier("ceiling")))
    assert cli(again) == 2
    assert "--resume" in capsys.readouterr().err
    assert cli([*again, "--resume"]) == 0
    assert "Proposal: --perp" in capsys.readouterr().out
    assert (here / "results.json").read_bytes() == before
    assert cli([*words(here, "--reference", str(trained.classifier("nominal"))), "--resume"]) == 2
    assert "another" in capsys.readouterr().err


def test_a_finished_run_is_not_that_of_other_latents(
    inspected: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained.latents(), tmp_path / "latents")
    shard = tmp_path / "latents" / "latents-00000.safetensors"
    tensors, metadata = read_tensors(shard, "latents")
    write_tensors(shard, "latents", {name: tensor + 0.1 for name, tensor in tensors.items()}, metadata)
    again = words(inspected, "--reference", str(trained.classifier("ceiling")), "--resume")
    again[again.index("--latents") + 1] = str(tmp_path / "latents")
    assert cli(again) == 2
    assert "began with another latents" in capsys.readouterr().err


@pytest.mark.usefixtures("_undrawn")
def test_same_seed_same_numbers(inspected: Path, tmp_path: Path) -> None:
    assert cli(["inspect", "--config", str(inspected / "config.json"), "--out", str(tmp_path / "again")]) == 0
    measured = ("reference", "pairs", "layers", "swaps", "proposal", "dimensions")
    one, two = results_of(inspected), results_of(tmp_path / "again")
    assert [one[key] for key in measured] == [two[key] for key in measured]


def test_a_reference_is_trained_on_unbiased_images_where_they_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["--epochs", "4", "--dimension-images", "0"]
    assert cli(words(tmp_path / "biased", *few)) == 0
    assert "Careful. Reference: trained (nominal) on the generator's own images" in capsys.readouterr().out
    assert cli(words(tmp_path / "honest", *few, "--unbiased", "train")) == 0
    assert "Careful" not in capsys.readouterr().out
    biased, honest = (results_of(tmp_path / name) for name in ("biased", "honest"))
    assert (biased["reference"]["method"], biased["reference"]["bias"]) == ("nominal", "unknown")
    assert (honest["reference"]["method"], honest["reference"]["bias"]) == ("ceiling", "no")
    assert biased["dimensions"] is None
    assert not (tmp_path / "biased" / "figures" / "dimensions.png").exists()
    assert (tmp_path / "honest" / "reference" / "classifier.safetensors").is_file()


def test_a_biased_reference_is_found_out() -> None:
    data = trained.images()

    def judged(method: str, unbiased: str | None) -> Reference:
        images = None if unbiased is None else unbiased_test(unbiased, data)
        return judge_reference(open_reference(trained.classifier(method), data.train), data, images, CPU)

    biased = judged("nominal", "test")
    assert biased.bias == "yes"
    assert biased.accuracy_unbiased is not None
    assert biased.accuracy_unbiased < 0.6
    assert biased.accuracy > 0.95
    assert "it reads the bias" in biased.caveat
    assert judged("ceiling", "test").bias == "no"
    assert judged("ceiling", None).accuracy_unbiased is None


@trained.shared
def fair(folder: Path) -> None:
    """A user's own unbiased images: digits in random colours, as files."""
    data = trained.images()
    for split, images in (("train", data.train_unbiased), ("test", data.shuffled)):
        for place, (pixels, label) in enumerate(zip(images.pixels, images.labels.tolist(), strict=True)):
            file = folder / split / images.classes[label] / f"{place}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file)


@pytest.mark.usefixtures("_undrawn")
def test_unbiased_images_of_ones_own(fair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The test of a named reference, and the training of one that is not named."""
    few = ["--dimension-images", "0", "--unbiased", str(fair)]
    assert cli(words(tmp_path / "biased", *few, "--reference", str(trained.classifier("nominal")))) == 0
    assert "it reads the bias" in capsys.readouterr().out
    biased = results_of(tmp_path / "biased")["reference"]
    shuffled = unbiased_test("test", trained.images())
    reference = open_reference(trained.classifier("nominal"), shuffled).network
    assert biased["bias"] == "yes"
    assert biased["accuracy_unbiased"] == pytest.approx(accuracy(reference, shuffled, CPU), abs=1e-4)
    assert cli(words(tmp_path / "honest", *few, "--epochs", "8", "--batch", "32")) == 0
    honest = results_of(tmp_path / "honest")["reference"]
    assert (honest["method"], honest["bias"]) == ("nominal", "no")
    assert honest["accuracy_unbiased"] > biased["accuracy_unbiased"]


def test_unbiased_images_of_other_classes_are_refused(
    fair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for split in ("train", "test"):
        for name in ("3", "8"):
            (tmp_path / "two" / split).mkdir(parents=True, exist_ok=True)
            shutil.copytree(fair / split / name, tmp_path / "two" / split / name)
    for more, message in (
        ([str(tmp_path / "two")], "of the classes 3, 8, but the generator's images are of 0, 1, 2"),
        (["mine"], "--unbiased mine: unknown; choose from"),
        (["digits"], "--unbiased digits: biased by its paint; choose from train test"),
        ([str(tmp_path / "none")], "none"),
    ):
        assert cli(words(tmp_path / "run", "--unbiased", *more)) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colors = tmp_path / "colors"
    data = DataConfig(train_images=40, test_images=20, target="color")
    run_train(TrainConfig("nominal", data=data, train=TrainOptions(epochs=1), out=colors, device="cpu"))
    for more, message in (
        (["--unbiased", "test"], "no reference is trained on a test"),
        (["--threshold", "1.5"], "--threshold 1.5: must be between 0 and 1"),
        (["--images", "0"], "--images 0: must be at least 1"),
        (["--reference", str(tmp_path / "nothing")], "no such folder"),
        (["--reference", str(colors)], "tells red green blue ... apart, but the images are labelled 0 1 2"),
    ):
        assert cli(words(tmp_path / "run", *more)) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("_undrawn")
def test_a_grid_is_one_more_layer(tmp_path: Path) -> None:
    """A generator with a spatial grid, untrained: the grid is measured first, and can be proposed."""
    data = trained.images()
    with global_seed(0):
        model = Autoencoder(StyleConfig(widths=(16, 16, 8), style_dim=4, grid_channels=4))
    metadata = {"data": to_dict(data.config), "data_seed": data.seed, "data_fingerprint": data.train.fingerprint}
    save_autoencoder(make_folder(tmp_path / "fit"), model, {**metadata, "fit_seconds": 0.0, "reconstruction_mse": 1.0})
    run_encode(EncodeConfig(tmp_path / "fit", out=tmp_path / "latents", device="cpu"))
    folders = ["--generator", str(tmp_path / "fit"), "--latents", str(tmp_path / "latents")]
    reference = ["--reference", str(trained.classifier("ceiling")), "--out", str(tmp_path / "run")]
    assert cli(["inspect", *folders, *reference, *SMALL, "--images", "60"]) == 0
    results = results_of(tmp_path / "run")
    assert [row["name"] for row in results["layers"]] == ["grid", *"012345"]
    assert len(results["swaps"]) == 28
    assert results["layers"][0]["alone"]["grid"] is True
    assert results["layers"][0]["alone"]["layers"] == []
    assert results["layers"][0]["alone"]["image_change"] > 0


def test_donors_come_from_the_whole_pool() -> None:
    pool, labels = LatentStore.open(trained.latents()).latents, trained.images().train.labels
    pairs = draw_pairs(pool, labels, 30, seed=0)
    assert torch.equal(pairs.latents.styles, pool.styles[:30])
    assert torch.equal(pairs.labels, labels[:30])
    assert bool((pairs.labels != pairs.donor_labels).all())
    rows = [int((pool.styles == donor).flatten(1).all(dim=1).nonzero()[0, 0]) for donor in pairs.donors.styles]
    assert labels[rows].tolist() == pairs.donor_labels.tolist()
    assert max(rows) > 100
    assert len(draw_pairs(pool, labels, 9999, seed=0).labels) == 200
    assert draw_pairs(pool, labels, 30, seed=1).donor_labels.tolist() != pairs.donor_labels.tolist()


@pytest.mark.parametrize("split", [Split(6, (4, 5)), Split(6, (0, 1), grid=True), Split(6, (), grid=True)])
def test_flags_are_what_the_commands_take(split: Split) -> None:
    config = parse(["evaluate", "--classifier", "c", *flags(split).split()])
    assert config.search.split(6) == split


def test_what_is_said_follows_the_results(inspected: Path) -> None:
    results = results_of(inspected)
    said = " ".join(sentences(results))
    assert results["proposal"]["flags"] in headline(results)
    assert f"{1 - results['proposal']['split']['label_changes']:.1%} of {results['pairs']['counted']} pairs" in said
    assert "it does not read the bias" in said
    assert layer_table(results["layers"], {}).row_count == 6
    doubtful = results | {"reference": results["reference"] | {"bias": "yes"}}
    assert "but the reference reads the bias" in headline(doubtful)
    assert " ".join(sentences(doubtful)).count("Careful") == said.count("Careful") + 1
    empty: dict[str, Any] = {
        "split": None,
        "flags": None,
        "rest": None,
        "next_larger": None,
        "could_join": [],
        "other_proposals": [],
    }
    nothing = results | {"proposal": results["proposal"] | empty | {"idle": ["0", "1"]}}
    assert headline(nothing) == "No split: every swap changes too many labels"
    assert "Idle, hardly changing the image: 0, 1." in " ".join(sentences(nothing))
    assert layer_bars(results["layers"], headline(nothing), 0.95).get_size_inches()[0] > 5
