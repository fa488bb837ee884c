"""What a Python user calls: `open_images`, `open_classifier`, `fit`, `load`, `audit_classifier`, `AuditResult`."""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

import advmix
from advmix.audit.results import AuditResult
from advmix.classifiers.networks import conv_net
from advmix.data.colored import ColoredDigits
from advmix.data.datasets import Data
from advmix.data.settings import DataConfig
from advmix.mixing import SearchOptions
from advmix.pools import FittedModel
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed
from tiny import cli, state_of
from trained import hasten_reference

SEARCH = advmix.Search(restarts=2, steps=1)
SMALL: dict[str, Any] = {"search": SEARCH, "count": 30, "pictures": 2}


@pytest.fixture(scope="module")
def images(digits: ColoredDigits) -> Data:
    """In memory, with names of their own."""
    names = tuple("abcdefghij")
    return advmix.open_images(
        (digits.train.pixels, digits.train.labels), test=(digits.test.pixels, digits.test.labels), classes=names
    )


@pytest.fixture(scope="module")
def model(images: Data) -> FittedModel:
    return advmix.fit(images, fit_steps=30, fit_batch=16)


@pytest.fixture(scope="module")
def net(images: Data) -> nn.Module:
    """In train mode; it has seen some colours."""
    with global_seed(0):
        network = conv_net(10, widths=(8, 16))
    optimizer, rng = torch.optim.Adam(network.parameters(), 1e-2), generator(0, "face")
    for _ in range(60):
        x, y = images.train.batch(torch.randint(len(images.train), (32,), generator=rng))
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(x), y).backward()
        optimizer.step()
    return network


@pytest.fixture(scope="module")
def result(net: nn.Module, images: Data, model: FittedModel) -> Iterator[AuditResult]:
    with pytest.MonkeyPatch.context() as patch:
        hasten_reference(patch)
        yield advmix.audit_classifier({"mine": net, "again": net}, images, model=model, **SMALL)


def test_the_contents_page_is_what_there_is() -> None:
    assert sorted(advmix.__all__) == advmix.__all__
    assert all(getattr(advmix, name) is not None for name in advmix.__all__)
    with pytest.raises(AttributeError, match="no attribute 'audits'"):
        advmix.audits  # type: ignore[attr-defined]  # noqa: B018


def test_an_audit_leaves_the_network_as_it_was(net: nn.Module, images: Data, model: FittedModel) -> None:
    before, modes = state_of(net), [part.training for part in net.modules()]
    advmix.audit_classifier(net, images, model=model, reference=conv_net(10, widths=(4,)).eval(), **SMALL)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert [part.training for part in net.modules()] == modes
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_the_table_has_every_part_of_every_classifier(result: AuditResult) -> None:
    table, parts = result.table(), result.results["classifiers"][0]["parts"]
    assert isinstance(table, pandas.DataFrame)
    assert list(table["classifier"].unique()) == ["mine", "again"]
    assert len(table) == 2 * len(parts)
    everything = table[(table.classifier == "mine") & (table.kind == "all")].iloc[0]
    assert everything.images == 30
    for end in ("value", "low", "high"):
        column = f"accuracy_worst_case_{end}".removesuffix("_value")
        assert everything[column] == parts[0]["accuracy_worst_case"][end]


def test_pictures_are_those_of_the_page(result: AuditResult) -> None:
    entries = result.results["classifiers"][0]
    for kind in ("strongest", "label_lost"):
        pictures = result.pictures(kind)
        assert len(pictures) == len(entries[kind])
        for picture, entry in zip(pictures, entries[kind], strict=True):
            before, after = picture
            assert before.shape == after.shape == (16, 16, 3)
            assert 0 <= after.min() <= after.max() <= 1
            change = float(((after - before) ** 2).mean() ** 0.5)
            assert change == pytest.approx(entry["change"], abs=1e-5)
    assert result.pictures("strongest") or result.pictures("label_lost")
    with pytest.raises(ValueError, match="kind 'worst'"):
        result.pictures("worst")


