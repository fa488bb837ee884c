"""Archives of torch.export as a hostile hand writes them: read as data, and refused in one line."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from advmix.classifiers.archive import check_archive
from advmix.errors import UserError

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
