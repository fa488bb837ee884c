"""Files that try something: each is refused in one line, and nothing has happened."""

from __future__ import annotations

import argparse
import functools
import io
import os
import pickle
import struct
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import foreign_nvidia
import foreign_rosinality
from advmix.cli import main
from advmix.pretrained import safe_pickle as pickles
from advmix.pretrained import tensors as storages
from advmix.pretrained.read import NAMES, read_generator
from advmix.pretrained.safe_pickle import Record, RefusedError, read_pickle
from advmix.pretrained.tensors import Budget
from advmix.utils.errors import UserError

HEAD = b"\x80\x04"
STORAGE = b"ctorch.storage\n_load_from_bytes\n"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n"


class Call:
    """Pickles as a call of anything."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


def text(word: str) -> bytes:
    return b"\x8c" + bytes([len(word)]) + word.encode()


def blob(data: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(data)) + data


def stored(count: int = 2, declared: int | None = None, kind: str = "FloatStorage", extra: bytes = b"") -> bytes:
    """A storage of zeros as `torch.save` wrote it; `declared` is what it says, where that is a lie."""
    says = count if declared is None else declared
    identity = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text("0") + text("cuda:0")
    parts = [pickle.dumps(storages.MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [b"\x80\x04" + identity + pickle.dumps(says, 2)[2:-1] + b"Nt" + extra + b"Q.", pickle.dumps(["0"], 2)]
    return b"".join(parts) + struct.pack("<q", says) + bytes(4 * count)


def read(content: bytes) -> Any:
    return read_pickle(io.BytesIO(content), NAMES)


def plain(value: int | tuple[int, ...]) -> bytes:
    """A number or a tuple of them, without the ends of a pickle."""
    if isinstance(value, tuple):
        return b"(" + b"".join(plain(number) for number in value) + b"t"
    return pickle.dumps(value, 2)[2:-1]


def tensor(offset: int, size: tuple[int, ...], stride: tuple[int, ...], storage: bytes = b"") -> bytes:
    """A whole pickle of one tensor."""
    held = STORAGE + blob(storage or stored()) + b"\x85R"
    return HEAD + TENSOR + b"(" + held + plain(offset) + plain(size) + plain(stride) + b"\x89N" + b"tR."


@pytest.fixture(scope="module", autouse=True)
def _loaded(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What sound files make the program load is loaded once."""
    folder = tmp_path_factory.mktemp("sound")
    read_generator(foreign_nvidia.write_snapshot(folder / "a", foreign_nvidia.make_network(8), 0))
    read_generator(foreign_rosinality.write_checkpoint(folder / "b", foreign_rosinality.make_network()))


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What a hostile file tries to make."""
    monkeypatch.chdir(tmp_path)
    return tmp_path / "executed"


HOSTILE = {
    "system": Call(os.system, "touch executed"),
    "eval": Call(eval, "open('executed', 'w')"),
    "exec": Call(exec, "open('executed', 'w')"),
    "getattr": Call(getattr, Call(__import__, "os"), "system"),
    "path": Path("executed"),
    "torch.load": Call(torch.load, "executed"),
    "argument of a listed name": Call(torch._utils._rebuild_parameter, Call(os.system, "touch executed")),
    "deep inside": [OrderedDict(weight=[{"a": (Call(os.system, "touch executed"),)}])],
    "partial": functools.partial(os.system, "touch executed"),
}
EVERY = pytest.mark.parametrize("thing", HOSTILE.values(), ids=HOSTILE.keys())


def unchanged(folder: Path, modules: set[str]) -> bool:
    """Whether a folder holds one file, the hostile one, and nothing was imported since."""
    new = [name for name in set(sys.modules) - modules if not name.startswith("encodings.")]
    return [item.name for item in folder.iterdir()] == ["hostile.pkl"] and not new


@EVERY
@pytest.mark.parametrize("protocol", range(6))
def test_calls_are_refused_where_the_generator_should_be(thing: Any, protocol: int, marker: Path) -> None:
    path, before = marker.parent / "hostile.pkl", set(sys.modules)
    for content in (thing, {"G": None, "G_ema": thing}, {"g_ema": thing}, (None, None, thing)):
        path.write_bytes(pickle.dumps(content, protocol))
        with pytest.raises(UserError, match=r"hostile.pkl: (names '.*', which is not on the list|holds no )") as caught:
            read_generator(path)
        assert "\n" not in str(caught.value)
    assert unchanged(marker.parent, before)


@EVERY
def test_calls_beside_the_generator_do_nothing(thing: Any, marker: Path) -> None:
    network, path, before = foreign_nvidia.make_network(8), marker.parent / "hostile.pkl", set(sys.modules)
    for protocol in range(6):
        foreign_nvidia.write_snapshot(path, network, protocol, D=thing, training_set_kwargs={"class_name": thing})
        assert read_generator(path).resolution == 8
    assert unchanged(marker.parent, before)


@EVERY
@pytest.mark.parametrize("zipped", [True, False])
def test_calls_beside_tensors_do_nothing(thing: Any, zipped: bool, marker: Path) -> None:
    network, path, before = foreign_rosinality.make_network(), marker.parent / "hostile.pkl", set(sys.modules)
    for more in ({"args": thing}, {"d": thing}, {"args": argparse.Namespace(lr=thing)}):
        foreign_rosinality.write_checkpoint(path, network, zipped, **more)
        assert read_generator(path).resolution == 16
    state = {**network.state_dict(), "conv1.conv.weight": thing}
    foreign_rosinality.write_checkpoint(path, network, zipped, g_ema=state)
    with pytest.raises(UserError, match=r"hostile.pkl: (names '.*', which is not on the list|.* is not a tensor)"):
        read_generator(path)
    assert unchanged(marker.parent, before)


class Hostile(nn.Module):
    """Pickles as a call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch executed",)


