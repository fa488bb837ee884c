"""Tensors and numbers as pickles hold them: described first, made only when they are wanted and found to be sound."""

from __future__ import annotations

import io
import math
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor

from advmix.pretrained.safe_pickle import (
    Maker,
    Name,
    Record,
    RefusedError,
    first_line,
    read_pickle,
    refuse_names,
    shown,
)

MAX_TENSOR = 2**27

"""Bytes of one tensor; the largest of a StyleGAN2 at 1024 pixels takes 16 MiB."""

MAX_FILE = 2**33

"""Bytes of a file."""

SHARED = 2

"""Tensors of a network do not share their numbers; a filter may. Together they are at most so many times as large as
the file: else a small file with many names for the same numbers would fill the memory.
"""

MAGIC = 0x1950A86A20F9469CFC6C

"""The first pickle in what `torch.save` wrote before it wrote zip archives."""

DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
}

"""The numbers that networks are made of; others may stand beside them."""

OTHER_SIZES = {"Long": 8, "Int": 4, "Short": 2, "Char": 1, "Byte": 1, "Bool": 1, "ComplexFloat": 8, "ComplexDouble": 16}

SIZES = {name: dtype.itemsize for name, dtype in DTYPES.items()} | OTHER_SIZES

"""Bytes of a number, by the name of its storage."""

FORMATS = {"f2": "<e", "f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q", "u1": "<B", "b1": "<?"}


@dataclass(frozen=True, eq=False, repr=False)
class Storage:
    """Numbers one after the other, which are looked up when a tensor wants them.

    Attributes:
        kind: "Float", "Long".
        key: its name in the file.
        count: how many numbers it says that it has.
        find: its bytes, by key.
    """

    kind: str
    key: str
    count: int
    find: Callable[[Storage], memoryview]

    @property
    def dtype(self) -> torch.dtype:
        """Of its numbers.

        Raises:
            RefusedError: not one of a network's.
        """
        if self.kind not in DTYPES:
            raise RefusedError(f"a tensor of {self.kind[:40]!r} numbers where a network has floats")
        return DTYPES[self.kind]

    def data(self) -> memoryview:
        """All of its bytes.

        Raises:
            RefusedError: another number of them than it says.
        """
        found = self.find(self)
        if len(found) != self.count * self.dtype.itemsize:
            raise RefusedError(f"a storage that should hold {self.count:,} numbers and holds {len(found):,} bytes")
        return found


@dataclass(frozen=True, eq=False, repr=False)
class StoredTensor:
    """A tensor that is not made yet: which of a storage's numbers it takes. Nothing in it is checked."""

    storage: Any
    offset: Any
    size: Any
    stride: Any

    def span(self) -> int:
        """How many of the storage's numbers lie between its first and its last, inclusive.

        Raises:
            RefusedError: it is too large, or of no possible shape.
        """
        if not all(isinstance(part, tuple) for part in (self.size, self.stride)):
            raise RefusedError("a tensor that is none")
        numbers = (self.offset, *self.size, *self.stride)
        possible = all(type(number) is int and 0 <= number < 2**62 for number in numbers)
        if not possible or len(self.size) != len(self.stride) or len(self.size) > 8:
            raise RefusedError("a tensor of an impossible shape")
        if not math.prod(self.size):
            return 0
        last: int = sum((size - 1) * step for size, step in zip(self.size, self.stride, strict=True))
        return last + 1

    def tensor(self) -> Tensor:
        """The tensor, a copy of its own.

        Raises:
            RefusedError: it is none, is too large, or reaches outside its storage.
        """
        storage, span = storage_of(self.storage), self.span()
        count, width = math.prod(self.size), storage.dtype.itemsize
        if count * width > MAX_TENSOR:
            raise RefusedError(f"a tensor of {count:,} numbers, more than {MAX_TENSOR >> 20} MiB")
        if not count:
            return torch.empty(self.size, dtype=storage.dtype)
        if max(count, self.offset + span) > storage.count:
            raise RefusedError("a tensor that reaches outside its storage")
        data = bytearray(storage.data()[self.offset * width : (self.offset + span) * width])
        flat = torch.frombuffer(data, dtype=storage.dtype)
        return flat.as_strided(self.size, self.stride).clone(memory_format=torch.contiguous_format)


