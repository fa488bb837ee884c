"""The order of classes: a library's own, and that of the outputs of somebody's classifier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.cli import main
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos
from advmix.utils.errors import UserError
from pictures import digit, encoded, write
from test_digits import write_idx

NAMES = ("1", "2", "10")
AS_TEXT = ("1", "10", "2")
GREYS = {"1": 20, "2": 120, "10": 220}
FACTORY = """
import torch
from torch import nn

class Grey(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("greys", torch.tensor([20.0, 220.0, 120.0]) / 255)

    def forward(self, images):
        return -100 * (images.mean(dim=(1, 2, 3))[:, None] - self.greys) ** 2
"""


@pytest.mark.parametrize(("source", "name"), [("fashion-mnist", "FashionMNIST"), ("kmnist", "KMNIST")])
def test_torchvision_numbers_its_classes(tmp_path: Path, source: str, name: str) -> None:
    from torchvision import datasets

    write_idx(tmp_path, source)
    photos = load_photos(f"torchvision:{name}", PhotoOptions(size=28, channels=1, data_dir=tmp_path))
    theirs = getattr(datasets, name)(str(tmp_path), train=True)
    assert photos.classes == tuple(theirs.classes)
    assert photos.classes != tuple(sorted(theirs.classes, key=str.casefold))
    assert torch.equal(photos.train.images.labels, theirs.targets)


def test_of_several_names_of_a_class_the_first_one_is_taken(tmp_path: Path) -> None:
    folders = ("n01440764", "n02979186", "n03445777")
    files: dict[str, bytes | str] = {
        f"{part}/{folder}/{number}.JPEG": encoded(digit(number), "JPEG")
        for part in ("train", "val")
        for number, folder in enumerate(folders)
    }
    write(tmp_path / "imagenette2", files)
    photos = load_photos("torchvision:Imagenette", PhotoOptions(size=8, data_dir=tmp_path))
    assert photos.classes == ("tench", "cassette player", "golf ball")
    assert photos.train.images.labels.tolist() == [0, 1, 2]


def test_hugging_face_numbers_its_classes(tmp_path: Path) -> None:
    """One of them does not occur: who learned all of them has an output for it."""
    import datasets

    names = ["zebra", "cat", "Ant", "mouse"]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
    labels = [0, 1, 3, 3, 0, 1]
    columns = {"image": [digit(i) for i in range(len(labels))], "label": labels}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "data"))
    photos = load_photos(f"hf:{tmp_path / 'data'}", PhotoOptions(size=8, holdout=0))
    assert photos.classes == tuple(names)
    assert photos.train.images.labels.tolist() == labels


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A network that tells three greys apart, its outputs in the order of their names as text."""
    (tmp_path / "factory_of_order_tests.py").write_text(FACTORY)
    torch.save({"greys": torch.tensor([20.0, 220.0, 120.0]) / 255}, tmp_path / "w.pth")
    monkeypatch.chdir(tmp_path)
    return "factory_of_order_tests:Grey"


def grey(value: int) -> Image.Image:
    return Image.new("L", (8, 8), value)


def opened(factory: str, classes: tuple[str, ...]) -> OpenClassifier:
    return open_classifier(ClassifierOptions(factory, weights=Path("w.pth"), classes=classes), NAMES, (1, 8, 8))


def test_outputs_are_brought_into_the_order_of_the_data(factory: str) -> None:
    images = torch.rand(4, 1, 8, 8)
    plain, named, same = (opened(factory, classes) for classes in ((), AS_TEXT, NAMES))
    assert plain.classes == named.classes == NAMES
    torch.testing.assert_close(named.network(images), plain.network(images)[:, [0, 2, 1]])
    torch.testing.assert_close(same.network(images), plain.network(images))
    assert len({plain.fingerprint, named.fingerprint, same.fingerprint}) == 3
    assert not named.network.training
    with pytest.raises(UserError, match=r"--classes 1 2: 2 names, but .* has 3 classes"):
        opened(factory, ("1", "2"))
    with pytest.raises(UserError, match="tells 1 2 3 apart, but the images are labelled 1 2 10"):
        opened(factory, ("1", "2", "3"))
    with pytest.raises(UserError, match="--classes 1 1: name each class once"):
        ClassifierOptions(factory, classes=("1", "1"))


def test_a_classifier_with_names_answers_in_the_order_of_the_images() -> None:
    """One that advmix trained knows its classes, and the data may number them anew."""

    class Ones(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.eye(3)[: len(images)]

    ours = OpenClassifier(Ones(), "ours", ("a", "b", "c"), None, None, True, "0" * 16, outputs=3)
    assert torch.equal(ours.named(("c", "a", "b")).network(torch.zeros(3, 1, 8, 8)), torch.eye(3)[:, [2, 0, 1]])
    with pytest.raises(UserError, match="labelled a b d"):
        ours.named(("a", "b", "d"))


@pytest.mark.parametrize("way", ["flag", "file"])
def test_predict_takes_the_order_from_a_flag_or_a_file(factory: str, tmp_path: Path, way: str) -> None:
    write(tmp_path / "data", {f"{name}/{i}.png": encoded(grey(GREYS[name] + i)) for name in NAMES for i in range(4)})
    (tmp_path / "mine.json").write_text(json.dumps({"classifier": factory, "weights": "w.pth", "classes": AS_TEXT}))
    words = {"flag": [factory, "--weights", "w.pth", "--classes", *AS_TEXT], "file": ["mine.json", "--trust-code"]}[way]
    shape = ["--data", "data", "--size", "8", "--channels", "1", "--holdout", "0", "--part", "train", "--device", "cpu"]
    assert main(["predict", "--classifier", *words, *shape, "--out", "out"]) == 0
    assert json.loads(Path("out/results.json").read_text())["accuracy"] == 1