def test_calls_within_the_generator_are_refused_where_they_are_needed(marker: Path) -> None:
    path, before = marker.parent / "hostile.pkl", set(sys.modules)
    for home, name, thing in (
        ("", "mapping", Hostile()),
        ("synthesis.b8", "conv1", Hostile()),
        ("synthesis.b8.conv1", "noise_const", HOSTILE["system"]),
        ("mapping.fc0", "activation", HOSTILE["system"]),
        ("mapping.fc0", "weight_gain", HOSTILE["system"]),
        ("synthesis.b4", "architecture", HOSTILE["system"]),
    ):
        network = foreign_nvidia.make_network()
        module: Any = network.get_submodule(home)
        table = next(table for table in (module._modules, module._buffers, module.__dict__) if name in table)
        table[name] = thing
        foreign_nvidia.write_snapshot(path, network)
        with pytest.raises(UserError, match=r"hostile.pkl: names 'posix.system', which is not on the list of what"):
            read_generator(path)
    assert unchanged(marker.parent, before)


def test_the_command_leaves_nothing_behind(marker: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = marker.parent / "hostile.pkl"
    path.write_bytes(pickle.dumps({"G_ema": HOSTILE["system"]}))
    assert main(["import", str(path), "--out", str(marker.parent / "out")]) == 2
    expected = f"advmix: {path}: names 'posix.system', which is not on the list of what may be read\n"
    assert capsys.readouterr().err == expected
    assert [item.name for item in marker.parent.iterdir()] == ["hostile.pkl"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch.storage", "_load_from_bytes.__globals__"),
        ("torch.serialization", "os.system"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__.get"),
        ("collections", "OrderedDict.fromkeys"),
        ("torch_utils.persistence", "_src_to_module"),
        ("numpy", "load"),
        ("torch", "hub.load"),
        ("", ""),
    ],
)
def test_names_are_compared_whole(module: str, name: str) -> None:
    for content in (text(module) + text(name) + b"\x93", f"c{module}\n{name}\n".encode()):
        found = read(HEAD + content + text("executed") + b"\x85R.")
        assert isinstance(found, Record)
        assert (found.kind, found.args, found.state) == (f"{module} {name}", ("executed",), None)


SYSTEM = b"cposix\nsystem\n"
CALLED = (
    *(SYSTEM + text("true") + b"\x85" + call for call in (b"R.", b"\x81.", b"R]b.", b"}\x92.")),
    *(b"(" + begin + text("true") + end for begin, end in ((SYSTEM, b"o."), (b"", b"iposix\nsystem\n."))),
    SYSTEM + b")R" + text("true") + b"\x85R.",
    SYSTEM + b")R(" + text("true") + b"e.",
    SYSTEM + b")R(" + text("true") + b"Nu.",
)


@pytest.mark.parametrize("content", CALLED)
def test_whatever_calls_makes_a_record(content: bytes) -> None:
    found = read(HEAD + content)
    assert isinstance(found, Record)
    assert found.kind == "posix system"


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (text("os") + b"K\x01\x93.", "by a value that is not text"),
        (text("os") + b")R.", "calls something that is no name"),
        (b"}" + b")R.", "calls something that is no name"),
        (SYSTEM + b"NR.", "calls something that is no name"),
        (b"N)b.", "changes something that is no record"),
        (b"\x82\x01.", "the pickle opcode EXT1"),
        (b"Pname\n.", "the pickle opcode PERSID"),
        (text("a") + b"Q.", "the pickle opcode BINPERSID"),
        (b"\x97.", "the pickle opcode NEXT_BUFFER"),
        (b"\x96" + struct.pack("<Q", 2**62) + b".", "damaged"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b".", "damaged"),
        (b"\x8b\xff\xff\xff\x7f.", "damaged"),
        (b"I" + b"9" * 10_000 + b"\n.", "damaged"),
        (b"L" + b"9" * 10_000 + b"L\n.", "damaged"),
        (b"ca\\q\nb\n.", "damaged"),
        (b"]" + text("a") + text("b") + b"s.", "not a dictionary"),
        (b"}" + text("a") + b"a.", "not a list"),
        (b"h\x05.", "damaged"),
        (b"t.", "damaged"),
        (b"0.", "damaged"),
        (b"1.", "damaged"),
        (b"(o.", "damaged"),
        (b".", "damaged"),
        (b"", "damaged"),
        (b"\xff.", "damaged"),
    ],
)
def test_every_other_step_is_refused(content: bytes, pattern: str) -> None:
    with pytest.raises(RefusedError, match=pattern) as caught:
        read(HEAD + content)
    assert "\n" not in str(caught.value)


