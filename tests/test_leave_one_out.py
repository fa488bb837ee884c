"""`advmix train --leave-one-site-out` on shapes whose colour is the class at two sites, and exchanged at a third."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image

from advmix.classifiers.networks import load_classifier
from advmix.cli import main
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import Photos, load_photos
from advmix.data.photos.sites import SiteImages
from advmix.metrics import predict
from advmix.report.tables import schema
from advmix.utils.torch_tools import generator
from pictures import encoded, write
from tiny import last_of_each
from trained import shared

SITES = ("north", "south", "far/away")
COUNT = 180
FLAGS = ["--target", "sick", "--site", "clinic", "--split-by", "person", "--size", "16", "--leave-one-site-out"]
TRAINING = ["--method", "nominal", "--epochs", "3", "--batch", "16", "--device", "cpu", "--checkpoint-seconds", "0"]


@shared
def data(out: Path) -> None:
    """Two images of each person; person 0 is at the first and the second site. Of the table's splits the second holds
    one site alone.
    """
    rng = generator(0, "tests", "sites")
    persons, splits = ["filename,sick,clinic,person"], ["filename,sick,clinic,split"]
    files: dict[str, bytes | str] = {}
    for place in range(COUNT):
        label, site = place // 2 % 2, place // 60
        noise = torch.rand(16, 16, 3, generator=rng)
        noise[..., 0] = 0.7 * (label if site < 2 else 1 - label) + 0.3 * noise[..., 0]
        files[f"{place:03}.png"] = encoded(Image.fromarray(np.asarray((255 * noise).to(torch.uint8))))
        known = f"{place:03}.png,{('no', 'yes')[label]},{SITES[site]}"
        persons.append(f"{known},{0 if place == 64 else place // 2}")
        splits.append(f"{known},{'test' if site == 2 else 'train'}")
    write(out, {**files, "labels.csv": "\n".join(persons), "splits.csv": "\n".join(splits)})


def run(data: Path, out: Path, *flags: str) -> int:
    return main(last_of_each(["train", "--data", str(data), *FLAGS, *TRAINING, *flags, "--out", str(out)]))


def read(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


def gathered(data: Path, **options: Any) -> SiteImages:
    return SiteImages.gather(load_photos(str(data), PhotoOptions(target="sick", site="clinic", **options)), 0.2, seed=0)


def test_nothing_of_the_site_that_is_left_out_is_trained_on(data: Path) -> None:
    images = gathered(data, split_by="person", size=16)
    assert images.names == ("far/away", "north", "south")
    assert images.folders() == ["far-away", "north", "south"]
    for site in range(3):
        trained, held, there = images.divided(site)
        assert int(there.sum()) == 60
        assert set(images.sites[trained].tolist()) == set(images.sites[held].tolist()) == {0, 1, 2} - {site}
        for one, other in ((trained, held), (trained, there), (held, there)):
            assert not (one & other).any()
            assert not set(images.units[one].tolist()) & set(images.units[other].tolist())
        assert int(held.sum()) == pytest.approx(0.2 * 120, abs=4)
        assert images.images.labels[held].bincount().tolist() == pytest.approx([int(held.sum()) / 2] * 2, abs=1)
        assert COUNT - int((trained | held | there).sum()) == [0, 1, 2][site]  # images of who is at both


def test_splits_of_the_data_are_set_aside(data: Path) -> None:
    images = gathered(data / "splits.csv", size=16)
    assert len(images.images) == COUNT
    assert int(images.divided(1)[0].sum()) == 96
    again = gathered(data / "splits.csv", size=16)
    assert torch.equal(images.held, again.held)
    assert not torch.equal(images.held, SiteImages.gather(whole(data), 0.2, seed=1).held)


def test_the_images_of_all_splits_are_not_copied(data: Path) -> None:
    photos = whole(data)
    parts = [part.images.pixels for part in photos.splits.values()]
    images = SiteImages.gather(photos, 0.2, seed=0).images
    assert torch.equal(images.pixels, torch.cat(parts))
    assert images.pixels.data_ptr() == parts[0].data_ptr()
    apart = {name: replace(part, images=part.images[torch.arange(len(part))]) for name, part in photos.splits.items()}
    copied = SiteImages.gather(replace(photos, splits=apart), 0.2, seed=0).images
    assert torch.equal(copied.pixels, images.pixels)


def whole(data: Path) -> Photos:
    return load_photos(str(data / "splits.csv"), PhotoOptions(target="sick", site="clinic", size=16))


def test_each_site_has_a_row_and_the_worst_is_first(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(data, tmp_path) == 0
    results = read(tmp_path)
    jsonschema.validate(results, schema())
    parts = results["parts"]
    assert parts[0]["name"] == "far/away"
    assert parts[0]["accuracy_clean"]["value"] < 0.1
    assert parts[0]["accuracy_others"]["value"] == 1
    assert [part["accuracy_balanced"]["value"] for part in parts] == sorted(
        part["accuracy_balanced"]["value"] for part in parts
    )
    said = capsys.readouterr().out
    assert said.index("far/away  ") < said.index("north  ")
    images = gathered(data, split_by="person", size=16)
    network, metadata = load_classifier(tmp_path / "far-away")
    assert (metadata["train_images"], metadata["classes"]) == (parts[0]["train_images"], ["not sick", "sick"])
    there = images.images[images.divided(0)[2]]
    probabilities = predict(network, there, torch.device("cpu"))
    assert parts[0]["brier"]["value"] == pytest.approx(
        float((2 * (1 - probabilities[torch.arange(60), there.labels]).square()).mean())
    )
    assert parts[0]["sensitivity_at_specificity"]["value"] < 0.2


def test_a_stopped_run_goes_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(data, tmp_path / "whole") == 0
    assert run(data, tmp_path / "out") == 0
    (tmp_path / "out" / "results.json").unlink()
    (tmp_path / "out" / "south" / "classifier.safetensors").unlink()
    capsys.readouterr()
    assert run(data, tmp_path / "out") == 2
    assert "--resume" in capsys.readouterr().err
    assert run(data, tmp_path / "out", "--resume") == 0
    assert capsys.readouterr().out.count("done already") == 2
    assert read(tmp_path / "out")["parts"] == read(tmp_path / "whole")["parts"]


@pytest.mark.parametrize("kind", ["unlabelled", "pool"])
def test_a_run_of_other_images_beside_does_not_go_on(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    more = write(tmp_path / "more", {f"{place:03}.png": (data / f"{place:03}.png").read_bytes() for place in range(4)})
    flags = ["--epochs", "1", "--method", "randmix", f"--{kind}", str(more)]
    assert run(data, tmp_path / "out", *flags) == 0
    told = "4 of the 60 test images are in it" in " ".join(capsys.readouterr().out.split())
    assert told == (kind == "unlabelled")
    assert run(data, tmp_path / "out", *flags, "--resume") == 0
    (more / "000.png").unlink()
    assert run(data, tmp_path / "out", *flags, "--resume") == 2
    assert f"another {kind}" in capsys.readouterr().err


def test_mixing_methods_mix_the_other_sites(data: Path, tmp_path: Path) -> None:
    assert run(data, tmp_path, "--method", "randmix", "--epochs", "1") == 0
    assert len(read(tmp_path)["parts"]) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--data", "digits", "--leave-one-site-out"], "name images of your own with --data"),
        (["--data", "DATA", "--target", "sick", "--leave-one-site-out"], "the column of their sites with --site"),
        (["--data", "DATA", "--target", "sick", "--site", "clnic", *FLAGS[-1:]], "did you mean clinic?"),
        (["--data", "DATA", *FLAGS, "--latents", "here"], "--latents are of images of all sites"),
        (["--data", "DATA", *FLAGS, "--generator", "here"], "--generator here was fitted to images"),
        (
            ["--data", "ONE", *FLAGS[:2], "--site", "one", *FLAGS[-1:]],
            "every image is of a; name a column",
        ),
    ],
)
def test_bad_input_is_one_line(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], words: str
) -> None:
    rows = [f"{place:03}.png,{place % 2},a" for place in range(10)]
    files = {f"{place:03}.png": (data / f"{place:03}.png").read_bytes() for place in range(10)}
    one = write(tmp_path / "one", {**files, "labels.csv": "\n".join(["filename,sick,one", *rows])})
    line = [{"DATA": str(data), "ONE": str(one)}.get(word, word) for word in flags]
    assert main(["train", *line, "--out", str(tmp_path / "out")]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert words in lines[0]
