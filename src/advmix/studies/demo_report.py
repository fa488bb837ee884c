"""The demo's pictures: what the report shows, from the files that the stages wrote."""
from pathlib import Path
from typing import Any
from advmix.training.methods import SearchOptions
def write_report(out: Path, results: dict[str, Any], search: SearchOptions) -> None:
    """."""
