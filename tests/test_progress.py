from __future__ import annotations

import io
import re

import pytest
from rich import box
from rich.table import Table

from advmix.utils.progress import _Console


@pytest.mark.parametrize("columns", [1, 20, 80])
@pytest.mark.parametrize("no_wrap", [False, True])
def test_a_table_shows_its_numbers_on_any_terminal(columns: int, no_wrap: bool) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    table.add_column("accuracy, %", no_wrap=no_wrap)
    numbers = [f"{10.25 * place:.2f}" for place in range(1, 9)]
    for place in range(8):
        table.add_column(f"column {place}", justify="right")
    table.add_row("all classes", *numbers)
    table.add_row("together-with-a-long-name", *(f"({number}–100.00)" for number in numbers))
    console = _Console(file=io.StringIO(), width=columns, soft_wrap=True)
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    shown = " ".join([*numbers, *(f"{number} 100.00" for number in numbers)])
    assert re.findall(r"\d+\.\d\d", text) == shown.split()
    assert not no_wrap or "all classes" in text