@dataclass(eq=False)
class Budget:
    """Takes tensors out of a file, which together are at most `SHARED` times as large as the file.

    Attributes:
        left: bytes that may still be taken.
    """

    left: int

    def take(self, place: str, stored: Any) -> Tensor:
        """A tensor in float64.

        Args:
            place: its name in the file.
            stored: what stands there.

        Raises:
            RefusedError: not a tensor, not a sound one, or one too many.
        """
        refuse_names(stored)
        if not isinstance(stored, StoredTensor):
            raise RefusedError(f"{place[:80]} is not a tensor of numbers, but {shown(stored)}")
        storage = storage_of(stored.storage)
        self.left -= stored.span() * storage.dtype.itemsize
        if self.left < 0 and stored.span() <= storage.count:
            raise RefusedError(f"its tensors are together more than {SHARED} times what the file holds")
        return stored.tensor().double()


def storage_of(value: Any) -> Storage:
    """The storage of a tensor.

    Raises:
        RefusedError: there is none.
    """
    if isinstance(value, Record) and value.kind == "torch.storage _load_from_bytes":
        value = _embedded(*value.args)
    refuse_names(value)
    if not isinstance(value, Storage):
        raise RefusedError(f"a tensor without numbers of its own, with {shown(value)} in their place")
    return value


def _embedded(data: Any) -> Any:
    """One storage, as `torch.save` wrote it before it wrote zip archives, as bytes within a pickle."""
    if not isinstance(data, bytes):
        raise RefusedError("a storage that is no bytes")
    return read_legacy(io.BytesIO(data), memoryview(data), {})


def read_legacy(stream: BinaryIO, data: memoryview, names: Mapping[str, Maker]) -> Any:
    """What `torch.save` wrote before it wrote zip archives: pickles, and the numbers behind them.

    Args:
        stream: the file from its beginning.
        data: the same.
        names: as in `read_pickle`.

    Raises:
        RefusedError: anything else, or a damaged file.
    """
    if read_pickle(stream, {}) != MAGIC:
        raise RefusedError("a storage in a format that torch did not write")
    read_pickle(stream, {})
    system = read_pickle(stream, {})
    if not (isinstance(system, dict) and system.get("little_endian") is True):
        raise RefusedError("numbers of another kind of machine")
    described: dict[str, Storage] = {}
    places: dict[str, memoryview] = {}

    def describe(identity: Any) -> Any:
        thing = describe_storage(identity, lambda one: places.get(one.key, memoryview(b"")))
        return described.setdefault(thing.key, thing) if isinstance(thing, Storage) else thing

    content, keys = read_pickle(stream, names, describe), read_pickle(stream, {})
    if not isinstance(keys, list):
        raise RefusedError("damaged: no list of what its numbers are")
    places |= _numbers(data[stream.tell() :], described, keys)
    return content


def _numbers(data: memoryview, described: dict[str, Storage], keys: list[Any]) -> dict[str, memoryview]:
    """The bytes of each storage: one after the other, each behind its number of numbers."""
    places, begin = {}, 0
    for key in keys:
        storage = described.get(key) if isinstance(key, str) else None
        if storage is None or storage.kind not in SIZES:
            raise RefusedError(f"numbers of a kind that is not known ({shown(storage and storage.kind)})")
        end = begin + 8 + storage.count * SIZES[storage.kind]
        if data[begin : begin + 8] != struct.pack("<q", storage.count) or end > len(data):
            raise RefusedError(
                f"damaged: a storage that should hold {storage.count:,} numbers and holds "
                f"{max(len(data) - begin - 8, 0):,} bytes"
            )
        places[storage.key], begin = data[begin + 8 : end], end
    return places


def describe_storage(identity: Any, find: Callable[[Storage], memoryview]) -> Any:
    """What a persistent id stands for.

    `("storage", kind, key, device, count, ...)`: whatever the device was, it is now the CPU. `("module", name, ...)`
    was written around the names of networks: the name.

    Raises:
        RefusedError: anything else.
    """
    if identity[0] == "module":
        return identity[1]
    _, kind, key, _, count, *view = identity
    if type(count) is not int or not 0 <= count < 2**62 or any(part is not None for part in view):
        raise RefusedError("a storage of an impossible size")
    if not (isinstance(kind, Name) and isinstance(key, str)):
        raise RefusedError("a storage of no kind or name")
    return Storage(kind.name.removeprefix("torch ").removesuffix("Storage"), key, count, find)


