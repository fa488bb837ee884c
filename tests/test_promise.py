"""The main job: does it do what the project exists for?"""

from __future__ import annotations

import json
from typing import Any

import trained


def evaluated(method: str) -> dict[str, Any]:
    search = ["--worst-images", "20", "--restarts", "2", "--steps", "2"]
    place = trained.made("evaluate", "--classifier", trained.good_classifier(method), *trained.good_mixing(), *search)
    run: dict[str, Any] = json.loads((place / "results.json").read_text())["runs"][0]
    return run


def test_advmix_no_longer_looks_at_colour() -> None:
    """Under the strongest bias nominal training reads the colour, AdvMix reads the digit. What the job reaches at full
    size is in results/demo, which test_readme.py holds to the same promise.
    """
    nominal, advmix = evaluated("nominal"), evaluated("advmix")
    assert nominal["accuracy_biased"] > 0.95
    assert nominal["accuracy_shuffled"] < 0.3
    assert advmix["accuracy_shuffled"] > 0.85
    assert advmix["accuracy_recolor_worst"] > nominal["accuracy_recolor_worst"] + 0.5
