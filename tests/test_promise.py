"""The main job at full size: does it do what the project exists for?"""

from __future__ import annotations

import json
from pathlib import Path

from advmix.cli import main


def test_advmix_no_longer_looks_at_colour(tmp_path: Path) -> None:
    """The mission, at full size and under the strongest bias: nominal reads the colour, AdvMix reads the digit."""
    out = tmp_path / "run"
    arguments = ["--color-std", "0.02", "--methods", "nominal", "advmix", "--worst-images", "100"]
    assert main(["demo", *arguments, "--device", "cpu", "--out", str(out)]) == 0
    nominal, advmix = json.loads((out / "results.json").read_text())["runs"]
    assert nominal["accuracy_biased"] > 0.95
    assert nominal["accuracy_shuffled"] < 0.45
    assert advmix["accuracy_shuffled"] >= 0.95
    assert advmix["accuracy_recolor_worst"] > nominal["accuracy_recolor_worst"] + 0.5
