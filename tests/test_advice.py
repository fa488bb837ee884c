"""What to do about what an audit found follows from its numbers, and each command is one that exists."""

from __future__ import annotations

import shlex
from typing import Any

import pytest

from advmix.audit.advice import Advice, advise, data_flags
from advmix.audit.settings import AuditConfig
from advmix.cli import main
from advmix.data.photos.decode import PhotoShape
from advmix.data.settings import DataConfig
from advmix.intervals import wilson
from advmix.report.tables import header

DATA = DataConfig("my faces/all", target="Smiling", photos=PhotoShape(site="lab", size=32))
"""The audited images; the command line need not have named them."""


def share(hits: int, total: int) -> dict[str, float]:
    return wilson(hits, total).to_dict()


def part(kind: str, name: str, clean: int, mixed: int, natural: int, total: int = 200) -> dict[str, Any]:
    figures = {"clean": clean, "random_mix": mixed, "worst_natural": natural, "worst_case": natural}
    return {"kind": kind, "name": name, "images": total} | {
        f"accuracy_{figure}": share(hits, total) for figure, hits in figures.items()
    }


def results(*parts: dict[str, Any], trusted: bool = True, flips: int = 0, shift: int = 0, few: int = 0) -> Any:
    strengths = [{"strength": 3, "flips": share(shift, 100)}]
    entry = {
        "name": "net",
        "parts": list(parts),
        "method": "unknown",
        "commonest": None,
        "reconstruction_flips": None,
        "smallest": {"flips": flips, "extreme": few},
        "named_changes": [{"name": "shift", "unit": "% of the side", "right": 100, "strengths": strengths}],
        "label_check": {"flipped": flips},
    }
    config = AuditConfig("nets/my net.pt")
    return header("audit", config) | {
        "classifiers": [entry],
        "residual": True,
        "reference": {"trusted": trusted, "accuracy_train": 0.9},
    }


def advice_on(found: Any) -> list[Advice]:
    return advise(found["classifiers"][0], found, DATA)


def titles(found: Any) -> list[str]:
    return [advice.title for advice in advice_on(found)]


def test_nothing_is_to_be_done_where_nothing_is_sure() -> None:
    assert titles(results(part("all", "all", 180, 178, 170))) == ["Nothing"]


def test_a_random_style_that_costs_is_trained_for() -> None:
    found = results(part("all", "all", 180, 120, 60), flips=100)
    assert titles(found) == ["Train with random styles"]
    (advice,) = advice_on(found)
    assert advice.reason.startswith("The style of another image, drawn at random, costs it 30 points.")
    assert advice.command == "advmix train --method randmix --data 'my faces/all' --target Smiling --site lab --size 32"


def test_only_the_worst_styles_are_searched_for_where_random_ones_cost_nothing() -> None:
    everything = part("all", "all", 180, 178, 100)
    assert titles(results(everything, flips=80))[0].startswith("Train against the worst styles")
    assert titles(results(everything, flips=80, few=75)) == ["Nothing"]  # nearly all of them are extreme


def test_what_was_trained_on_mixes_is_not_told_to() -> None:
    found = results(part("all", "all", 180, 120, 60), flips=100)
    found["classifiers"][0]["method"] = "advmix"
    assert titles(found) == ["Nothing"]


def test_a_site_that_is_surely_worse_is_adapted_to() -> None:
    home, abroad = part("site", "home", 95, 95, 90, 100), part("site", "abroad", 40, 40, 30, 100)
    found = results(part("all", "all", 135, 135, 130), home, abroad)
    (advice,) = [advice for advice in advice_on(found) if "Adapt" in advice.title]
    assert advice.title == "Adapt it to abroad"
    assert advice.command.startswith("advmix adapt --classifier 'nets/my net.pt' --data 'my faces/all' ")
    rare = part("site", "abroad", 4, 4, 3, 10)
    assert titles(results(part("all", "all", 135, 135, 130), home, rare)) == ["More test labels of abroad"]


def test_changes_of_place_are_in_no_style() -> None:
    everything = part("all", "all", 180, 178, 170)
    assert titles(results(everything, shift=20)) == ["Train with shifted, turned and cropped images"]
    assert titles(results(everything, shift=6)) == ["Nothing"]


def test_a_class_that_is_surely_worse_needs_labels() -> None:
    found = results(part("all", "all", 170, 168, 160), part("class", "a", 60, 60, 55, 100))
    assert titles(found) == ["More training labels of a"]


def test_without_a_reference_a_person_is_asked() -> None:
    found = results(part("all", "all", 180, 178, 170), trusted=False, flips=12)
    assert titles(found) == ["Say whether the labels survived"]
    (advice,) = advice_on(found)
    assert advice.command == "advmix audit --config runs/audit/results.json --votes votes.json"


def test_first_the_audit_must_be_sound() -> None:
    assert titles(results(part("all", "all", 20, 10, 0, 20))) == ["First make the audit sound"]


@pytest.mark.parametrize("found", [results(part("all", "all", 180, 120, 60), flips=100)], ids=["randmix"])
def test_the_flags_are_understood(found: Any, capsys: pytest.CaptureFixture[str]) -> None:
    (advice,) = advice_on(found)
    _, *words = shlex.split(advice.command)
    assert main(words) == 2
    assert "my faces/all: no such file or folder" in capsys.readouterr().err
    assert data_flags(DataConfig(data="")) == "--data DATA"
