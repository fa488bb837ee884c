"""Which TorchScript files may be loaded: loading one can run its code already, so its text is read first."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from advmix.classifiers.archive import check_sizes, packed
from advmix.errors import UserError

REACHING_OUT = re.compile(r"\b((?:from|read|write)_file|save|load|read_image|write_png|write_jpeg)[\s\\)]*\(")
"""What TorchScript can call that touches files."""
NAMESPACE = re.compile(r"(?<![.\w])ops[\s\\)]*\.[\s\\]*(\w+)")
KNOWN = ("aten", "prim", "quantized", "torchvision")
"""Where its operators may come from, all of which compute."""


def check_script(data: bytes, path: Path) -> bytes:
    """Let a TorchScript file pass, packed anew, or refuse it.

    Raises:
        UserError: not a zip archive, or one whose code calls more than what computes.
    """
    check_sizes(io.BytesIO(data), path)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    for name, content in members.items():
        if name.endswith(".py"):
            _check_code(content.decode(), path)
    return packed(members)


def _check_code(code: str, path: Path) -> None:
    called = [found[1] for found in REACHING_OUT.finditer(code)]
    foreign = [f"ops.{found[1]}" for found in NAMESPACE.finditer(code) if found[1] not in KNOWN]
    if called or foreign:
        raise UserError(
            f"{path}: refused, because its code calls {(called + foreign)[0]}, which could do more than compute; save "
            "a network that only computes"
        )
