"""README and docs say what results/ holds, and link to what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema

from advmix.report.tables import schema
from study_runs import ROOT, docs


def test_the_tables_are_what_results_holds() -> None:
    for path in docs.pages():
        assert docs.updated(path.read_text(), path.parent) == path.read_text(), (
            f"{path}: python -m experiments.docs_tables"
        )
    assert "| AdvMix, statistics |" in (ROOT / "README.md").read_text()


def test_the_package_says_of_forecasts_what_results_holds() -> None:
    path = ROOT / "src" / "advmix" / "forecast_quality.json"
    assert path.read_text() == docs.forecast_text(), "python -m experiments.docs_tables"


def test_committed_results_reach_the_issue_s_bars() -> None:
    """AdvMix at least 95 % on shuffled colours for each seed, nominal under 45 %, worst case at least RandMix's."""
    runs = [run for run in docs.all_runs(docs.load(ROOT / "results" / "demo")) if run["data"] == "digits"]
    for std in (0.1, 0.02):
        found = {
            method: [run for run in runs if run["method"] == method and run["color_std"] == std]
            for method in ("nominal", "randmix", "advmix")
        }
        assert all(sorted(run["seed"] for run in group) == [0, 1, 2] for group in found.values())
        assert all(run["accuracy_shuffled"] < 0.45 for run in found["nominal"])
        assert all(run["accuracy_shuffled"] >= 0.95 for run in found["advmix"])
        worst = {method: sum(run["accuracy_worst_case"] for run in group) for method, group in found.items()}
        assert worst["advmix"] >= worst["randmix"]


def test_every_committed_result_follows_the_schema() -> None:
    paths = list((ROOT / "results").glob("**/results.json"))
    assert len(paths) >= 7
    for path in paths:
        jsonschema.validate(json.loads(path.read_text()), schema())


def test_every_worst_case_names_a_generator_of_its_study() -> None:
    for path in (ROOT / "results").glob("**/results.json"):
        results = json.loads(path.read_text())
        if results["study"] == "colored-mnist":
            known = {generator["fingerprint"] for generator in results["generators"]}
            assert {run["generator"] for run in results["runs"]} == known, path


def test_committed_results_hold_no_paths_of_a_machine() -> None:
    for path in (ROOT / "results").glob("**/*.json"):
        assert not re.search(r'"(/|~|\.\.|[A-Za-z]:\\)', path.read_text()), path


def test_links_lead_somewhere() -> None:
    """But for those into the folder of a study that was not run yet."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md")):
        if ROOT / ".venv" in page.parents:
            continue
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            if not target.startswith("http") and not _not_run_yet((page.parent / target).resolve()):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def _not_run_yet(path: Path) -> bool:
    results = ROOT / "results"
    return results in path.parents and not (results / path.relative_to(results).parts[0]).exists()


def test_every_study_is_listed() -> None:
    listed = (ROOT / "docs" / "paper" / "README.md").read_text()
    for page in (ROOT / "docs" / "paper").glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in listed, f"docs/paper/README.md: add {page.name}"


def test_no_file_is_over_600_lines() -> None:
    sources = [
        path
        for folder in ("src", "experiments", "tests", "examples", "benchmarks", "scripts")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(sources) > 50
    assert [path.name for path in sources if len(path.read_text().splitlines()) > 600] == []
