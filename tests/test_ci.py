"""The workflow file of docs/ci.md, as a runner would run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

import advmix
from study_runs import ROOT
from test_audit_command import runs  # noqa: F401  (a fixture)
from trained import made

PAGE = ROOT / "docs" / "ci.md"


def workflow() -> dict[Any, Any]:
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    parsed: dict[Any, Any] = yaml.safe_load(block)
    return parsed


def test_the_workflow_is_one() -> None:
    flow = workflow()
    assert flow[True] == ["pull_request"]  # YAML 1.1 reads `on` as true; GitHub does not
    (job,) = flow["jobs"].values()
    assert {"runs-on", "steps"} <= set(job)
    assert all(("run" in step) != ("uses" in step) for step in job["steps"])


def test_its_audit_fills_the_summary_and_fails_a_weak_classifier(runs: Path, tmp_path: Path) -> None:  # noqa: F811
    """In a repository with a classifier and pictures: 60 of these are the test, too few for a high threshold."""
    (script,) = (step["run"] for step in workflow()["jobs"]["audit"]["steps"] if "audit" in step.get("run", ""))
    table = shutil.copytree(runs / "data", tmp_path / "data" / "photos") / "labels.csv"
    head, *rows = table.read_text().splitlines()
    table.write_text(
        "\n".join([f"{head},split", *(f"{row},{'test' if i % 3 else 'train'}" for i, row in enumerate(rows))])
    )
    flags = ["--target", "label", "--size", "24", "--epochs", "8", "--batch", "16", "--device", "cpu"]
    net = made("train", "--method", "nominal", "--data", str(runs / "data"), *flags)
    shutil.copytree(net, tmp_path / "models" / "net")
    (tmp_path / "models" / "net.json").write_text('{"classifier": "net"}')
    program = tmp_path / "bin" / "advmix"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m advmix "$@"\n')
    program.chmod(0o755)
    places = {"PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(Path(advmix.__file__).parents[1])}
    found = {**os.environ, **places, "GITHUB_STEP_SUMMARY": "summary.md"}
    shell = ["bash", "-e", "-c", script]
    done = subprocess.run(shell, check=False, cwd=tmp_path, env=found, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "random_mix is " in done.stderr
    assert done.stdout == ""
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("### advmix audit: ")
    assert "Below what is wanted" in summary
    assert (tmp_path / "runs" / "audit" / "report.html").is_file()
