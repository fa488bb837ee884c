"""Archives of torch.export as a hostile hand writes them: read as data, and refused in one line."""

from __future__ import annotations

import io
import json
import os
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.open import open_classifier
from advmix.classifiers.safe_archive import check_archive
from advmix.classifiers.settings import ClassifierOptions
from advmix.utils.errors import UserError

SOUND = {"nodes": [{"target": "torch.ops.aten.relu.default"}], "sizes": [{"as_expr": {"expr_str": "Symbol('s0')"}}]}


def archive(model: Any, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as made:
        made.writestr("net/models/model.json", json.dumps(model))
    return file.getvalue()


def patched(data: bytes, local: int, central: int, value: int) -> bytes:
    """A byte of the only member's header changed, in both places where it stands."""
    changed = bytearray(data)
    changed[local] = changed[data.index(b"PK\x01\x02") + central] = value
    return bytes(changed)


def refusal(data: bytes) -> str:
    with pytest.raises(UserError) as caught:
        check_archive(data, Path("net.pt2"))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_sound_one_passes() -> None:
    check_archive(archive(SOUND), Path("net.pt2"))
    check_archive(archive(SOUND, zipfile.ZIP_DEFLATED), Path("net.pt2"))


@pytest.mark.parametrize(
    "entry",
    [
        {"path_name": 5},
        {"path_name": None},
        {"as_operator": ["torch.ops.aten.relu.default"]},
        {"as_operator": {}},
        {"expr_str": ["__import__('os').system('true')"]},
        {"in_spec": 5},
        {"out_spec": ["builtins.list"]},
    ],
    ids=json.dumps,
)
def test_values_of_another_kind_are_refused(entry: dict[str, Any]) -> None:
    assert "refused" in refusal(archive({**SOUND, **entry}))


def test_members_that_cannot_be_read_are_refused() -> None:
    plain, packed = archive(SOUND), archive(SOUND, zipfile.ZIP_DEFLATED)
    start = 30 + len("net/models/model.json")
    torn = packed[:start] + bytes([255] * 8) + packed[start + 8 :]
    for data in (patched(plain, 6, 8, 1), patched(plain, 8, 10, 97), torn, plain[:-30]):
        assert "not a file of torch.export.save, or damaged" in refusal(data)


def node(target: str, *arguments: Any) -> dict[str, Any]:
    return {"nodes": [{"target": target, "inputs": [{"name": "x", "arg": entry, "kind": 1} for entry in arguments]}]}


@pytest.mark.parametrize(
    "name",
    [
        "from_file",
        "set_",
        "resize_",
        "record_stream",
        "save",
        "_pin_memory",
        "item",
        "_local_scalar_dense",
        "_cufft_set_plan_cache_max_size",
        "manual_seed",
        "repeat_interleave",
        "to_sparse",
        "nonzero",
    ],
)
def test_operators_that_do_more_than_compute_are_refused(name: str) -> None:
    assert f"operator torch.ops.aten.{name}" in refusal(archive(node(f"torch.ops.aten.{name}.default")))


@pytest.mark.parametrize("target", ["torch.ops.higher_order.cond", "torch.ops.mine.op", "_operator.pow", "os.system"])
def test_operators_that_are_not_atens_are_refused(target: str) -> None:
    assert "refused" in refusal(archive(node(target)))


@pytest.mark.parametrize(
    "hostile",
    [
        node("torch.ops.aten.full.default", {"as_ints": [10**12]}, {"as_float": 0.0}),
        node("torch.ops.aten.zeros.default", {"as_ints": [10**6, 10**6]}),
        node("torch.ops.aten.full.default", {"as_sym_ints": [{"as_int": 10**5}, {"as_int": 10**6}]}),
        node("torch.ops.aten.arange.default", {"as_int": 10**15}),
        node("torch.ops.aten.arange.default", {"as_float": 1e15}),
        node("torch.ops.aten.arange.start_step", {"as_int": 0}, {"as_int": 1}, {"as_float": 1e-15}),
        node("torch.ops.aten.repeat.default", {"as_tensor": {"name": "x"}}, {"as_ints": [10**9, 10**9]}),
        node("torch.ops.aten.expand.default", {"as_tensor": {"name": "x"}}, {"as_ints": [10**12]}),
    ],
    ids=str,
)
def test_constants_that_ask_for_all_memory_are_refused(hostile: dict[str, Any]) -> None:
    assert " of [" in refusal(archive(hostile))


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "x=print(1)"},
        {"as_name": "x;y"},
        {"parameter_name": 'x")+f("'},
        {"forward_arg_names": ["x=print(1)"]},
        {"in_spec": json.dumps([1, {"type": "builtins.dict", "context": '["x=print(1)"]', "children_spec": []}])},
        {"expr_str": "9**9**9"},
        {"expr_str": "((9)**9)**9"},
        {"expr_str": "s0**9**9"},
        {"expr_str": "s0**2**9"},
        {"expr_str": "Pow(Integer(9), Integer(999999999))"},
        {"expr_str": "Pow(Pow(Symbol('s0'), Integer(4)), Integer(4))"},
        {"expr_str": "Symbol('s0', x=print(1))"},
        {"expr_str": "Symbol('s0', x=print)"},
        {"expr_str": "9" * 400},
    ],
    ids=json.dumps,
)
def test_names_and_sizes_are_plain(entry: dict[str, Any]) -> None:
    assert "refused" in refusal(archive({**SOUND, **entry}))


