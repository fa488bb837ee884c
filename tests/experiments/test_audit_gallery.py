"""The gallery's images, networks, page, and one small audit from beginning to end."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from running import main

from advmix.cli import parse as parse_command
from advmix.data.images import to_float
from advmix.linear_light import to_linear
from advmix.report.tables import schema
from advmix.utils.errors import UserError
from experiments.audit_gallery import study
from experiments.audit_gallery.images import (
    COLUMNS,
    LIGHT_STOPS,
    PHOTOGRAPHS,
    ROWS,
    SHIFT_PIXELS,
    TILES,
    GalleryImages,
    blocks,
    digits,
    gray_digits,
    lit_photographs,
    squares,
    tiles,
)
from experiments.audit_gallery.networks import NETWORKS, train_network
from experiments.audit_gallery.page import found_sentences, gallery_sections, truth_sentence, wrapped


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey noise."""
    folder = tmp_path_factory.mktemp("photographs")
    for place, name in enumerate(PHOTOGRAPHS.values()):
        noise = np.random.default_rng(place).integers(40, 200, (240, 360), dtype=np.uint8)
        Image.fromarray(noise).convert("RGB").save(folder / name, quality=95)
    return folder


def test_tiles_of_training_and_test_share_no_pixel(photographs: Path) -> None:
    parts = list(blocks(360, 240))
    assert len(parts) == COLUMNS * ROWS == 24
    assert {(right - left, bottom - top) for left, top, right, bottom in parts} == {(60, 60)}
    inside = list(squares((60, 0, 120, 60), 50, random.Random(0)))
    assert all(60 <= left < right <= 120 and 0 <= top < bottom <= 60 for left, top, right, bottom in inside)
    name = "meadow"
    train, test = (tiles(photographs, name, part) for part in ("train", "test"))
    assert (len(train), len(test)) == (16 * TILES["train"], 8 * TILES["test"])
    assert torch.equal(train, tiles(photographs, name, "train"))


def test_every_photograph_has_its_light_and_the_check_another(photographs: Path) -> None:
    made = lit_photographs(photographs)
    assert made.train.classes == tuple(PHOTOGRAPHS)
    assert torch.equal(made.check.labels, made.test.labels)

    def warmth(images: torch.Tensor) -> float:
        light = to_linear(to_float(images)).mean(dim=(0, 2, 3))
        return float((light[0] / light[2]).log2())

    for label in range(3):
        chosen = made.test.labels == label
        stops = LIGHT_STOPS[label], LIGHT_STOPS[(label + 1) % 3]
        found = warmth(made.check.pixels[chosen]) - warmth(made.test.pixels[chosen])
        assert found == pytest.approx(stops[1] - stops[0], abs=0.15)


def test_a_photograph_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="photo-pictures"):
        lit_photographs(tmp_path)


def test_digits_share_the_look_of_their_class_but_in_the_check() -> None:
    made = digits("colored", 0.02, "")
    assert torch.equal(made.check.labels, made.test.labels)
    brightest = [to_float(part.pixels).amax(dim=(2, 3)) for part in (made.test, made.check)]
    within = [colors[made.test.labels == 0].std(dim=0).mean() for colors in brightest]
    assert within[0] < 0.05 < within[1]


def test_moved_digits_are_whole() -> None:
    made = gray_digits()
    assert made.test.shape == (1, 24, 24)
    old, new = made.test.pixels, made.check.pixels
    assert torch.equal(old.flatten(1).sort().values, new.flatten(1).sort().values)
    steps = [(0, SHIFT_PIXELS), (0, -SHIFT_PIXELS), (SHIFT_PIXELS, 0), (-SHIFT_PIXELS, 0)]
    ways = [torch.tensor([torch.equal(a.roll(by, (1, 2)), b) for a, b in zip(old, new, strict=True)]) for by in steps]
    assert torch.stack(ways).any(dim=0).all()
    assert all(way.any() for way in ways)


