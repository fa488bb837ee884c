"""Which TorchScript files may be loaded: loading one can run its code already, so its text is read first."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path

from advmix.classifiers.archive import check_sizes, packed
from advmix.errors import UserError

BETWEEN = r"(?:[\s\\)]|#[^\n]*\n)*"
"""What may stand between the parts of a name."""
WORDS = (
    r"from_file|save|load|(?:read|write|decode|encode)_(?:file|image|video|png|jpegs?\w*)|rpc_\w+|(?:manual_|initial_)?seed"
    r"|set_grad_enabled|set_data|_cufft_\w+|AddStatValue"
)
"""What TorchScript can call that touches files, other processes, or the state of this one."""
REACHING_OUT = re.compile(rf"\.{BETWEEN}({WORDS})\b|\b({WORDS}){BETWEEN}\(")
KNOWN = ("aten", "prim", "quantized", "torchvision")
"""Where its operators may come from, all of which compute."""
NAMESPACE = re.compile(rf"(?<![.\w])ops\b(?!{BETWEEN}\.{BETWEEN}(?:{'|'.join(KNOWN)})\b){BETWEEN}\.?{BETWEEN}\w*")
ATTRIBUTE = re.compile(r"""\bgetattr\([\w.()\s]{0,1000}, "(?![A-Za-z_]\w*")[^"\\]*"\)""")
"""How torch writes an attribute whose name is a number or the like; with another name it does more than that."""
DEPTH = 8
"""How often one such attribute may stand within another."""
CLASSES = re.compile(rb"__torch__\s*\.\s*torch\s*\.\s*classes\s*\.\s*(?!quantized\b)[\w.]*")


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
        foreign = CLASSES.search(content) if name.endswith((".py", ".pkl")) else None
        if foreign:
            _refuse(foreign[0].decode(errors="replace"), path)
    return packed(members)


def _check_code(code: str, path: Path) -> None:
    for found in REACHING_OUT.finditer(code):
        _refuse(found[1] or found[2], path)
    for found in NAMESPACE.finditer(code):
        _refuse(found[0], path)
    plain = code
    for _ in range(DEPTH):
        plain = ATTRIBUTE.sub("attribute", plain)
    if re.search(r"\bgetattr\b", plain):
        _refuse("getattr", path)


def _refuse(what: str, path: Path) -> None:
    called = " ".join(what.split())[:80]
    raise UserError(
        f"{path}: refused, because its code calls {called}, which could do more than compute; save a network that only "
        "computes"
    )
