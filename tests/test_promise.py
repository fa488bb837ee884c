"""The main job at full size: does it do what the project exists for?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from advmix.cli import main


@pytest.mark.parametrize("color_std", [0.1, 0.02])
def test_advmix_no_longer_looks_at_colour(tmp_path: Path, color_std: float) -> None:
    """The mission, at full size: nominal reads the colour, AdvMix reads the digit. Bars are the issue's."""
    out = tmp_path / "run"
    arguments = ["--color-std", str(color_std), "--methods", "nominal", "advmix", "--worst-images", "100"]
    assert main(["demo", *arguments, "--device", "cpu", "--out", str(out)]) == 0
    nominal, advmix = json.loads((out / "results.json").read_text())["runs"]
    assert nominal["accuracy_biased"] > 0.95
    assert nominal["accuracy_unbiased"] < 0.45
    assert advmix["accuracy_unbiased"] >= 0.95
    assert advmix["accuracy_recolor_worst"] > nominal["accuracy_recolor_worst"] + 0.5
