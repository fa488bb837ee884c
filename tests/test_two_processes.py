from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import trained
from advmix.classifiers.networks import conv_net
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.objectives import Nominal
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from forked import in_two_processes
from pictures import write
from test_adapt import PLACES, site_files
from tiny_gan import pictures
from two_processes import DOUBLE, OBJECTIVES, run_all, train_once, train_rank

NAMES = (*OBJECTIVES, "fit")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every rank of two has after twenty steps of each training."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(train_rank, NAMES, folder)
    return folder


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_learn_what_one_learns(ranks: Path, name: str) -> None:
    network, loop, _ = train_once(name, None)
    first, second = (torch.load(ranks / f"{name}{rank}.pt") for rank in (0, 1))
    assert distance(first["weights"], second["weights"]) == 0
    assert distance(network.state_dict(), first["weights"]) < (1e-10 if name in DOUBLE else 1e-5)
    losses = [[line["loss"] for line in history] for history in (loop.history, first["history"])]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_a_batch_of_fewer_images_than_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric, images = make_fabric("cpu"), pictures()
    monkeypatch.setattr(type(fabric), "world_size", 4)
    with pytest.raises(UserError, match=r"--batch 38: 2 of 40 images are left .*, fewer than the 4 devices"):
        ClassifierTrainee(conv_net(2), Nominal(), images, TrainOptions(batch=38), 0, fabric)
    with pytest.raises(UserError, match="--fit-batch 6: not a multiple of the 4 devices"):
        AutoencoderTrainee(images, FitOptions(fit_batch=6), 0, fabric)


def lines(data: Path) -> dict[str, list[str]]:
    """Command lines by name, without their folders."""
    fit, nominal, latents = (str(part()) for part in (trained.fitted, trained.classifier, trained.latents))
    mixing = ["--generator", fit, "--latents", latents]
    search = ["--restarts", "1", "--steps", "1", "--worst-images", "70"]
    site = ["--data", str(data / "home"), "--size", "16", "--new-site", str(data / "site"), "--donors", "1"]
    brief = ["--epochs", "1", "--batch", "33"]
    return {
        "encode": ["encode", "--generator", fit, "--shard-size", "64"],
        "refine": ["encode", "--generator", fit, "--encoder", "refine", "--optimize-steps", "2", "--shard-size", "64"],
        "evaluate": ["evaluate", "--classifier", nominal, *mixing, *search],
        "predict": ["predict", "--classifier", nominal, *mixing, "--marginalize", "2", "--shard-size", "30"],
        "train": ["train", "--method", "advmix", *mixing, *brief],
        "adapt": ["adapt", "--classifier", str(data / "nominal"), *site, *brief, "--pictures", "1"],
    }


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What every command writes in one process, and in two."""
    data, one, two = (tmp_path_factory.mktemp(name) for name in ("data", "one", "two"))
    write(data / "home", site_files(PLACES[:120], site=False))
    write(data / "site", site_files(PLACES[120:170], site=True))
    home = ["--data", str(data / "home"), "--size", "16", "--holdout", "0.4", "--epochs", "2", *trained.CPU]
    assert run_all([["train", "--method", "nominal", *home, "--out", str(data / "nominal")]]) == 0
    known = lines(data)
    assert run_all([[*line, *trained.CPU, "--out", str(one / name)] for name, line in known.items()]) == 0
    twice = [[*line, *trained.CPU, "--devices", "2", "--out", str(two / name)] for name, line in known.items()]
    in_two_processes(run_all, twice)
    return one, two


def results(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return read


@pytest.mark.parametrize("name", ["encode", "refine"])
def test_latents_are_the_same_whoever_encodes_them(both: tuple[Path, Path], name: str) -> None:
    shards = [{path.name: path.read_bytes() for path in (folder / name).glob("latents-*")} for folder in both]
    assert len(shards[0]) > 2
    assert shards[0] == shards[1]


def test_evaluations_are_the_same(both: tuple[Path, Path]) -> None:
    one, two = (results(folder / "evaluate")["runs"] for folder in both)
    assert one == two
    galleries = [load_file(folder / "evaluate" / "gallery.safetensors") for folder in both]
    assert distance(*galleries) == 0


def test_predictions_are_the_same(both: tuple[Path, Path]) -> None:
    one, two = ((folder / "predict" / "predictions.csv").read_bytes() for folder in both)
    assert one == two
    assert not list((both[1] / "predict").glob("shard-*"))


def test_a_trained_classifier_is_the_same_but_for_rounding(both: tuple[Path, Path]) -> None:
    one, two = (json.loads((folder / "train" / "log.jsonl").read_text().splitlines()[-1]) for folder in both)
    assert one["step"] == two["step"] == 7
    assert one["loss"] == pytest.approx(two["loss"], rel=0.01)
    assert len(list((both[1] / "train").iterdir())) == 4  # the first process alone has written


def test_adapting_finds_the_same(both: tuple[Path, Path]) -> None:
    one, two = (results(folder / "adapt") for folder in both)
    assert one["chosen"] == two["chosen"]
    for first, second in zip(one["candidates"], two["candidates"], strict=True):
        assert first["home"] == second["home"]
        assert first["styles"] == second["styles"]
        assert first["confidence"] == pytest.approx(second["confidence"], abs=1e-5)
