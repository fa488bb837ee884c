"""The example notebook runs from its first cell to its last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from IPython.core.interactiveshell import InteractiveShell

from advmix.audit.results import AuditResult
from trained import hasten_reference

NOTEBOOK = Path(__file__).parent.parent / "examples" / "audit.ipynb"


@pytest.fixture
def shell() -> Any:
    mpl.use("Agg")
    yield InteractiveShell.instance()
    InteractiveShell.clear_instance()


@pytest.mark.filterwarnings("ignore")  # IPython's own
def test_the_notebook_runs(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer images and steps."""
    hasten_reference(monkeypatch)
    small = {
        "kept = labels < 4": "kept = (labels < 4) & (torch.arange(len(labels)) % 2 == 0)",
        "count=100": "count=60",
    }
    shown = []
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        source = "".join(cell["source"])
        for usual, less in small.items():
            source = source.replace(usual, less)
        if cell["cell_type"] == "code":
            done = shell.run_cell(source)
            done.raise_error()
            shown.append(done.result)
    (result,) = (one for one in shown if isinstance(one, AuditResult))
    shown_head = result._repr_html_()
    assert "After the worst change found" in shown_head
    assert "<style" not in shown_head
    assert "<script" not in shown_head
    table = next(one for one in shown if hasattr(one, "columns"))
    assert list(table["name"]) == ["all", "zero", "one", "two", "three"]
    assert any(isinstance(one, list) and any("worst_case is" in str(line) for line in one) for one in shown)
    clean, worse = shown[-1]
    assert worse < clean


def test_the_notebook_is_kept_with_what_it_shows() -> None:
    """The docs show it so: the head of the page with pictures, the table, the failures, and nothing of a machine."""
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    shown = {"".join(cell["source"]).splitlines()[-1]: cell["outputs"] for cell in cells}
    (head,), (picture,) = shown["result"], shown['        axis.axis("off")']
    html = "".join(head["data"]["text/html"])
    assert html.count('src="data:image/png') == 6
    assert "After the worst change found" in html
    assert list(picture["data"]) == ["image/png"]
    assert all("/tmp" not in json.dumps(cell["outputs"]) for cell in cells)
    assert len(NOTEBOOK.read_bytes()) < 300_000