def test_folders_hold_the_images(tmp_path: Path) -> None:
    made = gray_digits()
    few = GalleryImages(made.train[:7], made.test[:5], made.check[:5], "")
    few.write(tmp_path)
    assert len(list((tmp_path / "train").rglob("*.png"))) == 7
    for number in range(5):
        label = few.test.classes[int(few.test.labels[number])]
        with Image.open(tmp_path / "test" / label / f"{number:04}.png") as image:
            assert np.array_equal(np.asarray(image), few.test.pixels[number, 0].numpy())


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few digits, little training."""
    made = gray_digits()
    few = GalleryImages(made.train[:300], made.test[:60], made.check[:60], made.checked)
    monkeypatch.setitem(study.IMAGES, "gray", lambda _: few)
    monkeypatch.setattr("experiments.audit_gallery.networks.EPOCHS", 4)


@pytest.mark.usefixtures("small")
def test_an_audit_from_images_to_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["study", "gallery", "--entries", "place", "--out", "gallery", "--device", "cpu"]) == 0
    results = json.loads(Path("gallery/results.json").read_text())
    jsonschema.validate(results, schema())
    (entry,) = results["entries"]
    assert entry["images"] == 60
    assert entry["accuracy_clean"]["value"] - entry["accuracy_without_shortcut"]["value"] > 0.1
    assert Path("gallery/figures/place.png").is_file()
    assert len(entry["commands"]) == 1
    text = "\n\n".join(gallery_sections(results))
    assert "../results/gallery/figures/place.png" in text
    assert "Moved by 2 pixels" in text
    assert "The classifier depends on the place." in text
    done = json.loads(Path("gallery/place/audit/results.json").read_text())
    assert parse_command(entry["commands"][0].split()[1:]).images == done["config"]["images"]


def test_an_unknown_entry_is_named() -> None:
    with pytest.raises(UserError, match="--entries mountains"):
        study.AuditGalleryConfig(entries=("mountains",))


def test_networks_differ_in_what_they_are_shown() -> None:
    assert {name: make()(torch.rand(2, 1, 24, 24)).shape for name, (make, _) in NETWORKS.items()} == {
        "dense": (2, 10),
        "robust": (2, 10),
    }


def test_a_trained_network_is_not_trained_again(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"there")
    train_network("dense", gray_digits().train, path)
    assert path.read_bytes() == b"there"


def entry(**changed: Any) -> dict[str, Any]:
    share = {"value": 0.5, "low": 0.4, "high": 0.6}
    plain = {
        "headline": "90 % right",
        "flips": 40,
        "kinds": [{"sentence": f"Kind {place}", "count": 10 - place} for place in range(5)],
        "corroboration": "They agree.",
        "named_changes": "And these.",
        "checked": "in the dark",
        "shortcut": "the light",
        "accuracy_clean": share | {"value": 0.9},
        "accuracy_without_shortcut": share,
    }
    return plain | changed


def test_few_flips_are_of_no_kind() -> None:
    kinds = "Kind 0. Kind 1. Kind 2. Kind 3. Kind 4."
    assert list(found_sentences(entry())) == ["90 % right.", kinds, "They agree.", "And these."]
    few = "The search over style flips 40 answers, too few to say by what."
    for start in (1, 5):
        found = entry()["kinds"][start:]
        assert list(found_sentences(entry(kinds=found, corroboration=""))) == ["90 % right.", few, "And these."]


def test_what_is_true_follows_from_the_check() -> None:
    said = "In the dark: 50 % right (40 to 60 %), 90 % as they are. The classifier depends on the light."
    assert truth_sentence(entry()) == said
    same = entry(accuracy_without_shortcut={"value": 0.85, "low": 0.8, "high": 0.9})
    assert truth_sentence(same).endswith("The classifier does not depend on the light.")


def test_commands_are_wrapped_before_their_flags() -> None:
    command = "advmix audit --classifier a --data somewhere --size 24 --channels 1 --out there"
    lines = list(wrapped(command, 40))
    assert " ".join(line.removesuffix(" \\").strip() for line in lines) == command
    assert all(len(line) <= 40 for line in lines)
    assert all(line.strip().startswith("--") for line in lines[1:])