def test_a_result_shows_itself(result: AuditResult, tmp_path: Path) -> None:
    assert "mine" in str(result)
    assert "[dim]" not in str(result)
    assert repr(result).startswith("AuditResult(30 images, mine, again; in ")
    assert result._repr_html_().count("<tr") == 1 + len(result.table())
    assert result.to_html(tmp_path / "page.html") == (tmp_path / "page.html").read_text() == result.to_html()


def test_a_saved_result_is_an_audit_s_folder(result: AuditResult, model: FittedModel, tmp_path: Path) -> None:
    result.save(str(tmp_path / "audit"))
    assert json.loads((tmp_path / "audit" / "results.json").read_text())["images"] == 30
    with pytest.raises(UserError, match="something in it"):
        result.save(tmp_path / "audit")


def test_a_model_goes_through_a_folder(model: FittedModel, tmp_path: Path) -> None:
    model.save(tmp_path / "model")
    again = advmix.load(str(tmp_path / "model"))
    assert again.fingerprints == model.fingerprints
    assert again.split == model.split == advmix.Split(6, (4, 5))
    with pytest.raises(UserError, match="something in it"):
        model.save(tmp_path / "model")
    (model.folder / "latents").rename(tmp_path / "elsewhere")
    try:
        mixed = advmix.load(model.folder, tmp_path / "elsewhere")
        (model.folder / "latents").mkdir()
        (model.folder / "latents" / "store.json").write_text("of another pool")
        mixed.save(tmp_path / "mixed")
        assert advmix.load(tmp_path / "mixed").fingerprints == model.fingerprints
    finally:
        (model.folder / "latents" / "store.json").unlink()
        (model.folder / "latents").rmdir()
        (tmp_path / "elsewhere").rename(model.folder / "latents")


def test_temporary_folders_go_with_what_is_in_them(digits: ColoredDigits) -> None:
    made = advmix.fit(digits, fit_steps=2, fit_batch=8)
    folder = made.folder
    assert folder.is_dir()
    del made
    gc.collect()
    assert not folder.exists()


