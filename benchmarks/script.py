"""What every benchmark does in the end: it writes its rows, or says in one line why there are none."""

from __future__ import annotations

import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from advmix.utils.arithmetic import has_bf16
from advmix.utils.device import environment
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, write_json


def write_rows(out: Path, name: str, rows: list[dict[str, Any]], **settings: Any) -> None:
    """`NAME.json` in `out`, which need not be there yet: command, settings, machine and rows."""
    facts = {"command": f"python benchmarks/{name}.py", **settings, "machine": machine(), "environment": environment()}
    write_json(make_folder(out, parents=True) / f"{name}.json", {**facts, "rows": rows})


def machine() -> dict[str, Any]:
    """What times depend on: the processor's name, and whether it has 16-bit arithmetic."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {"processor": (names or [platform.processor()])[0], "bf16": has_bf16("cpu")}


def run(main: Callable[[], None]) -> None:
    """Run a script; bad input is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
