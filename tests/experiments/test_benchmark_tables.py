"""Tables of the benchmarks: every number stands in its row and column."""

from __future__ import annotations

from typing import Any

import pytest

from experiments.benchmark_tables import benchmark_blocks, machine_words

ENVIRONMENT = {"torch": "2.14", "cpu_threads": 1, "gpu": None}
PART = {"resolution": 64, "images_per_second": 160.0, "milliseconds": 100.0}
SPENT = {"cpu_seconds": 4.0, "peak_bytes": 5e9}
ROWS: dict[str, list[dict[str, Any]]] = {
    "parts": [
        {**PART, "part": "step", "setting": "plain", "times_nominal": 1.0, "times_floor": 1.5},
        {**PART, "part": "search", "setting": "plain", "times_nominal": 8.0, "times_floor": None},
        {**PART, "part": "search", "setting": "bf16", "times_nominal": 4.0, "times_floor": None},
    ],
    "steps": [
        {"resolution": 16, "step": "a", "times_nominal": 2.0, "times_floor": 1.5, "search_speedup_by_prefix": None}
    ],
    "augmentation": [
        {"generator": "", "use": "step", "times_step": 1.0},
        {"generator": "photo", "use": "half", "times_step": 1.25},
        {"generator": "statistics", "use": "all", "times_step": 1.5},
    ],
    "precision": [
        {"precision": "32", "accuracy_shuffled": 0.9, "accuracy_worst_case": 0.2},
        {"precision": "32", "accuracy_shuffled": 0.8, "accuracy_worst_case": 0.4},
    ],
    "scaling": [
        {"command": "data", "images": 2000, "read": 2000, **SPENT, "peak_private_bytes": 1.5e9},
        {"command": "audit", "images": 10000, "read": 1000, **SPENT, "peak_private_bytes": None},
    ],
    "audit_scaling": [],
    "peers": [
        {"kind": "augmentation", "name": "ours", "size": 64, "times_reference": 1.0},
        {"kind": "augmentation", "name": "theirs", "size": 224, "times_reference": 2.0},
        {"kind": "attack", "name": "attack", "size": 32, "times_reference": 1.25},
    ],
}
SHOWN = {
    "parts": ["64 pixels**, batches of 16", "| step | 1.00 (1.50) | – |", "| search | 8.00 | 4.00 |"],
    "steps": ["| 16 | a | 2.00 | 1.50 | – |"],
    "augmentation": ["|  | half | all |", "| photo | 1.25 | – |", "| statistics | – | 1.50 |"],
    "precision": ["| 32 | 2 | 85.0 | 30.0 |"],
    "scaling": ["| data | 2.0 s, 1.5 GB | – |", "| audit | – | 4.0 s, 5.0 GB |"],
    "audit_scaling": ["Measured on"],
    "peers": ["| ours | 1.00 | – |", "| theirs | – | 2.00 |", "10 gradient steps", "| attack | 1.25 |"],
}


@pytest.mark.parametrize("name", ROWS)
def test_every_number_stands_in_its_place(name: str) -> None:
    results = {"rows": ROWS[name], "environment": ENVIRONMENT, "steps": 10}
    text = "\n".join(benchmark_blocks(name, results))
    for words in SHOWN[name]:
        assert words in text


def test_the_machine_is_named() -> None:
    found = {"machine": {"processor": "Xeon", "bf16": True}, "environment": ENVIRONMENT}
    assert machine_words(found) == "Measured on 1 core, Xeon, with 16-bit arithmetic; torch 2.14."
    old = {"environment": {**ENVIRONMENT, "cpu_threads": 2}}
    assert machine_words(old) == "Measured on 2 cores, a CPU; torch 2.14."
    with pytest.raises(ValueError, match="no coffee"):
        list(benchmark_blocks("coffee", found))
