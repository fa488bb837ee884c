"""Runs as `python -m experiments colored-mnist` writes them, and the script that makes tables of them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments import docs_tables as docs

__all__ = ["ROOT", "docs", "load_script", "study_runs"]
ROOT = Path(__file__).resolve().parent.parent


def load_script(name: str, folder: str) -> ModuleType:
    """A program of a folder, as a module."""
    sys.path.insert(0, str(ROOT / folder))  # scripts import each other
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look for their names
    spec.loader.exec_module(module)
    return module


def study_runs(
    methods: Sequence[str],
    spreads: Sequence[float],
    seeds: Sequence[int] = (0, 1),
    unit: str = "color_std",
    **same: Any,
) -> list[dict[str, Any]]:
    """Every method at every colour spread under every seed. Shuffled accuracy is 0.5 + spread, and 0.02 per seed."""
    return [
        {
            "method": method,
            "seed": seed,
            "data": "mnist",
            "look": "colored",
            "target": "digit",
            unit: spread,
            "train_images": 12_000,
            "test_images": 10_000,
            "worst_case_images": 1000,
            "generator": f"{seed:08x}{round(1000 * spread):08x}",
            "accuracy_biased": 1.0,
            "accuracy_shuffled": 0.5 + spread + 0.02 * seed,
            "accuracy_uniform": 0.4,
            "accuracy_reconstruction": 0.3,
            "accuracy_worst_case": 0.2,
            "accuracy_recolor_worst": 0.1,
            "train_seconds": 1.0,
            "setting": {},
            **same,
        }
        for spread in spreads
        for seed in seeds
        for method in methods
    ]
