"""TorchScript files as a hostile hand writes them."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.utils.errors import UserError


class Means(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return torch.mean(images, (2, 3))


def scripted(path: Path, network: nn.Module, old: str = "", new: str = "") -> Path:
    """A network as TorchScript, with its code changed as text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(str(path))
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    changed = {name: data.replace(old.encode(), new.encode()) for name, data in members.items()}
    assert not old or changed != members
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in changed.items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize(
    "code",
    [
        'torch.from_file("victim", True, 4, dtype=0).fill_(35)',
        'ops.aten.from_file("victim", True, 4, dtype=0).fill_(35)',
        'torch.save(images, "victim")',
        'images.save("victim")',
        'ops.image.write_file("victim", images)',
        "ops.inductor.resize_storage_bytes_(images, 10)",
    ],
)
def test_code_that_touches_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("victim").write_text("mine, and mine alone")
    hostile = scripted(Path("net.pt"), Means(), "torch.mean(images, ", f"torch.mean({code} if True else images, ")
    with pytest.raises(UserError, match="refused, because its code calls"):
        open_classifier(ClassifierOptions(str(hostile)))
    assert Path("victim").read_text() == "mine, and mine alone"


def test_code_that_computes_passes(tmp_path: Path) -> None:
    images = torch.rand(2, 3, 8, 8)
    opened = open_classifier(ClassifierOptions(str(scripted(tmp_path / "net.pt", Means()))))
    torch.testing.assert_close(opened.network(images), images.mean(dim=(2, 3)))