def test_a_square_of_a_size_passes() -> None:
    for square in (
        "3*Symbol('s0', integer=True)**2 + s1**2",
        "Mul(Integer(3), Pow(Symbol('s0', integer=True), Integer(2)))",
    ):
        check_archive(archive({**SOUND, "expr_str": square}), Path("net.pt2"))


def test_an_archive_that_unpacks_to_far_more_is_refused() -> None:
    assert "would unpack to" in refusal(archive({**SOUND, "nothing": "0" * 10**7}, zipfile.ZIP_DEFLATED))


def test_deep_json_is_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("net/models/model.json", "[" * 100_000)
    assert "too deep" in refusal(file.getvalue())


def test_members_by_one_name_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made.writestr("net/models/model.json", json.dumps(SOUND))
        made.writestr("net/models/model.json", json.dumps(SOUND))
    assert "a name twice" in refusal(file.getvalue())


def test_what_torch_reads_is_what_was_checked() -> None:
    """Bytes before, between and behind the members may hold another archive for another reader."""
    packed = check_archive(b"before" + archive(SOUND), Path("net.pt2"))
    assert b"before" not in packed
    with zipfile.ZipFile(io.BytesIO(packed)) as again:
        assert json.loads(again.read("net/models/model.json")) == SOUND


def exported(network: nn.Module, path: Path, size: int = 16) -> Path:
    torch.export.save(torch.export.export(network.eval(), (torch.rand(2, 3, size, size),)), path)
    return path


def changed(path: Path, change: Callable[[str], str]) -> Path:
    """The archive with its graph changed as text."""
    hostile = path.with_name("hostile.pt2")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(hostile, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.endswith("models/model.json"):
                after = change(data.decode())
                assert after != data.decode()
                data = after.encode()
            new.writestr(name, data)
    return hostile


class Fills(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3)) + torch.zeros(3).fill_(35)


def test_a_network_that_writes_into_a_file_leaves_it_alone(tmp_path: Path) -> None:
    victim = tmp_path / "victim.sh"

    def mapped(text: str) -> str:
        model = json.loads(text)
        (zeros,) = (node for node in model["graph_module"]["graph"]["nodes"] if "zeros" in node["target"])
        zeros["target"] = "torch.ops.aten.from_file.default"
        values = {"filename": {"as_string": str(victim)}, "shared": {"as_bool": True}, "size": {"as_int": 3}}
        zeros["inputs"] = [{"name": name, "arg": value, "kind": 1} for name, value in values.items()]
        return json.dumps(model)

    hostile = changed(exported(Fills(), tmp_path / "net.pt2"), mapped)
    victim.write_text("echo mine; echo mine\n")
    with pytest.raises(UserError, match="from_file"):
        open_classifier(ClassifierOptions(str(hostile)))
    assert victim.read_text() == "echo mine; echo mine\n"
    torch.export.load(hostile).module()(torch.rand(2, 3, 16, 16))
    assert victim.read_bytes() != b"echo mine; echo mine\n"  # so it is one that writes


def test_a_name_of_an_input_is_not_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = exported(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), tmp_path / "net.pt2")
    code = "input=__import__('os').system('touch trace')"
    hostile = changed(path, lambda text: re.sub(r'"name": "input"', f'"name": "{code}"', text))
    with pytest.raises(UserError, match="name input="):
        open_classifier(ClassifierOptions(str(hostile)))
    assert not os.path.exists("trace")  # noqa: PTH110


def with_constant(model: dict[str, Any], value: str) -> None:
    """A second input that is always the same text."""
    graph = model["graph_module"]
    graph["graph"]["inputs"].append({"as_string": value})
    graph["signature"]["input_specs"].append({"constant_input": {"name": "flag", "value": {"as_string": value}}})
    called, leaf = graph["module_call_graph"][0]["signature"], '{"type": null, "context": null, "children_spec": []}'
    called["in_spec"] = called["in_spec"].replace(f"[{leaf}]", f"[{leaf}, {leaf}]", 1)
    called["forward_arg_names"] = ["input", "flag"]


