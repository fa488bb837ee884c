"""What a file holds, as plain values and records: a pickle, or what `torch.save` writes."""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from advmix.imports.pickles import Maker, RefusedError, first_line, read_pickle
from advmix.imports.storages import MAGIC, Storage, describe_storage, read_legacy

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
class Archive:
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
    archive = Archive(data, {info.filename: info for info in infos}, {})
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
