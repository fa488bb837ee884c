"""Tables of studies with numbers of their own."""

from __future__ import annotations

from typing import Any

from experiments import tables


def cells(table: str) -> list[list[str]]:
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return [lines[0], *lines[2:]]


def search_results() -> dict[str, Any]:
    """Two methods, two seeds; accuracies say where they stand."""
    usual: dict[str, Any] = {"restarts": 5, "steps": 5, "radius": 0.5}
    varied = [usual, usual | {"restarts": 20}, usual | {"steps": 20}, usual | {"radius": 1.0}, usual | {"radius": None}]
    axes = ("restarts", "restarts", "steps", "radius", "radius")
    both = [(method, seed) for method in ("nominal", "advmix") for seed in (0, 1)]
    return {
        "search": usual,
        "config": {"worst_images": 200, "data": "mnist", "color_std": 0.1, "seeds": [0, 1]},
        "saturation": [
            {"method": method, "seed": seed, "axis": axis, **found, "accuracy_worst_case": (place + seed) / 100}
            for method, seed in both
            for place, (axis, found) in enumerate(zip(axes, varied, strict=True))
        ],
        "found": [
            {"method": method, "accuracy_worst_case": 0.5, "accuracy_random_mixes": 0.9}
            | {"below_floor": 0.2, "accuracy_reference": 0.6}
            for method, _ in both
        ],
        "recolouring": [{"method": method, "accuracy_recolor_mixed": 0.8} for method, _ in both],
        "transfer": [
            {"method": "advmix", "trained_with": trained, "generator": name, "accuracy_worst_case": value}
            for trained, values in (("own", (0.7, 0.6)), ("seed", (0.5, 0.75)))
            for name, value in zip(("own", "seed"), values, strict=True)
        ],
    }


def test_search_has_a_column_for_every_stronger_search() -> None:
    facts, _, saturation, _, found, _, transfer = tables.search(search_results())
    assert facts.startswith("**mnist**, colour std 0.1, seeds 0, 1, 200 test images")
    head, nominal, _ = cells(saturation)
    assert head == ["", "As in the study", "20 restarts", "20 steps", "Radius 1", "No box"]
    assert [float(cell.split(" ")[0]) for cell in nominal[1:]] == [0.5, 1.5, 2.5, 3.5, 4.5]
    assert cells(found)[1][1:] == ["50.0 ± 0.0", "90.0 ± 0.0", "80.0 ± 0.0", "20.0 ± 0.0", "60.0 ± 0.0"]
    assert cells(transfer) == [
        ["", "`own`", "`seed`"],
        ["AdvMix", "70.0", "60.0"],
        ["AdvMix, trained with `seed`", "50.0", "75.0"],
    ]


def test_averaging_has_a_row_for_every_way_of_asking() -> None:
    runs = [
        {"seed": seed, "method": "nominal", "test": "natural", "prediction": way, "samples": n, "accuracy": value}
        for seed in (0, 1)
        for way, n, value in (("plain", 0, 0.9), ("reconstruction", 0, 0.8), ("marginalized", 4, 0.7 + seed / 50))
    ]
    costs = [{"seed": seed, "marginalized": [{"samples": 4, "times_plain": 9.0 + 2 * seed}]} for seed in (0, 1)]
    config = {"target": "Smiling", "size": 32, "labelled": None, "tint": 0.5, "seeds": [0, 1], "ask": {"images": 500}}
    facts, table = tables.marginalize({"runs": runs, "costs": costs, "config": config})
    assert facts.startswith("**Smiling**, 32 pixels, all labels, tint 0.5, seeds 0, 1, at most 500 images")
    assert cells(table) == [
        ["", "Answer", "Natural", "Cost"],
        ["Nominal", "plain", "90.0 ± 0.0", "1"],
        ["Nominal", "reconstruction", "80.0 ± 0.0", ""],
        ["Nominal", "mean over 4", "71.0 ± 1.4", "10"],
    ]