HOSTILE = "__import__('os').system('touch trace')"
CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "constant": lambda model: with_constant(model, f"x' or {HOSTILE} or '"),
    "range": lambda model: model.update(range_constraints={HOSTILE: {"min_val": 1, "max_val": 4}}),
    "verifier": lambda model: model.update(verifiers=[HOSTILE]),
    "unknown": lambda model: model.update(more={"any": [HOSTILE]}),
}


def as_json(change: Callable[[dict[str, Any]], Any]) -> Callable[[str], str]:
    def changed_text(text: str) -> str:
        model = json.loads(text)
        change(model)
        return json.dumps(model)

    return changed_text


@pytest.fixture
def plain_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return exported(nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), tmp_path / "net.pt2")


@pytest.mark.parametrize("kind", CHANGES)
def test_text_that_is_no_words_is_refused_wherever_it_stands(plain_file: Path, kind: str) -> None:
    with pytest.raises(UserError, match=r"could execute more than a network \(text"):
        open_classifier(ClassifierOptions(str(changed(plain_file, as_json(CHANGES[kind])))))
    assert not Path("trace").exists()


def test_guards_and_notes_are_left_out(plain_file: Path) -> None:
    def guarded(model: dict[str, Any]) -> None:
        model["guards_code"] = [HOSTILE]
        for node in model["graph_module"]["graph"]["nodes"]:
            node["metadata"] = {"source_fn_stack": "os,os.system", "custom": json.dumps(HOSTILE)}

    hostile, images = changed(plain_file, as_json(guarded)), torch.rand(2, 3, 16, 16)
    opened = open_classifier(ClassifierOptions(str(hostile))).network(images)
    assert not Path("trace").exists()
    torch.testing.assert_close(opened, torch.export.load(plain_file).module()(images))
    with pytest.raises(AssertionError, match="Guard failed"):
        torch.export.load(hostile).module()(images)
    assert Path("trace").exists()  # so it is one that executes


def test_extra_files_are_left_out(plain_file: Path) -> None:
    program = torch.export.load(plain_file)
    torch.export.save(program, "more.pt2", extra_files={"classes.txt": "cat\ndog\n"})
    assert open_classifier(ClassifierOptions("more.pt2")).outputs == 3


@pytest.mark.parametrize(("size", "words"), [(0, "no images"), (-1, "cannot be loaded by torch.export")])
def test_an_input_of_no_size_is_one_line(plain_file: Path, size: int, words: str, caplog: Any) -> None:
    def resized(model: dict[str, Any]) -> None:
        model["graph_module"]["graph"]["tensor_values"]["input"]["sizes"][0] = {"as_int": size}

    with pytest.raises(UserError, match=words):
        open_classifier(ClassifierOptions(str(changed(plain_file, as_json(resized)))))
    assert not caplog.records


def test_a_weight_that_is_larger_than_its_bytes_is_refused() -> None:
    meta = {"sizes": [{"as_int": 10**6}, {"as_int": 10**6}], "strides": [{"as_int": 0}, {"as_int": 0}]}
    assert "a tensor of [1000000, 1000000]" in refusal(archive({**SOUND, "tensor_meta": meta}))


@pytest.mark.parametrize("name", ["squeezenet1_1", "resnet18"])
@pytest.mark.parametrize("decomposed", [False, True])
def test_networks_of_torchvision_pass(tmp_path: Path, name: str, decomposed: bool) -> None:
    from torchvision import models

    program = torch.export.export(models.get_model(name, num_classes=3).eval(), (torch.rand(2, 3, 48, 48),))
    path = tmp_path / "net.pt2"
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    check_archive(path.read_bytes(), path)


class Attends(nn.Module):
    """What vision transformers and the like are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 4, stride=4)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.head = nn.Linear(16, 3)

    def forward(self, images: Tensor) -> Tensor:
        images = nn.functional.interpolate(images, size=16, mode="bilinear", antialias=True)
        tokens = torch.roll(self.patches(images), 1, dims=2).flatten(2).transpose(1, 2)
        places = torch.arange(tokens.shape[1], dtype=tokens.dtype)
        return self.head(self.layer(tokens + places[:, None].sin()).mean(dim=1))  # type: ignore[no-any-return]


@pytest.mark.parametrize("decomposed", [False, True])
def test_attention_passes_and_answers_alike_for_any_batch(tmp_path: Path, decomposed: bool) -> None:
    network, images, path = Attends().eval(), torch.rand(3, 3, 16, 16), tmp_path / "net.pt2"
    shapes = ({0: torch.export.Dim("batch")},)
    program = torch.export.export(network, (images[:2],), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    opened = open_classifier(ClassifierOptions(str(path)))
    torch.testing.assert_close(opened.network(images), network(images), atol=1e-5, rtol=1e-4)
