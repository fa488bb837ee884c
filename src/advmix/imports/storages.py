"""Tensors and numbers as pickles hold them: described first, made only when they are wanted and found to be sound."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.imports.pickles import Maker, Record, RefusedError, read_pickle

MAX_TENSOR = 2**27
"""Bytes of one tensor; the largest of a StyleGAN2 at 1024 pixels takes 16 MiB."""
MAX_FILE = 2**33
"""Bytes of a file, unpacked."""

MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle in what `torch.save` wrote before it wrote zip archives."""
DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
FORMATS = {"f2": "<e", "f4": "<f", "f8": "<d", "i4": "<i", "i8": "<q", "u1": "<B", "b1": "<?"}


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers one after the other, as bytes."""

    data: memoryview
    dtype: torch.dtype

    def __len__(self) -> int:
        return len(self.data) // self.dtype.itemsize


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor that is not made yet: which of a storage's numbers it takes.

    Raises:
        RefusedError: it is too large, or reaches outside its storage.
    """

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.size, *self.stride)
        if len(self.size) != len(self.stride) or not all(type(n) is int and n >= 0 for n in numbers):
            raise RefusedError("a tensor of an impossible shape")
        count = math.prod(self.size)
        if count * self.storage.dtype.itemsize > MAX_TENSOR:
            raise RefusedError(f"a tensor of {count:,} numbers, more than {MAX_TENSOR >> 20} MiB")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.size, self.stride, strict=True))
        if count > len(self.storage) or (count and last >= len(self.storage)):
            raise RefusedError("a tensor that reaches outside its storage")

    def tensor(self) -> Tensor:
        """The tensor, a copy of its own."""
        if not math.prod(self.size):
            return torch.empty(self.size, dtype=self.storage.dtype)
        flat = torch.frombuffer(bytearray(self.storage.data), dtype=self.storage.dtype)
        return flat.as_strided(self.size, self.stride, self.offset).clone(memory_format=torch.contiguous_format)


def make_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """What `torch._utils._rebuild_tensor_v2` gets; gradients and hooks are left out."""
    if not (isinstance(storage, Storage) and isinstance(size, tuple) and isinstance(stride, tuple)):
        raise RefusedError("a tensor that is none")
    return StoredTensor(storage, offset, size, stride)


def make_parameter(data: Any, *_: Any) -> StoredTensor:
    """What `torch._utils._rebuild_parameter` gets: a parameter is its tensor."""
    if not isinstance(data, StoredTensor):
        raise RefusedError("a parameter that is no tensor")
    return data


def make_storage(data: Any) -> Storage:
    """What `torch.storage._load_from_bytes` gets: one storage, as `torch.save` wrote it before it wrote zip archives.

    Raises:
        RefusedError: anything else, or another number of bytes than it says.
    """
    if not isinstance(data, bytes):
        raise RefusedError("a storage that is no bytes")
    stream = io.BytesIO(data)
    if read_pickle(stream, {}) != MAGIC:
        raise RefusedError("a storage in a format that torch did not write")
    read_pickle(stream, {})
    system = read_pickle(stream, {})
    names: dict[str, Maker] = {f"torch {name}Storage": not_called for name in DTYPES}
    described = read_pickle(stream, names, persistent=_describe)
    read_pickle(stream, {})
    if not (isinstance(system, dict) and system.get("little_endian") is True and isinstance(described, tuple)):
        raise RefusedError("a storage of another kind of machine")
    dtype, count = described
    begin = stream.tell() + 8
    if data[begin - 8 : begin] != struct.pack("<q", count) or len(data) - begin != count * dtype.itemsize:
        raise RefusedError(f"a storage that should hold {count:,} numbers and holds {len(data) - begin:,} bytes")
    return Storage(memoryview(data)[begin:], dtype)


def not_called(*_: Any) -> Any:
    """For names that only stand for themselves."""
    raise RefusedError("calls a name that only stands for itself")


def _describe(identity: Any) -> tuple[torch.dtype, int]:
    """`("storage", kind, key, device, count, view)` to dtype and count: whatever the device was, it is now the CPU."""
    _, kind, _, _, count, *_ = identity
    if type(count) is not int or not 0 <= count < 2**62:
        raise RefusedError("a storage of an impossible size")
    return DTYPES[kind.name.removeprefix("torch ").removesuffix("Storage")], count


def make_dtype(code: Any, *_: Any) -> Record:
    """What `numpy.dtype` gets; its byte order follows as the state."""
    return Record("dtype", (code,))


def make_number(dtype: Any, data: Any) -> float | int:
    """What `numpy.core.multiarray.scalar` gets."""
    if not isinstance(dtype, Record) or not isinstance(dtype.state, tuple) or dtype.state[1] not in ("<", "|"):
        raise RefusedError("a number of another kind of machine")
    kind = FORMATS[dtype.args[0]]
    if not isinstance(data, bytes) or len(data) != struct.calcsize(kind):
        raise RefusedError("a number that is none")
    (number,) = struct.unpack(kind, data)
    return float(number) if isinstance(number, float) else int(number)


def make_array(*args: Any) -> Record:
    """What `numpy.core.multiarray._reconstruct` gets. StyleGAN3's networks have arrays, which are not read."""
    return Record("array", args)


def make_dict(*args: Any) -> dict[Any, Any]:
    """An empty dictionary, filled afterwards."""
    if args:
        raise RefusedError("a dictionary that is made of something")
    return {}


def make_set(*_: Any) -> list[Any]:
    """What `builtins.set` gets. The only sets in a network are those of its hooks: left out."""
    return []


VALUES: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": make_dict,
    "builtins set": make_set,
    "torch._utils _rebuild_tensor_v2": make_tensor,
    "torch._utils _rebuild_parameter": make_parameter,
    "torch.storage _load_from_bytes": make_storage,
    "numpy dtype": make_dtype,
    "numpy ndarray": not_called,
    **{f"numpy.{core}.multiarray scalar": make_number for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray _reconstruct": make_array for core in ("core", "_core")},
}
"""Names that pickles of networks need, and what is made of them here."""
