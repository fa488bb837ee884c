"""The README says what results/ holds, and its example runs."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import jsonschema

from advmix.results import schema

ROOT = Path(__file__).resolve().parent.parent


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("update_readme", ROOT / "scripts" / "update_readme.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_is_what_results_holds() -> None:
    readme = (ROOT / "README.md").read_text()
    assert load_script().updated(readme) == readme
    assert "AdvMix" in load_script().section()


def test_committed_results_reach_the_issue_s_bars() -> None:
    """AdvMix at least 95 % on shuffled colours for each seed, nominal under 45 %, worst case at least RandMix's."""
    runs = [run for run in load_script().load(ROOT / "results" / "demo") if run["data"] == "digits"]
    for std in (0.1, 0.02):
        found = {
            method: [run for run in runs if run["method"] == method and run["color_std"] == std]
            for method in ("nominal", "randmix", "advmix")
        }
        assert all(sorted(run["seed"] for run in group) == [0, 1, 2] for group in found.values())
        assert all(run["accuracy_unbiased"] < 0.45 for run in found["nominal"])
        assert all(run["accuracy_unbiased"] >= 0.95 for run in found["advmix"])
        worst = {method: sum(run["accuracy_worst_case"] for run in group) for method, group in found.items()}
        assert worst["advmix"] >= worst["randmix"]


def test_every_committed_result_follows_the_schema() -> None:
    paths = list((ROOT / "results").glob("**/results.json"))
    assert len(paths) >= 7
    for path in paths:
        jsonschema.validate(json.loads(path.read_text()), schema())


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*.md")):
        if ROOT / ".venv" in page.parents:
            continue
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_plain_loop_runs_and_is_short() -> None:
    path = ROOT / "examples" / "plain_loop.py"
    assert len(path.read_text().splitlines()) <= 100
    arguments = [sys.executable, str(path), "--fit-steps", "20", "--epochs", "1"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert re.search(r"epoch 1: \d+\.\d% right", done.stdout)


def test_no_file_is_over_400_lines() -> None:
    sources = [
        path
        for folder in ("src", "tests", "examples", "benchmarks", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 50
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 400] == []