def test_a_large_number_in_the_memory_takes_no_memory() -> None:
    assert read(HEAD + b"]r\xff\xff\xff\x7f.") == []


def test_what_refers_to_itself_a_million_times_is_small() -> None:
    bomb = (
        HEAD + b"]\x94" + b"".join(b"]\x94(" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"e" for n in range(100)) + b"."
    )
    assert len(read(bomb)) == 2


def test_steps_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 100)
    with pytest.raises(RefusedError, match="more than 100 steps"):
        read(HEAD + b"N" * 100 + b".")


def test_source_code_in_a_snapshot_is_never_executed(marker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign_nvidia.Sources, "text", "open('executed', 'w').close()")
    path = foreign_nvidia.write_snapshot(marker.parent / "snapshot.pkl", foreign_nvidia.make_network())
    assert b"open('executed', 'w')" in path.read_bytes()
    before = set(sys.modules)
    read_generator(path)
    assert not marker.exists()
    assert set(sys.modules) == before


class TestStorages:
    def test_a_sound_one_is_read_to_the_cpu(self) -> None:
        found = Budget(100).take("it", read(tensor(1, (1,), (1,))))
        assert torch.equal(found, torch.zeros(1, dtype=torch.float64))

    @pytest.mark.parametrize(
        ("content", "pattern"),
        [
            (tensor(0, (3,), (1,)), "reaches outside its storage"),
            (tensor(1, (2,), (1,)), "reaches outside its storage"),
            (tensor(0, (2, 2), (1, 1)), "reaches outside its storage"),
            (tensor(0, (2**20, 2**20), (0, 0)), "a tensor of 1,099,511,627,776 numbers, more than 128 MiB"),
            (tensor(0, (2,), (-1,)), "an impossible shape"),
            (tensor(-1, (2,), (1,)), "an impossible shape"),
            (tensor(0, (2,), ()), "an impossible shape"),
            (tensor(0, (1,) * 10_000, (1,) * 10_000), "an impossible shape"),
            (tensor(0, (1,), (1,), stored(2, declared=2**40)), "should hold 1,099,511,627,776 numbers and"),
            (tensor(0, (1,), (1,), stored(2, declared=2**62)), "a storage of an impossible size"),
            (tensor(0, (1,), (1,), stored(2, declared=3)), "should hold 3 numbers"),
            (tensor(0, (1,), (1,), stored(2)[:-1]), "should hold 2 numbers and holds 7 bytes"),
            (tensor(0, (1,), (1,), stored(kind="os")), "numbers of a kind that is not known"),
            (tensor(0, (1,), (1,), stored(kind="IntStorage")), "a tensor of 'Int' numbers"),
            (tensor(0, (1,), (1,), stored(extra=b"0cposix\nsystem\n")), "damaged"),
            (tensor(0, (1,), (1,), pickle.dumps(Call(os.system, "touch executed"))), "that torch did not write"),
            (tensor(0, (1,), (1,), b"PK\x03\x04 a zip archive"), "damaged"),
            (HEAD + TENSOR + b"(NNNNNNtR.", "a tensor without numbers of its own, with None"),
            (HEAD + TENSOR + b"(" + SYSTEM + b")RNNNNNtR.", "names 'posix.system'"),
            (HEAD + TENSOR + b"(" + STORAGE + b"N\x85RNNNNNtR.", "a storage that is no bytes"),
        ],
    )
    def test_one_that_lies_is_refused(self, content: bytes, pattern: str, marker: Path) -> None:
        with pytest.raises(RefusedError, match=pattern):
            Budget(2**62).take("it", read(content))
        assert not marker.exists()

    def test_tensors_and_files_have_a_largest_size(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", foreign_nvidia.make_network())
        checkpoint = foreign_rosinality.write_checkpoint(tmp_path / "c.pt", foreign_rosinality.make_network())
        monkeypatch.setattr(storages, "MAX_TENSOR", 100)
        for one in (path, checkpoint):
            with pytest.raises(UserError, match=rf"{one}: a tensor of .* numbers, more than"):
                read_generator(one)
        monkeypatch.setattr("advmix.pretrained.read.MAX_FILE", 1000)
        with pytest.raises(UserError, match="at most 1,000"):
            read_generator(path)


class TestCheckpoints:
    def refused(self, path: Path, pattern: str) -> None:
        before = set(sys.modules)
        with pytest.raises(UserError, match=pattern) as caught:
            read_generator(path)
        assert "\n" not in str(caught.value)
        assert not [name for name in set(sys.modules) - before if not name.startswith("encodings.")]

    def test_tensors_that_pretend_to_be_large_are_refused(self, tmp_path: Path) -> None:
        network, path = foreign_rosinality.make_network(), tmp_path / "hostile.pt"
        for zipped in (True, False):
            state = {**network.state_dict(), "input.input": torch.zeros(1).expand(1, 2**14, 2**14, 2**14)}
            foreign_rosinality.write_checkpoint(path, network, zipped, g_ema=state)
            self.refused(path, "a tensor of 4,398,046,511,104 numbers, more than 128 MiB")

    def test_tensors_that_no_network_has_are_not_touched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        take, made = Budget.take, []

        def counted(budget: Budget, name: str, tensor: Any) -> torch.Tensor:
            made.append(name.strip("'"))
            return take(budget, name, tensor)

        monkeypatch.setattr(Budget, "take", counted)
        state, path = foreign_rosinality.make_network().state_dict(), tmp_path / "more.pt"
        torch.save({"g_ema": {**state, "other": torch.zeros(1000), "words": "none"}}, path)
        read_generator(path)
        assert {"input.input", "style.1.weight"} < set(made) <= set(state)

    def test_compressed_archives_are_refused(self, tmp_path: Path) -> None:
        path, again = tmp_path / "checkpoint.pt", tmp_path / "hostile.pt"
        foreign_rosinality.write_checkpoint(path, foreign_rosinality.make_network())
        with zipfile.ZipFile(path) as whole, zipfile.ZipFile(again, "w") as archive:
            for name in whole.namelist():
                packed = zipfile.ZIP_DEFLATED if name.endswith("data/3") else zipfile.ZIP_STORED
                archive.writestr(name, whole.read(name), packed)
        self.refused(again, "hostile.pt: a compressed or encrypted archive, which torch.save never writes")

    def test_changed_and_truncated_ones_are_refused(self, tmp_path: Path) -> None:
        path, network = tmp_path / "truncated.pt", foreign_rosinality.make_network()
        for zipped in (True, False):
            whole = foreign_rosinality.write_checkpoint(path, network, zipped).read_bytes()
            for share in (0.1, 0.5, 0.99):
                path.write_bytes(whole[: int(len(whole) * share)])
                self.refused(path, "truncated.pt: ")
        changed = bytearray(foreign_rosinality.write_checkpoint(path, network).read_bytes())
        changed[changed.index(network.input.input.detach().numpy().tobytes())] ^= 1
        path.write_bytes(changed)
        self.refused(path, "truncated.pt: damaged: the check sum of 'truncated/data/")
