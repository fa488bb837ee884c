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
        "labels < 4": "(labels < 4) & (torch.arange(len(labels)) % 4 == 0)",
        "count=100": "count=20",
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
    assert "whatever the search tried" in result._repr_html_()
    table = next(one for one in shown if hasattr(one, "columns"))
    assert list(table["name"]) == ["all", "zero", "one", "two", "three"]
    clean, worse = shown[-1]
    assert worse < clean
