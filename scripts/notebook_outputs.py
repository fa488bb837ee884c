"""Run the notebook in examples/ and keep what its cells show: `python scripts/notebook_outputs.py`.

Results and pictures are kept; progress, which names folders of this machine, is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "examples" / "audit.ipynb"


def main() -> None:
    """Write the notebook anew."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, kernel_name="python3").execute()
    for number, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        cell.outputs = [_kept(output) for output in cell.outputs if _is_result(output)]
        cell.execution_count, cell.metadata = number + 1, {}
    nbformat.write(notebook, NOTEBOOK)


def _is_result(output: Any) -> bool:
    return output.output_type == "execute_result" or "image/png" in output.get("data", {})


def _kept(output: Any) -> Any:
    """One form of it: the picture, else the page, else the text."""
    kind = next(kind for kind in ("image/png", "text/html", "text/plain") if kind in output.data)
    output.data = {kind: output.data[kind]}
    return output


if __name__ == "__main__":
    main()