def make_parameter(data: Any, *_: Any) -> Any:
    """What `torch._utils._rebuild_parameter` gets: a parameter is its tensor."""
    return data


def make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """What `torch._utils._rebuild_tensor_v2` gets; gradients and hooks are left out."""
    return StoredTensor(storage, offset, size, stride)


def make_dtype(code: Any, *_: Any) -> Record:
    """What `numpy.dtype` gets; its byte order follows as the state."""
    return Record("numpy dtype", (code,))


def make_number(*args: Any) -> Any:
    """What `numpy.core.multiarray.scalar` gets: the number, or a record where it is of a kind that is not known."""
    dtype, data, *_ = (*args, None, None)
    order = dtype.state[1] if isinstance(dtype, Record) and isinstance(dtype.state, tuple) else None
    code = dtype.args[0] if order in ("<", "|") else None
    kind = FORMATS.get(code) if isinstance(code, str) else None
    if kind is None or not isinstance(data, bytes) or len(data) != struct.calcsize(kind):
        return Record("numpy scalar", args)
    (number,) = struct.unpack(kind, data)
    return number


def make_dict(*args: Any) -> Any:
    """A dictionary: empty and filled afterwards, or of pairs, as Python 2 writes ordered ones."""
    pairs = args[0] if args and isinstance(args[0], list) else []
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        return {}
    return dict(map(tuple, pairs))


def make_set(*_: Any) -> list[Any]:
    """What `builtins.set` gets. The only sets in a network are those of its hooks: left out."""
    return []


def make_object(kind: Any, base: Any = None, state: Any = None) -> Any:
    """What `copyreg._reconstructor` gets: protocols 0 and 1 make objects with it, and fill dictionaries at once."""
    if isinstance(kind, Name) and kind.make is make_dict:
        return state if isinstance(state, dict) else {}
    return Record(kind.name if isinstance(kind, Name) else "copyreg _reconstructor", (base, state))


def make_bytes(*_: Any) -> bytes:
    """What `builtins.bytes` gets: protocols 0 to 2 write empty bytes so."""
    return b""


VALUES: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": make_dict,
    "collections defaultdict": make_dict,
    "dnnlib.util EasyDict": make_dict,
    "builtins set": make_set,
    "builtins bytes": make_bytes,
    "copyreg _reconstructor": make_object,
    "torch._utils _rebuild_tensor_v2": make_tensor,
    "torch._utils _rebuild_parameter": make_parameter,
    "torch._utils _rebuild_parameter_with_state": make_parameter,
    "numpy dtype": make_dtype,
    **{f"numpy.{core}.multiarray scalar": make_number for core in ("core", "_core")},
}

"""Names that pickles of networks need, and what is made of them here."""

LEGACY = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")

"""How a file begins that `torch.save` wrote before it wrote zip archives."""

ZIP = b"PK\x03\x04"

PICKLES = (b"\x80", b"(", b"}", b"]", b"c")

"""How pickles begin; those of protocols 0 and 1 with their first opcode."""

ENCRYPTED = 1

OTHERS = {
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; get that with git lfs pull",
    b"<": "a web page or XML, not a network; download the file itself",
    b"\x1f\x8b": "a gzip archive; unpack it first",
    b"BZh": "a bzip2 archive; unpack it first",
    b"\xfd7zXZ": "an xz archive; unpack it first",
    b"7z\xbc\xaf": "a 7z archive; unpack it first",
    b"Rar!": "a rar archive; unpack it first",
    b"\x89PNG": "a picture, not a network",
    b"\xff\xd8\xff": "a picture, not a network",
    b"\x89HDF": "an HDF5 file; only pickles and checkpoints of PyTorch can be read",
    b"\x93NUMPY": "an array of numpy; only pickles and checkpoints of PyTorch can be read",
    b"PK": "a zip archive without content",
}

"""What else a file may be, by how it begins."""

