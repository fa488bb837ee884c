"""Other people's classifiers, opened as a user names them."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import eval_mode, generator, global_seed

IMAGES = torch.rand(5, 3, 16, 16, generator=generator(0))
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
NAMES = ("cat", "dog", "fish")
FACTORIES = Path(__file__).with_name("shop.txt").read_text()


def net(classes: int = 3, channels: int = 3) -> nn.Sequential:
    """What the user's factory makes, with weights and statistics that matter."""
    with global_seed(7):
        network = nn.Sequential(
            nn.Conv2d(channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, classes),
        )
        network.train()(torch.rand(8, channels, 16, 16))
    return network.eval()


@pytest.fixture(autouse=True)
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of somebody with a module of their own and its weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "shop", raising=False)
    Path("shop.py").write_text(FACTORIES)
    torch.save(net().state_dict(), "w.pth")
    return tmp_path


def opened(classifier: str, **options: Any) -> Any:
    return open_classifier(ClassifierOptions(classifier, **options), NAMES, (3, 16, 16))


def refusal(classifier: str, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        opened(classifier, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_factory_with_weights_is_the_network_itself() -> None:
    mine = opened("shop:net", weights=Path("w.pth"), mean=MEAN, std=STD)
    torch.testing.assert_close(mine.network(IMAGES), Classifier(net(), MEAN, STD)(IMAGES))
    assert (mine.classes, mine.image, mine.method) == (NAMES, None, "unknown")
    assert mine.differentiable
    assert not mine.network.training
    assert not any(weight.requires_grad for weight in mine.network.parameters())


def test_a_network_made_in_a_script_has_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("__main__.made_here", net(), raising=False)
    mine = opened("__main__:made_here", mean=MEAN, std=STD)
    torch.testing.assert_close(mine.network(IMAGES), Classifier(net(), MEAN, STD)(IMAGES))


def test_images_are_resized_for_the_network() -> None:
    mine = opened("shop:fixed", input_size=12)
    assert mine.input_size == 12
    assert mine.network(IMAGES).shape == (5, 3)
    assert "--input-size" in refusal("shop:fixed")


def test_grey_images_go_into_an_rgb_network() -> None:
    mine = open_classifier(ClassifierOptions("shop:net", weights=Path("w.pth")), NAMES, (1, 16, 16))
    grey = IMAGES[:, :1]
    torch.testing.assert_close(mine.network(grey), net()(grey.repeat(1, 3, 1, 1)))


def test_rgb_images_go_into_a_grey_network_as_luminance() -> None:
    from torchvision.transforms.v2.functional import rgb_to_grayscale

    torch.save(net(channels=1).state_dict(), "grey.pth")
    mine = opened("shop:net", classifier_args='{"channels": 1}', weights=Path("grey.pth"))
    expected = net(channels=1)(rgb_to_grayscale(IMAGES))
    torch.testing.assert_close(mine.network(IMAGES), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", ["binary", "Brightness"])  # the second is in [0, 1] on every image
def test_single_logit_is_two_classes(name: str) -> None:
    mine = open_classifier(ClassifierOptions(f"shop:{name}"), ("no", "yes"))
    assert mine.network(IMAGES).shape == (5, 2)
    assert (mine.network(IMAGES)[:, 0] == 0).all()


def test_a_single_probability_becomes_its_log_odds(capsys: pytest.CaptureFixture[str]) -> None:
    mine: Any = open_classifier(ClassifierOptions("shop:sigmoid"), ("no", "yes"))
    assert "a single probability" in capsys.readouterr().out
    images = 5 * IMAGES - 2
    probability, found = mine.network.network(images), mine.network(images)
    torch.testing.assert_close(found.softmax(dim=1)[:, 1:], probability)
    assert torch.equal(found.argmax(dim=1), (probability[:, 0] > 0.5).long())


def test_probabilities_become_logits() -> None:
    mine = opened("shop:softmax")
    probabilities = mine.network.network(IMAGES)
    torch.testing.assert_close(mine.network(IMAGES).softmax(dim=1), probabilities)
    torch.testing.assert_close(mine.network(IMAGES).exp(), probabilities)


def test_output_with_logits_is_unpacked() -> None:
    torch.testing.assert_close(opened("shop:Wrapped").network(IMAGES), IMAGES.mean(dim=(2, 3)))


def test_network_without_gradients_is_found_out() -> None:
    blind = opened("shop:Blind")
    assert not blind.differentiable
    blind.check_search(steps=0)
    with pytest.raises(UserError, match="--steps 0"):
        blind.check_search(steps=1)
    opened("shop:net").check_search(steps=5)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict"])
def test_checkpoints_of_training_programs_are_unwrapped(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    prefixed = {f"module._orig_mod.{name}": value for name, value in net().state_dict().items()}
    torch.save({key: prefixed, "epoch": 3, "args": argparse.Namespace(lr=0.1)}, "c.pth")
    mine = opened("shop:net", weights=Path("c.pth"))
    torch.testing.assert_close(mine.network(IMAGES), net()(IMAGES))
    said = capsys.readouterr().out
    assert all(word in said for word in (f"'{key}'", "'module.'", "'_orig_mod.'"))


def test_prefix_that_is_the_networks_own_stays() -> None:
    holder = nn.Sequential()
    holder.add_module("model", net())
    Path("shop.py").write_text(
        FACTORIES
        + "\ndef deep():\n    holder = nn.Sequential()\n    holder.add_module('model', net())\n    return holder\n"
    )
    torch.save(holder.state_dict(), "deep.pth")
    torch.testing.assert_close(opened("shop:deep", weights=Path("deep.pth")).network(IMAGES), net()(IMAGES))


def test_safetensors_are_read() -> None:
    save_file(net().state_dict(), "w.safetensors")
    torch.testing.assert_close(opened("shop:net", weights=Path("w.safetensors")).network(IMAGES), net()(IMAGES))


def test_counters_of_batch_normalisation_may_be_missing() -> None:
    torch.save({name: value for name, value in net().state_dict().items() if "num_batches" not in name}, "old.pth")
    torch.testing.assert_close(opened("shop:net", weights=Path("old.pth")).network(IMAGES), net()(IMAGES))


def test_weights_of_another_network_are_refused_by_name() -> None:
    torch.save({"other.weight": torch.ones(2), **dict(list(net().state_dict().items())[1:])}, "o.pth")
    said = refusal("shop:net", weights=Path("o.pth"))
    assert "0.weight" in said
    assert "other.weight" in said
    torch.save(net(classes=4).state_dict(), "four.pth")
    said = refusal("shop:net", weights=Path("four.pth"))
    assert "5.weight (4, 4), the network's (3, 4)" in said
    assert "--classifier-args" in said


@pytest.mark.parametrize(
    ("classifier", "options", "words"),
    [
        ("shop:net", {"classifier_args": '{"classes": 4}'}, "4 classes, but the images have 3"),
        ("shop:net", {"classifier_args": '{"sides": 4}'}, "sides"),
        ("shop:net", {"weights": Path("none.pth")}, "none.pth: no such file"),
        ("shop:net", {"mean": (0.5, 0.5)}, "2 numbers"),
        ("shop:broken", {}, "ValueError: no such shop"),
        ("shop:number", {}, "made a int"),
        ("shop:nothing", {}, "not a function"),
        ("shop:none", {}, "none"),
        ("shop:Map", {}, "not with logits"),
        ("nowhere:net", {}, "No module named 'nowhere'"),
        ("runs/none", {}, "no such folder"),
        ("none.onnx", {}, "no such file"),
        ("shop.py", {}, "no such folder"),
        ("torchvision:resnet19", {}, "resnet18"),
        ("torchvision:resnet18", {}, "--weights"),
        ("torchvision:resnet18", {"classifier_args": '{"weights": "V9"}'}, "IMAGENET1K_V1"),
        ("timm:resnet19", {}, "no such model"),
        ("timm:resnet18", {}, '{"pretrained": true}'),
    ],
)
def test_refusals_say_what_is_wrong_in_one_line(classifier: str, options: dict[str, Any], words: str) -> None:
    assert words in refusal(classifier, **options)


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    assert "advmix[timm]" in refusal("timm:resnet18")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    Path("a.onnx").write_bytes(b"")
    assert "advmix[onnx]" in refusal("a.onnx")


def test_torchvision_and_timm_networks_take_weights() -> None:
    import timm
    from torchvision import models

    makers: dict[str, Callable[[], nn.Module]] = {
        "torchvision:squeezenet1_1": lambda: models.squeezenet1_1(num_classes=3),
        "timm:test_resnet": lambda: timm.create_model("test_resnet", num_classes=3),
    }
    images = torch.rand(2, 3, 40, 40, generator=generator(1))
    for name, make in makers.items():
        with global_seed(3):
            network = make().eval()
        torch.save(network.state_dict(), "theirs.pth")
        mine = opened(name, classifier_args='{"num_classes": 3}', weights=Path("theirs.pth"), input_size=40)
        torch.testing.assert_close(mine.network(images), network(images))


def test_json_file_says_it_all() -> None:
    told = {"classifier": "shop:net", "weights": "w.pth", "mean": list(MEAN), "std": list(STD)}
    Path("mine.json").write_text(json.dumps(told))
    mine, same = opened("mine.json", trust_code=True), opened("shop:net", weights=Path("w.pth"), mean=MEAN, std=STD)
    assert torch.equal(mine.network(IMAGES), same.network(IMAGES))
    assert mine.fingerprint == same.fingerprint
    assert "leave other flags out" in refusal("mine.json", input_size=16)
    Path("mine.json").write_text('{"classifier": "shop:net", "sizes": 3}')
    assert "sizes" in refusal("mine.json", trust_code=True)


def test_fingerprint_changes_with_all_that_changes_answers() -> None:
    torch.save(net().state_dict() | {"5.bias": torch.ones(3)}, "other.pth")
    variants: list[dict[str, Any]] = [
        {},
        {"weights": Path("other.pth")},
        {"mean": MEAN},
        {"std": STD},
        {"input_size": 8},
    ]
    prints = {opened("shop:net", **{"weights": Path("w.pth"), **variant}).fingerprint for variant in variants}
    assert len(prints) == len(variants)
    assert opened("shop:net", weights=Path("w.pth")).fingerprint in prints


def exported_files(batch: int | None) -> dict[str, Path]:
    """The same network in each format, with a batch of any or of one size."""
    images = torch.rand(batch or 2, 3, 16, 16)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    program = torch.export.export(net(), (images,), dynamic_shapes=shapes)
    torch.export.save(program, "net.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(net(), images).save("net.pt")
        dynamic = None if batch else {"images": {0: "batch"}}
        torch.onnx.export(net(), (images,), "net.onnx", input_names=["images"], dynamic_axes=dynamic, dynamo=False)
    return {name: Path(f"net.{name}") for name in ("pt", "pt2", "onnx")}


@pytest.mark.parametrize("batch", [None, 1, 2])
def test_exported_networks_answer_like_the_network(batch: int | None) -> None:
    for name, path in exported_files(batch).items():
        mine = opened(str(path), mean=MEAN, std=STD)
        expected = Classifier(net(), MEAN, STD)(IMAGES)
        with eval_mode(mine.network) as (network,):
            torch.testing.assert_close(network(IMAGES), expected, atol=1e-5, rtol=1e-4)
        assert mine.differentiable == (name != "onnx")
        assert mine.input_size == (None if name == "pt" else 16)
        larger = torch.rand(2, 3, 32, 32, generator=generator(2))
        assert mine.network(larger).shape == (2, 3)
        if mine.differentiable:
            images, same = IMAGES.clone().requires_grad_(), IMAGES.clone().requires_grad_()
            (found,) = torch.autograd.grad(mine.network(images)[:, 0].sum(), images)
            (wanted,) = torch.autograd.grad(Classifier(net(), MEAN, STD)(same)[:, 0].sum(), same)
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("name", ["net.pt", "net.pt2", "net.onnx"])
def test_damaged_files_are_refused(name: str) -> None:
    Path(name).write_bytes(b"damaged")
    assert name in refusal(name)
    assert "--weights" in refusal(name, weights=Path("w.pth"))


def test_weights_given_as_a_network_are_told_where_they_go() -> None:
    assert "--weights" in refusal("w.pth")


class Hostile:
    """Leaves a trace when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {Path('trace').absolute()}",)


@pytest.fixture
def no_trace() -> Any:
    yield
    assert not Path("trace").exists()


def test_the_hostile_file_of_these_tests_is_one() -> None:
    pickle.loads(pickle.dumps(Hostile()))
    assert Path("trace").exists()


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("wrapped", [True, False])
def test_hostile_weights_are_refused(wrapped: bool) -> None:
    torch.save({**net().state_dict(), "extra": Hostile()} if wrapped else Hostile(), "h.pth")
    assert "not unpickled" in refusal("shop:net", weights=Path("h.pth"))
    Path("raw.pth").write_bytes(pickle.dumps(Hostile()))
    refusal("shop:net", weights=Path("raw.pth"))
    refusal("raw.pth")


@pytest.mark.usefixtures("no_trace")
def test_pickled_network_is_refused() -> None:
    torch.save(net(), "whole.pth")
    assert "state_dict()" in refusal("shop:net", weights=Path("whole.pth"))


def rewritten(change: Callable[[str, bytes], bytes], more: dict[str, bytes] | None = None) -> Path:
    """An archive of torch.export with some of its members changed or added."""
    with zipfile.ZipFile("net.pt2") as old, zipfile.ZipFile("hostile.pt2", "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("net/", "hostile/", 1), change(name, old.read(name)))
        for name, data in (more or {}).items():
            new.writestr(f"hostile/{name}", data)
    return Path("hostile.pt2")


def hostile_archives() -> dict[str, Callable[[], Path]]:
    trace = f"touch {Path('trace').absolute()}"

    def in_json(old: str, new: str, where: str = "models/model.json") -> Path:
        def change(name: str, data: bytes) -> bytes:
            changed = data.replace(old.encode(), new.encode())
            assert changed != data or not name.endswith(where)
            return changed if name.endswith(where) else data

        return rewritten(change)

    def pickled(member: str) -> Path:
        torch.save(Hostile(), "p")
        return rewritten(lambda name, data: Path("p").read_bytes() if name.endswith(member) else data)

    def pickled_weight() -> Path:
        torch.save(Hostile(), "p")

        def change(name: str, data: bytes) -> bytes:
            if name.endswith("weights_config.json"):
                return data.replace(b'"use_pickle": false', b'"use_pickle": true')
            return Path("p").read_bytes() if "weights/weight_" in name else data

        return rewritten(change)

    expression = f"""__import__("os").system("{trace}")""".replace('"', '\\"')
    return {
        "weight": pickled_weight,
        "inputs": lambda: pickled("sample_inputs/model.pt"),
        "expression": lambda: in_json("Symbol('", f"{expression} or Symbol('"),
        "operator": lambda: in_json("torch.ops.aten.relu.default", "torch.os.system"),
        "member": lambda: rewritten(lambda _, data: data, {"data/constants/opaque_obj_0": pickle.dumps(Hostile())}),
        "twice": lambda: rewritten(lambda _, data: data, {"data/weights/weight_99": b"", "code/code.py": b""}),
    }


@pytest.mark.usefixtures("no_trace")
@pytest.mark.parametrize("kind", ["weight", "inputs", "expression", "operator", "member", "twice"])
def test_hostile_archives_are_refused(kind: str) -> None:
    exported_files(None)
    path = hostile_archives()[kind]()
    assert "refused" in refusal(str(path))


def test_the_rewritten_archive_is_fine_when_nothing_is_changed() -> None:
    exported_files(None)
    mine = opened(str(rewritten(lambda _, data: data)))
    torch.testing.assert_close(mine.network(IMAGES), net()(IMAGES))


def test_tensor_is_what_a_classifier_returns() -> None:
    answer: Tensor = opened("shop:ready").network(IMAGES)
    assert answer.shape == (5, 3)
