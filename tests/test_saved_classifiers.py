"""Classifiers with other weights, written so that `--classifier` reads them again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision import models

from advmix.classifiers.open import open_classifier
from advmix.classifiers.save import check_saved, save_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed
from trained import classifier, images

IMAGES = torch.rand(4, 3, 32, 32, generator=generator(0))
LABELS: dict[str, Any] = {"num_labels": 3}
NAME = "torchvision:shufflenet_v2_x0_5"


def changed(core: nn.Module) -> nn.Module:
    """Other weights, in place."""
    with torch.no_grad():
        for weight in core.parameters():
            weight.add_(0.01 * torch.randn(weight.shape, generator=generator(1)))
    return core


@torch.no_grad()
def answer(network: nn.Module, shown: Tensor) -> Tensor:
    logits: Tensor = network(shown)
    return logits


def written(folder: Path, opened: Any) -> Any:
    """What is named by `--classifier` after its weights have changed and were written."""
    before = answer(opened.network, IMAGES)
    path = save_classifier(folder, opened, changed(opened.core), {"adapted": {"how": "styles"}})
    assert not torch.allclose(before, answer(opened.network, IMAGES))
    if path is not None:
        check_saved(path, opened, opened.network, IMAGES)
    return path


def test_a_network_of_a_library_comes_back_with_how_images_are_brought_to_it(tmp_path: Path) -> None:
    with global_seed(0):
        torch.save(models.get_model("shufflenet_v2_x0_5", num_classes=3).state_dict(), tmp_path / "old.pt")
    brought: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4), "input_size": "40x36"}
    made: dict[str, Any] = {
        "classifier_args": {"num_classes": 3},
        "weights": tmp_path / "old.pt",
        "classes": ("b", "c", "a"),
    }
    options = ClassifierOptions(NAME, **brought, **made)
    opened = open_classifier(options, ("a", "b", "c"), (3, 32, 32))
    path = written(tmp_path / "new", opened)
    again = open_classifier(str(path), ("a", "b", "c"), (3, 32, 32))
    torch.testing.assert_close(answer(again.network, IMAGES), answer(opened.network, IMAGES))
    (tmp_path / "new").rename(tmp_path / "elsewhere")
    again = open_classifier(str(tmp_path / "elsewhere" / path.name), ("a", "b", "c"), (3, 32, 32))
    torch.testing.assert_close(answer(again.network, IMAGES), answer(opened.network, IMAGES))


def test_a_folder_of_train_comes_back_and_says_what_was_done(tmp_path: Path) -> None:
    classes = tuple(reversed(images().train.classes))
    opened = open_classifier(classifier(), classes)
    pixels = images().test.batch(slice(0, 4))[0]
    path = save_classifier(
        tmp_path / "new", opened, changed(opened.core or nn.Identity()), {"adapted": {"how": "both"}}
    )
    again = open_classifier(path or "", classes)
    torch.testing.assert_close(answer(again.network, pixels), answer(opened.network, pixels))
    assert again.metadata["adapted"] == {"how": "both"}
    assert again.classes == classes


def test_a_folder_of_save_pretrained_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = transformers.ResNetConfig(hidden_sizes=[8, 8], depths=[1, 1], embedding_size=8, **LABELS)
    with global_seed(0):
        network: Any = transformers.ResNetForImageClassification(config)
    network.save_pretrained(tmp_path / "old")
    shape = transformers.ViTImageProcessor(size={"height": 32, "width": 32}, image_mean=[0.1] * 3, image_std=[0.5] * 3)
    shape.save_pretrained(tmp_path / "old")
    opened = open_classifier("old", image=(3, 32, 32))
    path = written(tmp_path / "new", opened)
    assert path == tmp_path / "new"
    torch.testing.assert_close(answer(open_classifier(path).network, IMAGES), answer(opened.network, IMAGES))


def test_a_factory_of_wrapped_networks_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def make() -> Classifier:
        with global_seed(0):
            network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 30 * 30, 2))
        return Classifier(network, mean=(0.5,), std=(0.5,))

    monkeypatch.setattr("__main__.wrapped", make, raising=False)
    opened = open_classifier("__main__:wrapped", image=(3, 32, 32))
    path = written(tmp_path / "new", opened)
    with pytest.raises(UserError, match="trust-code"):
        open_classifier(str(path), image=(3, 32, 32))


def test_a_module_in_memory_has_its_weights_alone(tmp_path: Path) -> None:
    with global_seed(0):
        module = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    opened = open_classifier(module, image=(3, 32, 32))
    assert written(tmp_path / "new", opened) is None
    module.load_state_dict(load_file(tmp_path / "new" / "weights.safetensors"))
    torch.testing.assert_close(answer(module, IMAGES), answer(opened.network, IMAGES))


def test_a_file_that_answers_otherwise_is_refused(tmp_path: Path) -> None:
    opened = open_classifier(classifier(), images().train.classes)
    path = save_classifier(tmp_path / "new", opened, opened.core or nn.Identity(), {})
    other = open_classifier(classifier("ceiling"), images().train.classes)
    assert path is not None
    with pytest.raises(UserError, match="answers otherwise"):
        check_saved(path, opened, other.network, images().test.batch(slice(0, 4))[0])
