"""Tables of the face studies, from made-up numbers and from a result that there is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from test_study_tables import cells

from experiments import face_tables as tables
from experiments.faces.figures import error_figure
from study_runs import ROOT


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.02}


def row(method: str, error: float, generator: float | None = None, encode: float | None = 0.0) -> dict[str, Any]:
    keys = ("error", "change", "balanced_error", "roc_auc", "accuracy_mixed", "accuracy_worst_case")
    lists = {f"{key}_by_seed": [error, error] for key in ("error", "accuracy_mixed", "accuracy_worst_case")}
    seconds = {"train_seconds": [8.0, 10.0], "generator_seconds": [generator] * 2, "encode_seconds": [encode] * 2}
    return {"method": method, **{key: interval(error) for key in keys}, **lists, **seconds}


def celeba(*, stress: bool = False, also: bool = False) -> dict[str, Any]:
    methods = [row("nominal", 0.2), row("advmix", 0.1, 40.0, 0.5), row("advmix-small", 0.15, 30.0, 0.5)]
    difference = {key: interval(-0.1) for key in ("error", "accuracy_mixed", "accuracy_worst_case")}
    if stress:
        difference["worst_group_error"] = interval(-0.3)
        methods = [found | {"worst_group_error": interval(0.5)} for found in methods]
    return {
        "config": {
            "target": "Smiling",
            "size": 32,
            "labelled": 5000,
            "tint": 0,
            "variant": "base",
            "train": {"epochs": 10},
            "seeds": [0, 1],
            "judge": "test",
            "stress": {"cue": "Male" if stress else None, "agreement": 0.95},
            "worst_images": 300,
            "also_target": "smiling",
        },
        "judged": {"images": 3000, "persons": 1000} | ({"agreement": 0.97} if stress else {}),
        "methods": methods,
        "comparisons": [
            {"first": "advmix", "second": "nominal", **difference},
            {"first": "advmix-small", "second": "advmix", **difference},
        ],
        "also": {"images": 500, "methods": methods} if also else None,
    }


def test_facts_say_where_classes_were_drawn_alike() -> None:
    balanced = celeba()
    balanced["config"]["train"] = {"epochs": 10, "balance": True}
    facts, usual = (next(tables.celeba(results)) for results in (balanced, celeba()))
    assert facts == usual.replace("10 epochs,", "10 epochs, classes drawn alike,") != usual


def test_errors_seconds_differences_and_another_source() -> None:
    facts, errors, seconds, _, differences, other, elsewhere = tables.celeba(celeba(also=True))
    assert "3,000 images" in facts
    assert cells(errors)[0][5] == "Balanced"
    assert cells(errors)[2][:3] == ["**AdvMix**", "10.0 ± 0.0", "9.0–12.0"]
    assert seconds == (
        "Seconds of training a classifier; a generator takes 40.0, one of the labelled images alone 30.0, encoding the "
        "labelled images 0.5."
    )
    assert cells(differences)[0] == ["", "Error", "Random mix", "Worst case"]
    assert len(cells(differences)) == 2  # what is against nominal training stands above
    assert cells(differences)[1][1] == "-10.0 (-11.0 to -8.0)"
    assert "500 images" in other
    assert cells(elsewhere)[1][1:] == ["20.0 ± 0.0", "19.0–22.0", "0.200"]


def test_a_stress_test_shows_the_worst_group_and_the_agreement_that_was_reached() -> None:
    facts, errors, _, _, differences = tables.celeba(celeba(stress=True))
    assert "agrees with Male in 97 %" in facts
    assert cells(errors)[0][5] == "Worst group"
    assert cells(differences)[0] == ["", "Error", "Worst group", "Worst case"]
    assert cells(differences)[1][2] == "-30.0 (-31.0 to -28.0)"


def test_a_method_that_learns_nothing_does_not_press_the_others_together() -> None:
    rows = [row("nominal", 0.1), row("advmix", 0.09), row("linf8", 0.5) | {"change": interval(4.0)}]
    error, change = error_figure(rows).axes
    assert [text.get_text() for axes in (error, change) for text in axes.texts] == ["50.0", "+400 %"]
    assert error.get_xlim()[1] < 25
    assert change.get_xlim()[1] < 120
    faultless = [row("nominal", 0.0), row("advmix", 0.05)]
    assert not error_figure(faultless).axes[0].texts


def test_survival_by_attribute_and_split() -> None:
    split = {
        "name": "finest",
        "flags": "--perp 4 5",
        "survival": interval(0.9),
        "survival_searched": None,
        "range": 0.1,
    }
    results = {
        "config": {"size": 32, "variant": "base", "seed": 0, "images": 500, "donors": 4, "threshold": 0.95},
        "targets": [
            {"target": "Smiling", "splits": [split, split | {"name": "proposed"}], "proposal": {"flags": "--perp 4 5"}},
            {"target": "Young", "splits": [split], "proposal": {"flags": None}},
        ],
    }
    facts, found, none = tables.survival(results)
    assert "500 images of held-out persons" in facts
    assert cells(found)[1] == ["Smiling", "finest", "`--perp 4 5`", "90.0", "89.0–92.0", "–", "–", "10.0"]
    assert [line[1] for line in cells(found)[1:]] == ["finest", "proposed", "finest"]
    assert none == "No split keeps 95 % of the labels, and so none is proposed: Young."


def made_up(**further: Any) -> dict[str, Any]:
    gan = {"gan_steps": 8000, "gan_batch": 16, "gan_channels": 64, "r1_weight": 0.05}
    return {
        "config": {"size": 32, "methods": ["nominal", "advmix"]},
        "made_by": {"gan": gan, "fit_seconds": 3600.4, **further},
        "nearest": {"made_up": {"median": 0.123, "least": 0.08}, "held_out": {"median": 0.13, "least": 0.09}},
        "poles": {"low": [0.004, 0.2, 0.001], "high": [0.995, 0.999, 0.985]},
        "probabilities": {
            "nominal": {"before": [0.9, 0.2], "worst": [0.1, 0.8]},
            "advmix": {"before": [0.9, 0.2], "worst": [0.7, 0.2]},
        },
    }


def test_made_up_faces_say_who_made_them_and_what_became_of_them() -> None:
    facts, certain, found = tables.pictures(made_up())
    assert "8,000 steps of 16 images, 64 channels, R1 0.05; 3,600 seconds" in facts
    assert "12.3 % in the median, 8.0 at the least. Real ones that nobody can have learned differ" in facts
    assert "Fréchet" not in facts
    assert certain.startswith("Of the 3 faces with the widest swing, 1 have two variations")
    assert cells(found)[1:] == [["Nominal", "2 of 2", "70"], ["AdvMix", "0 of 2", "10"]]
    shares = {name: {"not Smiling": 0.6, "Smiling": 0.4} for name in ("class_shares", "class_shares_real")}
    judged = made_up(frechet_distance=3.5, class_shares_samples=1000, **shares)
    assert "Smiling 40 % (training images: 40)" in next(iter(tables.pictures(judged)))


@pytest.mark.parametrize("column", [9, 10])
def test_marks_are_those_of_the_numbers_beside_them(column: int) -> None:
    results = json.loads((ROOT / "results" / "photo-autoencoder" / "results.json").read_text())
    head, *lines = cells(list(tables.autoencoders(results))[1])
    assert head[column].startswith("Reached")
    lost = {9: 2, 10: 4}[column]
    for line in lines:
        assert (line[column] == "yes") == (float(line[lost]) <= 1 and float(line[5]) >= 95)


def test_classifiers_stand_beside_the_generator_that_they_were_trained_with() -> None:
    results = json.loads((ROOT / "results" / "photo-autoencoder" / "results.json").read_text())
    errors = {"base": (0.2, 0.18, 0.16), "survival": (0.2, 0.17, 0.15)}
    results["classifiers"] = [
        {
            "variant": variant,
            "method": method,
            "error": interval(error),
            "less_base": interval(error - base),
            "accuracy_worst_case": interval(1 - error),
            "worst_case_images": 100,
        }
        for variant, found in errors.items()
        for method, error, base in zip(("nominal", "randmix", "advmix"), found, errors["base"], strict=True)
    ]
    _, _, words, found = tables.autoencoders(results)
    assert "(5000 labels, 10 epochs)" in words
    assert "no generator changes: 20.0 (19.0–22.0)" in words
    head, *lines = cells(found)
    assert head[1:5] == ["RandMix", "Less `base`", "AdvMix", "Less `base`"]
    assert lines[0] == ["`base`", "18.0", "–", "16.0", "–", "80.0", "82.0", "84.0"]
    assert lines[1][1:5] == ["17.0", "-1.0 (-2.0 to +1.0)", "15.0", "-1.0 (-2.0 to +1.0)"]
