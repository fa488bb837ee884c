"""`advmix audit --fail-under` and `--format`: what a pipeline reads of an audit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from advmix.audit.markdown import audit_markdown
from advmix.audit.results import AuditResult
from advmix.audit.thresholds import missed_thresholds, read_thresholds
from advmix.audit.words import why_no_verdict
from advmix.cli import main
from advmix.report.tables import schema
from advmix.utils.errors import UserError
from test_audit_command import DATA, MARKUP, done, results_of, runs, words  # noqa: F401  (fixtures)
from tiny import last_of_each
from trained import made

ENOUGH = ["--images", "60", "--holdout", "0.7", "--generator", "statistics"]
"""Images for a verdict."""


@pytest.fixture
def sure(done: Path) -> dict[str, Any]:  # noqa: F811
    """As it is where the generator is good enough for a verdict."""
    results = results_of(done)
    results["classifiers"][0]["reconstruction_flips"] = None
    results["classifiers"][0]["parts"][0]["images"] = 60
    assert why_no_verdict(results["classifiers"][0], results) is None
    return results


def nothing() -> Any:
    raise AssertionError("not asked for")


def missed(text: str, results: dict[str, Any]) -> list[str]:
    return missed_thresholds(read_thresholds(text), results)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("worst=0.5", "--fail-under 'worst=0.5': write NAME=VALUE"),
        ("worst_case", "--fail-under 'worst_case': write NAME=VALUE"),
        ("worst_case=60", "--fail-under 'worst_case=60': the value must be a number in [0, 1]"),
        ("worst_case=nan", "the value must be a number in [0, 1]"),
        ("clean=0.9,", "--fail-under '': write NAME=VALUE"),
        ("clean=0.9, clean=0.8", "--fail-under clean: there twice"),
        ("attacked=0.5", "--fail-under attacked: this audit does not measure it (no --attack)"),
    ],
)
def test_what_cannot_be_wanted_is_refused_before_anything_is_opened(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main_without_files(tmp_path, "--fail-under", text) == 2
    assert told in capsys.readouterr().err
    assert main_without_files(tmp_path, "--quick", "--fail-under", "checked=0.5") == 2
    assert "checked: this audit does not measure it (--reference none)" in capsys.readouterr().err


def main_without_files(folder: Path, *flags: str) -> int:
    return main(["audit", "--classifier", str(folder / "none"), *flags, "--out", str(folder / "out")])


def test_the_lower_end_counts(sure: dict[str, Any]) -> None:
    everything = sure["classifiers"][0]["parts"][0]
    for name in ("clean", "reconstruction", "random_mix", "worst_case"):
        share = everything[f"accuracy_{name}"]
        assert missed(f"{name}={share['low']}", sure) == []
        (line,) = missed(f"{name}={share['low'] + 1e-9}", sure)
        assert line.startswith(f"{sure['classifiers'][0]['name']}: {name} is {100 * share['value']:.1f} %")
        assert f"n = {everything['images']})" in line


def test_the_worst_part_is_that_of_the_lowest_end_among_those_of_twenty_images(sure: dict[str, Any]) -> None:
    parts = sure["classifiers"][0]["parts"]
    for part, images, low in zip(
        [part for part in parts if part["kind"] == "group"], (20, 19), (0.4, 0.1), strict=True
    ):
        part |= {"images": images, "accuracy_worst_case": {"value": 0.5, "low": low, "high": 0.6}}
    assert missed("worst_group=0.4", sure) == []
    (line,) = missed("worst_group=0.41", sure)
    assert "worst_group is 50.0 % (95 % interval 40.0 to 60.0 %, n = 20, a); wanted at least 41 %" in line
    for part in parts[1:]:
        part["images"] = 19
    (line,) = missed("worst_group=0", sure)
    assert "worst_group was not counted" in line
    parts[:] = [part for part in parts if part["kind"] != "group"]
    with pytest.raises(UserError, match="worst_group: this audit does not measure it"):
        missed("worst_group=0.1", sure)


def test_every_classifier_is_held_against_every_threshold(sure: dict[str, Any]) -> None:
    first = sure["classifiers"][0]
    sure["classifiers"] = [first, {**first, "name": "other"}]
    lines = missed("worst_case=1, random_mix=0, clean=1", sure)
    assert [line.split(" is ")[0] for line in lines] == [
        f"{name}: {figure}" for name in (first["name"], "other") for figure in ("worst_case", "clean")
    ]


def test_what_has_no_verdict_is_missed(sure: dict[str, Any], done: Path) -> None:  # noqa: F811
    (line,) = missed("worst_case=0", results_of(done))
    assert "worst_case has no verdict (18 images are too few); wanted at least 0 %" in line
    sure["classifiers"][0]["parts"][0]["accuracy_checked"] = None
    (line,) = missed("checked=0", sure)
    assert "checked was not counted" in line


@pytest.fixture(scope="module")
def exact(runs: Path) -> Path:  # noqa: F811
    """A finished audit with a ready-made generator, which allows a verdict."""
    return made(*ready_made(runs))


def ready_made(runs: Path) -> list[str]:  # noqa: F811
    return last_of_each([*words(runs, "--data", str(runs / "data"), *DATA, named=False), *ENOUGH])


def test_a_pipeline_reads_code_and_formats(
    runs: Path,  # noqa: F811
    exact: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Of an audit that is finished: nothing is measured again."""
    out = shutil.copytree(exact, tmp_path / "out")

    def again(*flags: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([*ready_made(runs), "--resume", *flags, "--out", str(out)])
        said = capsys.readouterr()
        return code, said.out, said.err

    everything = results_of(out)["classifiers"][0]["parts"][0]
    low = everything["accuracy_clean"]["low"]
    assert low > 0
    code, said, err = again("--fail-under", f"clean={low}", "--format", "json")
    assert (code, said) == (0, (out / "results.json").read_text())
    assert f"Held: clean={low}" in err
    code, said, err = again("--fail-under", "clean=1, worst_case=1, random_mix=0")
    assert code == 1
    assert "Report: " in said
    assert [line.split(" is ")[0].rpartition(": ")[2] for line in err.splitlines()] == ["clean", "worst_case"]
    code, said, err = again("--fail-under", "worst_case=1", "--format", "markdown")
    assert code == 1
    assert said.startswith("### advmix audit: ")
    assert "**Below what is wanted:**" in said
    assert "Report: " in err
    assert "Report: " not in said
    for name, why in (("reconstruction", "the generator is exact"), ("attacked", "no --attack")):
        code, said, err = again("--fail-under", f"{name}=0.5")
        assert code == 2
        assert why in err
    assert again("--format", "xml")[::2] == (2, "advmix: --format xml: unknown; choose from text json markdown\n")
    assert AuditResult(results_of(out), out, list, nothing).below("clean=1, random_mix=0")[0].count(": clean is ") == 1


def test_markdown_has_a_table_and_names_are_no_markup(sure: dict[str, Any]) -> None:
    page = audit_markdown(sure, ["x: worst_case is *too low*"])
    assert MARKUP not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "- x: worst\\_case is \\*too low\\*" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({line.count(" | ") for line in rows}) == 1
    everything = sure["classifiers"][0]["parts"][0]
    assert f"| {100 * everything['accuracy_worst_case']['value']:.1f} (" in rows[2]
    assert json.dumps(sure)  # unchanged and plain


def test_results_are_what_the_schema_says(runs: Path, done: Path, exact: Path) -> None:  # noqa: F811
    """Of a generator that draws too little and of an exact one."""
    both = made(*words(runs, "--compare", str(runs / "nominal0"), str(runs / "nominal1")))
    for folder in (done, exact, both):
        jsonschema.validate(results_of(folder), schema())
    results = results_of(done)
    results["classifiers"][0]["parts"][1]["surprise"] = 1
    with pytest.raises(jsonschema.ValidationError, match="'surprise' was unexpected"):
        jsonschema.validate(results, schema())
    results = results_of(done)
    results["classifiers"][0]["parts"][0]["accuracy_clean"]["value"] = 81.2
    with pytest.raises(jsonschema.ValidationError, match=r"81\.2"):
        jsonschema.validate(results, schema())