def test_the_command_and_the_call_find_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A generator and a reference are made on the way by both."""
    hasten_reference(monkeypatch)
    config = DataConfig(train_images=96, test_images=20)
    flags = ["--train-images", "96", "--test-images", "20", "--seed", "3"]
    runs, search = tmp_path / "command", ["--restarts", "2", "--steps", "1", "--images", "12", "--pictures", "1"]
    assert cli(["train", "--method", "nominal", "--epochs", "2", *flags, "--out", str(tmp_path / "net")]) == 0
    fitted = tmp_path / "model"
    images = ColoredDigits(config, 3)
    advmix.fit(images, seed=3, out=fitted, precision="bf16", fit_steps=6, fit_batch=8)
    search += ["--precision", "bf16", "--no-explore"]
    settings: dict[str, Any] = {"model": fitted, "search": SEARCH, "precision": "bf16", "explore": False}
    settings |= {"count": 12, "pictures": 1, "seed": 3, "out": tmp_path / "call"}
    command = ["audit", "--classifier", str(tmp_path / "net"), "--generator", str(fitted), "--seed", "3"]
    assert cli([*command, *search, "--out", str(runs)]) == 0
    found = advmix.audit_classifier(tmp_path / "net", images, **settings)
    theirs = json.loads((runs / "results.json").read_text())
    keys = ("images", "generator", "search", "reference", "classifiers")
    assert {key: found.results[key] for key in keys} == {key: theirs[key] for key in keys}
    configs = [json.loads((folder / "config.json").read_text()) for folder in (fitted, runs, tmp_path / "call")]
    assert [one["arithmetic"] for one in configs] == [{"precision": "bf16", "compile": False}] * 3
    assert [one["explore"] for one in configs[1:]] == [False, False]
    assert cli(["export", "--audit", str(tmp_path / "call"), "--out", str(tmp_path / "export")]) == 0
    with pytest.raises(UserError, match="holds this run already"):
        advmix.audit_classifier(tmp_path / "net", images, **settings)


def test_images_of_another_size_than_the_model_s_are_refused(net: nn.Module, model: FittedModel) -> None:
    with pytest.raises(UserError, match="8x8 pixels in 3 channels, but the generator draws 16x16"):
        advmix.audit_classifier(net, (torch.rand(40, 3, 8, 8), torch.arange(40) % 10), model=model)


def test_a_reference_that_is_the_audited_network_is_refused(net: nn.Module, images: Data, model: FittedModel) -> None:
    with pytest.raises(UserError, match="answers as"):
        advmix.audit_classifier(net, images, model=model, reference=net)


class Pictures(Dataset[tuple[Any, int]]):
    """Grey pictures of Pillow, 10x14 pixels; the number of each is its brightness."""

    classes = ("dark", "bright")

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return Image.new("L", (10, 14), 5 * index), int(index >= 10)


def test_images_of_every_kind(tmp_path: Path) -> None:
    opened = advmix.open_images(Pictures(), size=8, holdout=0.3)
    assert opened.train.shape == (3, 8, 8)
    assert (len(opened.train), len(opened.test)) == (14, 6)
    assert opened.test.labels.bincount().tolist() == [3, 3]
    assert opened.train.classes == ("dark", "bright")
    for place in range(2):
        folder = tmp_path / "photos" / ("dark", "bright")[place]
        folder.mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (9, 9), (20 * number, 0, 0)).save(folder / f"{number}.png")
    assert len(advmix.open_images(str(tmp_path / "photos"), size=8).train) == 8
    assert len(advmix.open_images(tmp_path / "photos", size=8, holdout=0.4).test) == 4
    pixels, labels = torch.rand(10, 1, 6, 6), torch.arange(10) % 2
    tensors = advmix.open_images((pixels, labels), classes=("a", "b"), size=4)
    assert tensors.train.shape == (1, 4, 4)
    exact = advmix.open_images((pixels, labels), test=(pixels, labels))
    assert torch.equal(exact.test.batch(slice(None))[0], (pixels * 255).round() / 255)
    assert exact.train.classes == ("0", "1")
    assert advmix.open_images(exact) is exact


def test_a_data_set_may_have_a_config_of_its_own() -> None:
    source = Pictures()
    source.config = {"name": "pictures"}  # type: ignore[attr-defined]
    assert len(advmix.open_images(source, size=8).train) == 16


def test_an_attack_that_fails_is_refused_before_anything_is_made(
    net: nn.Module, images: Data, model: FittedModel, tmp_path: Path
) -> None:
    def attack(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return x + 2

    with pytest.raises(UserError, match="attack"):
        advmix.audit_classifier(net, images, model=model, attack=attack, out=tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def pair(pixels: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
    return pixels, torch.arange(len(pixels)) % 2 if labels is None else labels


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (pair(torch.rand(4, 6, 6)), r"shape \(4, 6, 6\)"),
        (pair(2 * torch.rand(4, 3, 6, 6).add(1)), r"must be in \[0, 1\]"),
        (pair(torch.full((4, 3, 6, 6), torch.nan)), r"must be in \[0, 1\]"),
        (pair(torch.zeros(4, 3, 6, 6, dtype=torch.int64)), "int64; pixels"),
        (pair(torch.rand(4, 3, 6, 8)), "6x8 pixels; name size="),
        (pair(torch.rand(4, 3, 6, 6), torch.rand(4)), "4 class numbers are wanted"),
        (pair(torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2])), "4 class numbers are wanted"),
        (pair(torch.rand(4, 3, 6, 6), torch.tensor([0, -1, 1, 1])), "from -1 to 1"),
        (pair(torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2, 9])), "numbered 0 to 1"),
        (pair(torch.rand(2, 3, 6, 6)), "too few images"),
    ],
)
def test_images_that_cannot_be_used_are_refused(images: tuple[Tensor, Tensor], words: str) -> None:
    with pytest.raises(UserError, match=words):
        advmix.open_images(images, classes=("a", "b"))


def test_a_misspelled_argument_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="sizes"):
        advmix.open_images(tmp_path, sizes=8)
    with pytest.raises(UserError, match="test= goes with images in memory"):
        advmix.open_images(tmp_path, test=tmp_path)


def test_an_audit_that_fails_leaves_no_folder(
    net: nn.Module, images: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UserError, match="--perp 99"):
        advmix.audit_classifier(net, images, search=SearchOptions(perp=(99,)))
    assert not list(tmp_path.iterdir())
