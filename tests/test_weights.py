"""Weights as training programs save them, for a network of somebody's."""

from __future__ import annotations

import argparse
import collections
import datetime
import decimal
import json
import pickle
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from advmix.classifiers.weights import load_weights
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed


def net(seed: int = 0, classes: int = 3) -> nn.Sequential:
    with global_seed(seed):
        return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, classes))


def under(prefix: str, seed: int = 0) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in net(seed).state_dict().items()}


RAW, GOOD = under("", 1), under("")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(saved: Any, capsys: pytest.CaptureFixture[str] | None = None, name: str = "w.pth") -> str:
    """Loads what is saved, checks that these are the right weights, and returns what was said."""
    torch.save(saved, name)
    return loads(Path(name), capsys)


def loads(path: Path, capsys: pytest.CaptureFixture[str] | None = None) -> str:
    network = net(9)
    load_weights(network, path)
    assert all(torch.equal(value, GOOD[name]) for name, value in network.state_dict().items())
    return "" if capsys is None else " ".join(capsys.readouterr().out.split())


def refusal(path: str = "w.pth", saved: Any = None) -> str:
    if saved is not None:
        torch.save(saved, path)
    with pytest.raises(UserError) as caught:
        load_weights(net(9), Path(path))
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "keys",
    [["model", "state_dict"], ["params"], ["network"], ["weights"], ["a", "b", "c"], ["model_ema"], ["state_dict_ema"]],
    ids=str,
)
def test_weights_are_found_under_any_keys(keys: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    saved: Any = GOOD
    for key in reversed(keys):
        saved = {key: saved, "epoch": 3}
    assert f"weights found under '{'.'.join(keys)}'" in loaded(saved, capsys)


@pytest.mark.parametrize("prefix", ["module.", "backbone.", "model.net.", "module._orig_mod.", "a.b.c.d."])
def test_any_prefix_is_removed(prefix: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = loaded({"state_dict": under(prefix)}, capsys)
    assert all(f"prefix '{piece}.' removed" in said for piece in prefix.split(".")[:-1])


def test_a_checkpoint_of_lightning(capsys: pytest.CaptureFixture[str]) -> None:
    state = {**under("model."), "criterion.weight": torch.ones(3), "val_acc.metric.total": torch.zeros(1)}
    optimizer = {"state": {0: {"step": torch.ones(1), "exp_avg": torch.ones(3)}}}
    said = loaded({"epoch": 1, "state_dict": state, "optimizer_states": [optimizer], "callbacks": {}}, capsys)
    assert "not the network's and left alone: criterion.weight, val_acc.metric.total" in said
    assert "criterion.weight" in loaded({**GOOD, "criterion.weight": torch.ones(3)}, capsys)


def test_an_averaged_model_of_torch(capsys: pytest.CaptureFixture[str]) -> None:
    averaged = torch.optim.swa_utils.AveragedModel(net())
    averaged.update_parameters(net())
    assert "n_averaged" in loaded(averaged.state_dict(), capsys)


@pytest.mark.parametrize(
    ("saved", "places"),
    [
        ({"state_dict": RAW, "state_dict_ema": GOOD}, ("state_dict_ema", "state_dict")),
        ({"model": RAW, "model_ema": GOOD}, ("model_ema", "model")),
        ({"params": RAW, "params_ema": GOOD}, ("params_ema", "params")),
        ({"model": RAW, "ema": {"module": GOOD}}, ("ema.module", "model")),
        ({"state_dict": {**under("model.", 1), **under("ema_model.")}}, ("state_dict", "state_dict.model")),
        ({"state_dict": GOOD, "best_so_far": RAW}, ("state_dict", "best_so_far")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_of_several_the_averages_or_the_usual_are_taken_and_it_is_said(
    saved: Any, places: tuple[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    said = loaded(saved, capsys)
    assert f"found under '{places[0]}'" in said
    assert f"those under '{places[1]}' left alone" in said
    assert ("averages over training" in said) == ("ema" in str(saved))


def test_several_that_nothing_tells_apart_are_refused() -> None:
    said = refusal(saved={"student": RAW, "teacher": GOOD})
    assert "'student' and 'teacher'" in said
    said = refusal(saved={**under("student.", 1), **under("teacher.")})
    assert "'student' and 'teacher'" in said
    loaded({"student": GOOD, "teacher": GOOD})


def test_weights_of_another_network_are_named() -> None:
    assert "lacks 3.bias" in refusal(saved={name: value for name, value in GOOD.items() if name != "3.bias"})
    assert "has beside the network's head.weight" in refusal(saved={**GOOD, "head.weight": torch.ones(3)})
    assert "aux.weight" in refusal(saved={"state_dict": {**under("model."), "model.aux.weight": torch.ones(3)}})
    assert "3.weight (4, 16), the network's (3, 16)" in refusal(saved=net(classes=4).state_dict())
    assert "only epoch" in refusal(saved={"epoch": 3})


class Mine:
    """A class of the user's, which has no business in a checkpoint and is there all the same."""

    def __init__(self) -> None:
        self.rate = 0.1


@pytest.mark.parametrize(
    "value",
    [
        np.float64(0.5),
        np.zeros(3),
        np.random.default_rng(0).bit_generator.state,
        Path("runs/x"),
        datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
        datetime.timedelta(seconds=3),
        collections.defaultdict(list, a=[1]),
        collections.Counter("ab"),
        collections.deque([1, 2]),
        argparse.Namespace(lr=0.1, out=Path("x")),
        SimpleNamespace(lr=0.1),
        torch.Size([1, 2]),
        torch.device("cpu"),
        torch.float16,
        decimal.Decimal("0.1"),
        {1, 2},
        frozenset([Path("x")]),
        slice(1, 2),
        complex(1, 2),
        range(3),
        nn.CrossEntropyLoss(),
        Mine(),
        [Mine(), (np.int64(3), None)],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_lies_beside_the_weights_is_inert(value: Any) -> None:
    loaded({"state_dict": GOOD, "extra": value, "nested": {"deep": [value]}})


def test_an_old_torch_file() -> None:
    torch.save({"model": GOOD, "when": Path("x")}, "old.pth", _use_new_zipfile_serialization=False)
    loads(Path("old.pth"))


def test_weights_in_other_mappings() -> None:
    loaded(collections.OrderedDict(GOOD))
    loaded(collections.defaultdict(list, GOOD))


def test_half_weights_of_a_network_of_floats() -> None:
    torch.save({name: value.half() if value.is_floating_point() else value for name, value in GOOD.items()}, "w.pth")
    network = net(9)
    load_weights(network, Path("w.pth"))
    torch.testing.assert_close(network[0].weight, GOOD["0.weight"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "w.pt", "w.safetensors"])
def test_content_counts_and_not_the_name(name: str) -> None:
    save_file(GOOD, name)
    loads(Path(name))
    torch.save(GOOD, name)
    loads(Path(name))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_index_of_shards(ending: str) -> None:
    names, folder = list(GOOD), Path("folder")
    folder.mkdir()
    shards = {f"model-{i}-of-2.{ending}": {name: GOOD[name] for name in names[i::2]} for i in range(2)}
    for file, tensors in shards.items():
        save_file(tensors, folder / file) if ending == "safetensors" else torch.save(tensors, folder / file)
    index = folder / {"safetensors": "model.safetensors.index.json", "bin": "pytorch_model.bin.index.json"}[ending]
    index.write_text(json.dumps({"weight_map": {name: file for file in shards for name in shards[file]}}))
    loads(index)
    loads(folder)
    (folder / f"model-1-of-2.{ending}").unlink()
    assert f"lacks its shard folder/model-1-of-2.{ending}" in refusal(str(index))
    index.write_text(json.dumps({"weight_map": {"0.weight": "../w.pth"}}))
    assert "names a shard elsewhere, ../w.pth" in refusal(str(index))
    index.write_text("[]")
    assert "not an index of shards" in refusal(str(index))
    index.write_text("[" * 100_000)
    assert "too deep" in refusal(str(index))


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("__import__('pathlib').Path('trace').touch()",)


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_objects_are_never_made(zipped: bool) -> None:
    torch.save({**GOOD, "extra": Hostile()}, "h.pth", _use_new_zipfile_serialization=zipped)
    said = refusal("h.pth")
    assert "builtins.eval" in said.replace("__builtin__", "builtins")
    assert "not unpickled" in said
    assert not Path("trace").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "neither safetensors nor a torch file"),
        (b"\x89HDF\r\n\x1a\n", "neither safetensors nor a torch file"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{broken", "neither safetensors nor a torch file"),
        (pickle.dumps({"w": 1}), "neither safetensors nor a torch file"),
    ],
)
def test_files_of_another_kind(content: bytes, words: str) -> None:
    Path("w.bin").write_bytes(content)
    assert words in refusal("w.bin")


def test_whole_networks_are_told_where_they_belong() -> None:
    assert "holds a torch.nn.modules.container.Sequential" in refusal(saved=net())
    assert "holds a list" in refusal(saved=[GOOD])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer versions of torch call TorchScript old
        torch.jit.script(net()).save("t.pt")
    assert "--classifier" in refusal("t.pt")


def test_a_file_that_unpacks_to_far_more_is_refused() -> None:
    with zipfile.ZipFile("bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("archive/data.pkl", bytes(10**7))
    assert "would unpack to" in refusal("bomb.pth")