NEITHER = "neither a pickle of stylegan2-ada-pytorch nor a checkpoint of stylegan2-pytorch"


def read_file(path: Path, names: Mapping[str, Maker]) -> Any:
    """All that a file holds. It is mapped into memory, and read where it is wanted.

    Args:
        path: a file that is not empty.
        names: as in `read_pickle`.

    Raises:
        RefusedError: of another kind, which is named, or damaged.
    """
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last tensor that looks into it
    stream, head = cast(BinaryIO, mapped), mapped[:512]
    if head.startswith(ZIP):
        return _read_zip(path, memoryview(mapped), names)
    if head.startswith(LEGACY):
        return read_legacy(stream, memoryview(mapped), names)
    if head.startswith(PICKLES) and (head.startswith(b"\x80") or mapped[-1:] == b"."):
        return read_pickle(stream, names)
    raise RefusedError(_kind(head))


def _kind(head: bytes) -> str:
    """What a file is that cannot be read."""
    if head[257:262] == b"ustar":
        return "a tar archive; unpack it first"
    if head[8:10] in (b'{"', b"{}"):
        return "a safetensors file, which has no settings of a StyleGAN2; of a generator of advmix, name the folder"
    return next((words for begin, words in OTHERS.items() if head.lstrip().startswith(begin)), NEITHER)


@dataclass(frozen=True, eq=False)
class TorchArchive:
    """The zip archive of `torch.save`: its members are stored as they are, so that nothing has to be unpacked."""

    data: memoryview
    members: dict[str, zipfile.ZipInfo]
    checked: dict[str, memoryview]

    def member(self, name: str) -> memoryview:
        """The bytes of a member; each is checked once.

        Raises:
            RefusedError: there is none, or it is compressed or damaged.
        """
        if name not in self.checked:
            self.checked[name] = self._checked(name)
        return self.checked[name]

    def _checked(self, name: str) -> memoryview:
        info = self.members.get(name)
        if info is None:
            raise RefusedError(f"damaged: no {name[:60]!r} in the archive")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & ENCRYPTED:
            raise RefusedError("a compressed or encrypted archive, which torch.save never writes; save it again so")
        begin = info.header_offset + 30
        head = self.data[info.header_offset : begin]
        if head[:4] != ZIP:
            raise RefusedError(f"damaged: no {name[:60]!r} in the archive")
        begin += sum(struct.unpack("<HH", head[26:30]))
        found = self.data[begin : begin + info.file_size]
        if len(found) != info.file_size or zlib.crc32(found) != info.CRC:
            raise RefusedError(f"damaged: the check sum of {name[:60]!r} in the archive is wrong")
        return found


def _read_zip(path: Path, data: memoryview, names: Mapping[str, Maker]) -> Any:
    """The pickle of an archive, whose tensors find their numbers in the other members."""
    try:
        with zipfile.ZipFile(path) as file:
            infos = file.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError) as error:
        raise RefusedError(f"damaged: not a whole zip archive ({first_line(error)}); copy it again") from error
    archive = TorchArchive(data, {info.filename: info for info in infos}, {})
    root = next((name.removesuffix("data.pkl") for name in archive.members if name.endswith("/data.pkl")), None)
    if root is None:
        first = infos[0].filename[:40] if infos else "nothing"
        raise RefusedError(f"a zip archive of {first!r} and others, not one of torch.save; unpack it first")
    stored = [info.file_size for info in infos if info.compress_type == zipfile.ZIP_STORED]
    if len(archive.members) < len(infos) or sum(stored) > len(data):
        raise RefusedError("damaged: an archive with a name twice, or whose members overlap")
    if f"{root}constants.pkl" in archive.members:
        raise RefusedError("a network of TorchScript, without the settings of a StyleGAN2; name the training's file")
    order = archive.members.get(f"{root}byteorder")
    if order is not None and bytes(archive.member(f"{root}byteorder")) != b"little":
        raise RefusedError("numbers of another kind of machine")

    def find(storage: Storage) -> memoryview:
        return archive.member(f"{root}data/{storage.key}")

    pickled = io.BytesIO(archive.member(f"{root}data.pkl"))
    return read_pickle(pickled, names, lambda identity: describe_storage(identity, find))
