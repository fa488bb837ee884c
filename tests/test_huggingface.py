"""Folders of Hugging Face's save_pretrained as classifiers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from PIL import Image

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, global_seed

IMAGES = torch.randint(256, (3, 3, 24, 24), generator=generator(0)) / 255
LABELS = {0: "dog", 1: "cat", 2: "fish"}
TINY: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def vit(labels: dict[int, str] | None = None, **more: Any) -> Any:
    names = LABELS if labels is None else labels
    config = transformers.ViTConfig(
        image_size=24, patch_size=8, id2label=names, label2id={v: k for k, v in names.items()}, **TINY, **more
    )
    with global_seed(1):
        network: Any = transformers.ViTForImageClassification(config)
    return network.eval()


def processor(**options: Any) -> Any:
    given = {"size": {"height": 24, "width": 24}, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}
    return transformers.ViTImageProcessor(**given | options)


def opened(folder: str, labels: tuple[str, ...] | None = None, **options: Any) -> Any:
    return open_classifier(ClassifierOptions(folder, **options), labels, (3, 24, 24))


def refusal(folder: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        opened(folder, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def theirs(network: Any, shape: Any) -> torch.Tensor:
    """What transformers answers to the images as pictures."""
    pictures = [Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()) for image in IMAGES]
    with torch.no_grad():
        answer: torch.Tensor = network(**shape(pictures, return_tensors="pt")).logits
    return answer


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"do_normalize": False},
        {"rescale_factor": 1 / 127.5},
        {"do_rescale": False, "image_mean": [100.0, 110.0, 120.0], "image_std": [50.0, 60.0, 70.0]},
    ],
    ids=str,
)
@pytest.mark.parametrize("safe", [True, False])
def test_a_folder_answers_as_transformers_does(options: dict[str, Any], safe: bool) -> None:
    network, shape = vit(), processor(**options)
    network.save_pretrained("saved")
    if not safe:
        Path("saved/model.safetensors").unlink()
        torch.save(network.state_dict(), "saved/pytorch_model.bin")
    shape.save_pretrained("saved")
    mine = opened("saved")
    torch.testing.assert_close(mine.network(IMAGES), theirs(network, shape), atol=1e-4, rtol=1e-3)
    assert (mine.classes, mine.input_size, mine.differentiable) == (("dog", "cat", "fish"), 24, True)


def test_its_names_are_those_of_the_outputs() -> None:
    vit().save_pretrained("saved")
    plain, sorted_ = opened("saved"), opened("saved", ("cat", "dog", "fish"))
    torch.testing.assert_close(sorted_.network(IMAGES), plain.network(IMAGES)[:, [1, 0, 2]])
    with pytest.raises(UserError, match="tells dog cat fish apart, but the images are labelled a b c"):
        opened("saved", ("a", "b", "c"))
    merged = opened("saved", ("pet", "fish"), classes=("dog,Cat=pet", "*=fish"))
    found, expected = merged.network(IMAGES).softmax(dim=1), plain.network(IMAGES).softmax(dim=1)
    torch.testing.assert_close(found[:, 1], expected[:, 2])
    with pytest.raises(UserError, match="no output bird; they are numbered 0 to 2, and called dog, cat, fish"):
        opened("saved", ("pet", "fish"), classes=("bird=pet", "*=fish"))


def test_names_that_say_nothing_are_none() -> None:
    vit({0: "LABEL_0", 1: "LABEL_1", 2: "LABEL_2"}).save_pretrained("saved")
    assert opened("saved").classes is None
    assert opened("saved", ("a", "b", "c")).classes == ("a", "b", "c")


def test_the_size_is_that_of_the_config_where_nothing_else_says_it() -> None:
    vit().save_pretrained("saved")
    mine = open_classifier(ClassifierOptions("saved"), image=(3, 40, 40))
    assert mine.input_size == 24
    processor(size={"height": 224, "width": 224}).save_pretrained("saved")
    assert opened("saved").input_size == 24
    assert opened("saved", mean=(0.5,) * 3, std=(0.5,) * 3).fingerprint != opened("saved").fingerprint


def test_a_grey_network() -> None:
    network = vit(num_channels=1)
    network.save_pretrained("saved")
    processor(image_mean=[0.4], image_std=[0.2]).save_pretrained("saved")
    luminance = IMAGES.mul(torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    with torch.no_grad():
        torch.testing.assert_close(opened("saved").network(IMAGES), network((luminance - 0.4) / 0.2).logits)


def test_weights_that_are_not_there_are_missed() -> None:
    transformers.ViTModel(vit().config).save_pretrained("saved")
    assert "lacks 2 of the weights of ViTForImageClassification, classifier." in refusal("saved")


def test_code_of_a_folder_is_not_executed() -> None:
    vit().save_pretrained("saved")
    config = json.loads(Path("saved/config.json").read_text())
    names = {"AutoConfig": "evil.Config", "AutoModelForImageClassification": "evil.Net"}
    Path("saved/config.json").write_text(json.dumps({**config, "model_type": "evil", "auto_map": names}))
    Path("saved/evil.py").write_text("import pathlib\npathlib.Path('trace').touch()\n")
    assert "needs Python code that it brings, which is not executed" in refusal("saved")
    assert not Path("trace").exists()


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('pathlib').Path('trace').touch()",)


def test_hostile_weights_are_not_unpickled() -> None:
    vit().save_pretrained("saved")
    Path("saved/model.safetensors").unlink()
    torch.save({**vit().state_dict(), "extra": Hostile()}, "saved/pytorch_model.bin")
    assert "weights_only" not in refusal("saved")
    assert not Path("trace").exists()


def test_folders_of_something_else_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("empty").mkdir()
    said = refusal("empty")
    assert "classifier.safetensors: no such file" in said
    assert "save_pretrained" in said
    Path("text").mkdir()
    transformers.BertConfig(**TINY).save_pretrained("text")
    assert "text: " in refusal("text")
    vit().save_pretrained("saved")
    assert "a whole network; leave out --weights" in refusal("saved", weights=Path("w.pth"))
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    assert "pip install 'advmix[transformers]'" in refusal("saved")
