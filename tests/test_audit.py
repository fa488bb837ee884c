"""The parts of an audit: what is asked of each image, layers by themselves, intervals, rules, words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.audit.measure import (
    AuditBatch,
    AuditedClassifier,
    AuditSetup,
    broad_share,
    color_share,
    measure_classifier,
    measure_images,
    swaps,
)
from advmix.audit.records import AuditRecords, ClassifierRecords, ImageRecords
from advmix.audit.statistics import (
    LabelCheck,
    check_entry,
    commonest_entry,
    curve_entries,
    probability_drop,
    smallest_entry,
    strongest_failures,
)
from advmix.audit.words import (
    COLOR,
    audit_sentences,
    caveats,
    changes,
    check_words,
    comparison_headline,
    first_layers,
    headline,
    smallest_words,
    style_words,
    why_no_verdict,
)
from advmix.encoders.network import NoEncoder
from advmix.generators.base import enlarge
from advmix.generators.image_statistics import StatisticsConfig
from advmix.intervals import GroupBootstrap, Resamples, share_of
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix
from advmix.report.tables import parts_table
from advmix.utils.errors import UserError
from advmix.utils.machine import MACHINE
from advmix.utils.torch_tools import generator as seeded
from tiny import SPATIAL, VECTOR, make_classifier, make_generator, make_latents

COUNT = 10
DEC, SPLIT, CLASSIFIER = make_generator(), Split.fine(6, 2), make_classifier().eval()


class Shrunk(torch.nn.Module):
    """The tiny classifier behind a resize, as a classifier of larger images would be."""

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = CLASSIFIER(F.interpolate(images, (8, 8), mode="bilinear"))
        return logits


def bench(residual: bool = True, steps: int = 1) -> AuditSetup:
    search = AdvMix(DEC, SPLIT, restarts=3, steps=steps, stop_early=True)
    pool = make_latents(VECTOR, 9, seed=5)
    return AuditSetup(search, NoEncoder(), pool, swaps(VECTOR, SPLIT), make_classifier(seed=3).eval(), residual, seed=1)


def batch(side: int = 8) -> AuditBatch:
    rng = seeded(0, "audit tests")
    native = {side: torch.rand(COUNT, 3, side, side, generator=rng, dtype=torch.float64)} if side > 8 else {}
    small = torch.rand(COUNT, 3, 8, 8, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        labels = Shrunk()(native.get(side, small)).argmax(1)
    labels[::4] = (labels[::4] + 1) % 3
    rows = torch.arange(COUNT)
    return AuditBatch(
        20,
        rows,
        torch.zeros_like(rows),
        torch.zeros_like(rows),
        labels,
        small,
        native,
        make_latents(VECTOR, COUNT, seed=7),
    )


def test_a_larger_image_is_changed_as_its_drawing_is() -> None:
    latents, others = make_latents(VECTOR, 4, seed=1), make_latents(VECTOR, 4, seed=2)
    native = torch.rand(4, 3, 24, 24, generator=seeded(3), dtype=torch.float64)
    with torch.no_grad():
        full = DEC.complete(latents, native)
        assert torch.allclose(DEC(full), native)
        drawn = DEC(latents)
        larger = enlarge(DEC(SPLIT.combine(latents, others)) - drawn, drawn, native)
        assert torch.allclose(DEC(SPLIT.combine(full, others)), (native + larger).clamp(0, 1))
        assert torch.equal(DEC(replace(full, residual=None)), drawn)


@pytest.mark.parametrize(("side", "residual"), [(8, True), (8, False), (16, True)])
def test_answers_equal_asking_one_by_one(side: int, residual: bool) -> None:
    setup, images = bench(residual), batch(side)
    subject, shown = AuditedClassifier(Shrunk(), side), images.shown(side)
    found, asked = measure_classifier(setup, subject, images), measure_images(setup, images)
    begun = DEC.complete(images.latents, shown) if residual else images.latents
    small = DEC.complete(images.latents, images.pixels) if residual else images.latents
    with torch.no_grad():
        for place, label in enumerate(images.labels.tolist()):
            one = torch.tensor([place])
            assert bool(found.right_clean[place]) == (Shrunk()(shown[one]).argmax() == label)
            assert bool(found.right_small[place]) == (Shrunk()(images.pixels[one]).argmax() == label)
            assert bool(found.right_reconstruction[place]) == (Shrunk()(DEC(images.latents[one])).argmax() == label)
            mix = DEC(SPLIT.with_perp(begun[one], found.perp[one]))
            assert torch.allclose(Shrunk()(mix).softmax(1)[0], found.after[place])
            assert torch.allclose((mix - DEC(begun[one])).square().mean().sqrt(), found.change[place])
            for perp, asked_reference in ((found.perp, found.reference_after), (found.flip_perp, found.reference_flip)):
                seen = setup.reference(DEC(SPLIT.with_perp(small[one], perp[one]))).argmax()
                assert seen == asked_reference[place]
            least = DEC(SPLIT.with_perp(begun[one], found.flip_perp[one]))
            assert torch.allclose(Shrunk()(least).softmax(1)[0], found.flip_answers[place])
            assert torch.allclose((least - DEC(begun[one])).square().mean().sqrt(), found.flip_change[place])
            flips = bool(Shrunk()(least).argmax() != label)
            assert flips == bool(found.flip_strength[place] < torch.inf) == (not found.right_worst_case[place])
            donor = setup.pool[asked.swap_donors[one]]
            for unit, swap in enumerate(setup.swaps):
                swapped = Shrunk()(DEC(swap.split.combine(begun[one], donor))).argmax()
                assert swapped == found.swap_answers[place, unit]
    assert found.right_clean.any()
    assert not found.right_clean.all()


def test_another_s_attack_is_given_as_many_images_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[int]()

    def darkened(model: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append(len(x))
        return x / 2

    setup, images = replace(bench(), attack=darkened), batch()
    whole = measure_classifier(setup, AuditedClassifier(CLASSIFIER, 8), images).right_attacked
    assert max(seen) == COUNT
    seen.clear()
    monkeypatch.setattr(MACHINE, "memory", 1)
    parts = measure_classifier(setup, AuditedClassifier(CLASSIFIER, 8), images).right_attacked
    assert whole is not None
    assert parts is not None
    assert torch.equal(parts, whole)
    assert max(seen) == 2


def test_all_classifiers_meet_the_same_donors() -> None:
    setup, images = bench(steps=0), batch()
    first, second = (
        measure_classifier(setup, AuditedClassifier(make_classifier(seed=seed).eval(), 8), images) for seed in (0, 3)
    )
    starts = {tuple(row) for row in SPLIT.perp_of(setup.pool).tolist()}
    for found in (first, second):
        assert all(tuple(row) in starts for row in found.perp.tolist())
    again = measure_classifier(setup, AuditedClassifier(make_classifier().eval(), 8), images)
    assert first.right_attacked is again.right_attacked is None
    kept = [name for name, tensor in vars(first).items() if tensor is not None]
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in kept)


def test_found_is_read_as_it_was_written(tmp_path: Path) -> None:
    setup, images = bench(), batch()
    subjects = [AuditedClassifier(make_classifier(seed=seed).eval(), 8) for seed in (0, 3)]
    metadata = {"split": {"layers": 6, "perp": [4, 5], "grid": False}}
    parts = [
        AuditRecords(
            measure_images(setup, part),
            tuple(measure_classifier(setup, subject, part) for subject in subjects),
            metadata,
        )
        for part in images.parts(4)
    ]
    whole = AuditRecords.cat(parts)
    whole.save(tmp_path / "found.safetensors")
    read = AuditRecords.load(tmp_path)
    assert read.split == SPLIT
    assert len(read) == COUNT
    assert read.images.grid is None
    for before, after in zip((whole.images, *whole.classifiers), (read.images, *read.classifiers), strict=True):
        for name, tensor in vars(before).items():
            assert tensor is None or torch.equal(tensor, vars(after)[name]), name
    (tmp_path / "found.safetensors").write_bytes(b"no")
    with pytest.raises(UserError, match="damaged"):
        AuditRecords.load(tmp_path)


def test_swaps_are_grid_layers_resolutions_and_all() -> None:
    found = swaps(SPATIAL, Split(4, (2, 3)))
    names = ["grid", "layer 0", "layer 1", "layer 2", "layer 3", "layers 0 1", "layers 2 3", "z⊥"]
    assert [swap.name for swap in found] == names
    assert [swap.resolution for swap in found] == [4, 4, 4, 8, 8, 4, 8, None]


def test_a_repainted_image_has_changed_its_colour_alone() -> None:
    images = torch.rand(5, 3, 16, 16, generator=seeded(0))
    paint = torch.rand(3, 3, generator=seeded(1))
    painted = torch.einsum("dc,bchw->bdhw", paint, images) + 0.1
    assert torch.allclose(color_share(images, painted - images), torch.ones(5), atol=1e-4)
    noise = torch.rand(5, 3, 16, 16, generator=seeded(2)) - 0.5
    assert bool((color_share(images, noise) < 0.1).all())
    assert torch.equal(color_share(images, torch.zeros_like(images)), torch.zeros(5))
    blocks = F.interpolate(torch.rand(5, 3, 8, 8, generator=seeded(3)), (16, 16))
    assert torch.allclose(broad_share(blocks), torch.ones(5), atol=1e-5)
    assert bool((broad_share(noise) < 0.5).all())


def test_intervals_are_those_of_resampled_images() -> None:
    """The same interval as when every image is drawn, up to the noise of the resamples."""
    hits = torch.rand(200, generator=seeded(0)) < 0.7
    among = torch.rand(200, generator=seeded(1)) < 0.5
    literal = GroupBootstrap.draw(torch.arange(200), 4000, seeded(2))
    resamples = Resamples(4000, seed=0)
    found, expected = share_of(hits), literal.interval(hits.double())
    part, share = (
        share_of(hits, among),
        literal.interval((hits & among).double(), among.double(), statistic=lambda right, asked: right / asked),
    )
    other = torch.rand(200, generator=seeded(3)) < 0.6
    paired, difference = resamples.difference(hits, other, "z"), literal.interval(hits.double() - other.double())
    for one, two in ((found, expected), (part, share), (paired, difference)):
        assert one is not None
        assert one.value == pytest.approx(two.value)
        assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=0.02)
    assert share_of(hits, torch.zeros(200, dtype=torch.bool)) is None


def test_a_share_of_none_of_twenty_may_be_more_than_none() -> None:
    none, every = share_of(torch.zeros(20, dtype=torch.bool)), share_of(torch.ones(20, dtype=torch.bool))
    assert none is not None
    assert every is not None
    assert [none.value, none.low, none.high] == pytest.approx([0, 0, 0.1611], abs=1e-4)
    assert [every.value, every.low, every.high] == pytest.approx([1, 0.8389, 1], abs=1e-4)


def answers(**columns: Any) -> tuple[ImageRecords, ClassifierRecords]:
    """Images of class 0, of two classes."""
    zeros = torch.zeros(len(next(iter(columns.values()))), dtype=torch.int64)
    blank = dict.fromkeys(ClassifierRecords.__dataclass_fields__, zeros) | columns
    plain = dict.fromkeys(ImageRecords.__dataclass_fields__, zeros) | {
        "reference_before": blank.pop("reference_before", zeros)
    }
    return ImageRecords(**plain), ClassifierRecords(**blank)


def test_the_label_check_tells_three_kinds_apart() -> None:
    """By what the reference sees in the smallest change that flips."""
    yes, no = torch.ones(4, dtype=torch.bool), torch.tensor([False, False, False, True])
    votes = {"reference_before": torch.tensor([0, 0, 1, 0]), "reference_flip": torch.tensor([0, 1, 0, 1])}
    asked, judged = answers(
        right_clean=yes, right_worst_case=no, unanswered=torch.zeros(4, dtype=torch.bool), label_votes=None, **votes
    )
    check = LabelCheck(asked, judged)
    assert check.flipped.tolist() == [True, True, True, False]
    assert check.kept.tolist() == [True, False, False, False]
    assert check.lost.tolist() == [False, True, False, False]
    assert check.checked.tolist() == [True, False, False, True]
    counts = check_entry(asked, judged, trusted=True)
    assert (counts["flipped"], counts["flipped_label_kept"], counts["flipped_label_lost"]) == (3, 1, 1)
    assert counts["flipped_no_vote"] == 1
    person = replace(judged, label_votes=torch.tensor([0, -1, 1, -1]))
    check = LabelCheck(asked, person)
    assert check.kept.tolist() == [False, False, True, False]
    assert check.lost.tolist() == [True, True, False, False]
    assert check_entry(asked, person, trusted=True)["asked_label_kept"] == 1
    silent = check_entry(asked, judged, trusted=False)
    assert silent["flipped"] == 3
    assert [silent[name] for name in silent if name.startswith("flipped_") or name == "votes"] == [None] * 4


def test_the_curve_ends_in_the_worst_case() -> None:
    inf = torch.inf
    strength = torch.tensor([0.0, 0.25, 0.25, 0.71, inf, inf])
    asked, judged = answers(
        right_clean=torch.tensor([False, True, True, True, True, True]),
        right_worst_case=strength.isinf(),
        flip_strength=strength,
        random_strength=torch.tensor([0.0, inf, 0.5, inf, inf, inf]),
        flip_change=torch.tensor([0.0, 0.1, 0.2, 0.3, 0.0, 0.0]),
        flip_natural=torch.tensor([0.0, 0.2, 0.96, 0.3, 0.0, 0.0]),
        flip_clipped=torch.tensor([0.9, 0.0, 0.0, 0.06, 0.0, 0.0]),
        unanswered=torch.zeros(6, dtype=torch.bool),
    )
    curve = curve_entries(judged)
    worst = [row["accuracy_worst_case"]["value"] for row in curve]
    assert worst == pytest.approx([5 / 6] * 3 + [3 / 6] * 5 + [2 / 6] * 3)
    assert [row["accuracy_random_mix"]["value"] for row in curve] == pytest.approx([5 / 6] * 5 + [4 / 6] * 6)
    assert curve[-1]["accuracy_worst_case"] == share_of(judged.right_worst_case).to_dict()  # type: ignore[union-attr]
    least = smallest_entry(asked, judged)
    assert (least["flips"], least["extreme"], least["random_flips"]) == (3, 2, 1)
    assert least["strength"] == pytest.approx([0.25, 0.25, 0.48])
    assert judged.right_worst_natural.tolist() == [False, False, True, True, True, True]


def test_the_strongest_failure_is_a_large_drop_for_a_small_change() -> None:
    before = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.9, 0.1]])
    after = torch.tensor([[0.1, 0.9], [0.1, 0.9], [0.4, 0.6], [0.7, 0.3]])
    asked, judged = answers(before=before, after=after, change=torch.tensor([0.2, 0.1, 0.001, 0.02]))
    assert probability_drop(asked, judged).tolist() == pytest.approx([0.8, 0.8, 0.2, 0.2])
    everyone = torch.ones(4, dtype=torch.bool)
    assert strongest_failures(asked, judged, everyone, 9) == [2, 1, 0]  # the last one is right after all
    assert strongest_failures(asked, judged, torch.tensor([True, False, False, True]), 9) == [0]
    assert strongest_failures(asked, judged, everyone, 1) == [2]


def share(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.05, "high": value + 0.05}


def part(kind: str, name: str, right: float, drawn: float, worst: float) -> dict[str, Any]:
    shares = {"accuracy_clean": share(right), "accuracy_small": share(right), "accuracy_reconstruction": share(drawn)}
    shares |= {
        "accuracy_random_mix": share(drawn),
        "accuracy_worst_case": share(worst),
        "accuracy_checked": share(worst),
    }
    return {"kind": kind, "name": name, "images": 60, **shares}


LEAST = {"flips": 3, "extreme": 0, "strength": [0.4, 0.5, 0.8], "change": [0.04, 0.05, 0.1], "natural": [0.1, 0.2, 0.3]}


def gate(flips: float, images: int = 54) -> dict[str, Any]:
    return {**share(flips), "images": images}


def said(
    *entries: list[dict[str, Any]],
    comparison: list[Any] | None = None,
    residual: bool = True,
    flips: tuple[float, ...] = (0, 0, 0),
) -> list[str]:
    check = {"flipped": 3, "flipped_label_kept": 1, "flipped_label_lost": 1, "flipped_no_vote": 1, "asked": 0}
    known = {"swaps": [], "label_check": check, "differentiable": True, "vanished": 0, "unanswered": 0}
    known |= {"kinds": [], "corroboration": "", "advice": []}
    classifiers = [
        known | {"name": name, "parts": parts, "smallest": LEAST, "reconstruction_flips": gate(lost)}
        for name, parts, lost in zip("abc", entries, flips, strict=False)
    ]
    results = {"classifiers": classifiers, "comparison": comparison or [], "residual": residual}
    return list(audit_sentences(results | {"reference": {"accuracy": 0.8, "accuracy_train": 0.85, "trusted": True}}))


def test_the_headline_names_random_and_worst_side_by_side() -> None:
    entry = {"parts": [part("all", "all", 0.9, 0.88, 0.45)], "swaps": []}
    words = headline(entry, {"residual": True})
    assert words == "90 % right as they are, 88 % after a random change, 45 % after the worst one found"
    few = {"parts": [part("all", "all", 0.9, 0.88, 0.45) | {"images": 49}]}
    assert headline(few, {"residual": True}) == "No verdict: 49 images are too few"
    few["parts"][0]["images"] = 1
    assert headline(few, {"residual": True}) == "No verdict: 1 image is too few"


def swap_row(name: str, value: float, flipped: int) -> dict[str, Any]:
    return {"name": name, "perp": True, "kind": "resolution", "flips": share(value), "flipped": flipped}


def test_a_layer_flips_most_only_where_that_is_sure() -> None:
    first, next_to, far = swap_row("a", 0.3, 20), swap_row("b", 0.22, 15), swap_row("c", 0.1, 7)
    assert first_layers({"swaps": [far, first]}) is first
    assert first_layers({"swaps": [next_to, first, far]}) is None
    assert first_layers({"swaps": [first | {"flipped": 9}]}) is None
    assert first_layers({"swaps": []}) is None


def test_how_little_the_flips_take_is_said_of_ten_of_them() -> None:
    assert smallest_words({"smallest": LEAST}) is None
    words = smallest_words({"smallest": LEAST | {"flips": 30, "extreme": 2}})
    assert words == (
        "Half of the 30 flips take 50 % of the way or less (quarters: 40 % and 80 %), a change of 5.0 % of the pixel "
        "range; 80 % of the pairs of these images differ as much in style. 2 are extreme: look at them before "
        "you count."
    )


def test_what_a_reader_must_know_of_the_search_comes_first() -> None:
    entry = {"name": "net", "parts": [part("all", "all", 0.9, 0.9, 0.45)], "differentiable": True}
    assert caveats(entry | {"vanished": 0, "unanswered": 0}) == []
    silent, unanswered = caveats(entry | {"vanished": 12, "unanswered": 3})
    assert silent.startswith("The gradients of net are zero on 12 of the 60 images: there the search is a random one")
    assert unanswered.startswith("net answers 3 of the 60 images, or what was made of them, with what is no number")
    assert caveats(entry | {"differentiable": False, "vanished": 0, "unanswered": 0}) == [
        "net gives no gradients: the search is a random one."
    ]


def test_an_unrelated_image_is_no_change_of_colour() -> None:
    """One colour map explains half of the change to it; the threshold is above that."""
    rng = torch.Generator().manual_seed(0)
    images, others = (torch.rand(20, 3, 16, 16, generator=rng) for _ in range(2))
    unrelated, repainted = color_share(images, others - images), color_share(images, 0.7 * images + 0.1 - images)
    assert float(unrelated.mean()) == pytest.approx(0.5, abs=0.02)
    assert float(unrelated.max()) < COLOR < float(repainted.min())
    assert changes({"color": float(unrelated.mean()), "broad": 0.1}) == "shape and detail"


def test_a_generator_that_blurs_gets_no_headline() -> None:
    """Image by image: as many may be won as are lost."""
    parts = [part("all", "all", 0.9, 0.9, 0.3)]
    sentence, *_ = said(parts, flips=(0.15,))
    assert sentence.startswith(
        "No headline: reconstruction alone flips 15.0 % (10.0 to 20.0 %) of the 54 right answers"
    )
    assert "--fit-steps" in sentence
    verdict = "90.0 % right as they are; 90.0 % after a random change; 30.0 % after the worst that the search found."
    doubt, unsure, *_ = said(parts, flips=(0.1,))
    assert doubt.startswith("Reconstruction alone flips 10.0 % (5.0 to 15.0 %) of the right answers of a: ")
    assert unsure == verdict
    first, *_ = said(parts, flips=(0.05,))
    assert first == verdict


def test_a_classifier_that_gives_one_answer_gets_no_headline() -> None:
    """Nor is it compared; but where nearly all images have that label, it may be right to."""
    rows = [part("all", "all", 0.5, 0.5, 0.5), part("class", "a", 1, 1, 1), part("class", "b", 0, 0, 0)]
    rows[0]["images"] = 120
    often = {"parts": rows, "commonest": {"class": "a", "share": 0.99}}
    results = {"residual": True}
    doubted = why_no_verdict(often, results)
    assert doubted is not None
    assert doubted.reason == "it answers “a” whatever it is shown"
    assert "“a” to 99.0 % of the images as they are, and 50.0 % have that label" in doubted.words
    assert "--mean" in doubted.words
    assert headline(often, results) == "No verdict: it answers “a” whatever it is shown"
    assert why_no_verdict(often | {"commonest": {"class": "a", "share": 0.9}}, results) is None
    rows[1]["images"] = 112
    assert why_no_verdict(often, results) is None


def test_the_commonest_answer_is_counted() -> None:
    setup, images = bench(), batch()
    judged = measure_classifier(setup, AuditedClassifier(make_classifier().eval(), 8), images)
    judged = replace(judged, before=torch.eye(3, dtype=torch.float64)[[2, 0, 2, 1, 2, 2, 0, 2, 2, 1]])
    found = AuditRecords(measure_images(setup, images), (judged,), {"classes": ["a", "b", "c"]})
    assert commonest_entry(found, judged) == {"class": "c", "share": 0.6}


def test_what_the_size_alone_costs_is_not_the_encoders_error() -> None:
    small = part("all", "all", 0.9, 0.68, 0.3) | {"accuracy_small": share(0.7)}
    assert said([small], flips=(0.02,))[0].startswith("90.0 % right as they are")


def test_where_mixes_are_small_the_size_is_not_the_classifiers_error() -> None:
    """Without residuals the worst case begins with the small reconstruction, and would fall by the size alone."""
    small = part("all", "all", 0.9, 0.68, 0.3) | {"accuracy_small": share(0.7)}
    sentence, *_ = said([small], residual=False, flips=(0.25,))
    assert sentence.startswith(
        "No headline: reconstruction alone flips 25.0 % (20.0 to 30.0 %) of the 54 right answers"
    )
    assert "Leave out --no-residual" in sentence
    blurred, *_ = said([small | {"accuracy_small": share(0.9)}], residual=False, flips=(0.25,))
    assert "--fit-steps" in blurred


def test_a_classifier_without_a_verdict_is_compared_with_none() -> None:
    row = {"classifier": "b", "less": "a", "accuracy_worst_case": {"value": 0.2, "low": 0.1, "high": 0.3}}
    parts = [part("all", "all", 0.9, 0.9, 0.3)]
    assert any("points more than a" in words for words in said(parts, parts, comparison=[row]))
    for flips in ((0, 0.2), (0.2, 0)):
        assert not any("points more than a" in words for words in said(parts, parts, comparison=[row], flips=flips))


def test_the_worst_class_and_group_are_named() -> None:
    parts = [part("all", "all", 0.9, 0.9, 0.3), part("class", "a", 0.9, 0.9, 0.5), part("class", "b", 0.8, 0.9, 0.1)]
    few = part("class", "c", 0.8, 0.9, 0.0) | {"images": 3}
    words = said([*parts, few, part("group", "x", 0.9, 0.9, 0.3), part("group", "y", 1, 1, 0.2)])
    assert "Worst class: b, 80.0 % as they are, 10.0 % in the worst case." in words
    assert "Worst group: y, 100.0 % as they are, 20.0 % in the worst case." in words
    tied = said([*parts[:2], part("class", "b", 0.8, 0.9, 0.5)])
    assert not any("Worst class" in sentence for sentence in tied)
    assert parts_table([part("all", "[red]", 1, 1, 1)]).columns[0]._cells == ["\\[red]"]


TRUSTED = {"accuracy": 0.8, "accuracy_train": 0.85, "trusted": True}


def test_votes_that_are_not_trusted_are_not_said() -> None:
    check = {"flipped": 7, "flipped_label_kept": 1, "flipped_label_lost": 4, "flipped_no_vote": 2, "asked": 0}
    entry = {"parts": [part("all", "all", 0.9, 0.9, 0.3)], "label_check": check}
    words = check_words(entry, {"accuracy": 0.8, "accuracy_train": 0.85, "trusted": True})
    assert "cannot vote on 2, being wrong on the image itself" in words
    asked = check_words(entry | {"label_check": check | {"asked": 4, "asked_label_kept": 3}}, TRUSTED)
    assert asked.startswith(
        "A person was asked about 4 of the 7 flips: the label is kept in 3, 75 % (30 to 95 %). Of 7"
    )
    silent = check | dict.fromkeys(("flipped_label_kept", "flipped_label_lost", "flipped_no_vote"))
    words = check_words(entry | {"label_check": silent}, {"accuracy": 0.6, "accuracy_train": 0.61, "trusted": False})
    assert words.startswith(
        "Not known: the reference is right on 61.0 % of the training images and on 60.0 % of these."
    )


def test_a_difference_is_said_when_its_interval_leaves_zero_out() -> None:
    row = {"classifier": "b", "less": "a"}
    parts = [part("all", "all", 0.9, 0.9, 0.3)]
    sure = said(parts, parts, comparison=[row | {"accuracy_worst_case": {"value": 0.2, "low": 0.1, "high": 0.3}}])[-1]
    ends = "95 % interval of the difference +10.0 to +30.0"
    assert sure == f"b: in the worst case right on 20.0 points more than a ({ends})."
    unsure = said(parts, parts, comparison=[row | {"accuracy_worst_case": share(0.04)}])
    assert not any("points" in sentence for sentence in unsure)


def test_who_withstands_most_is_said_where_it_leads_all_others() -> None:
    def compared(*differences: tuple[str, str, float]) -> str:
        rows = [{"classifier": one, "less": less, "accuracy_worst_case": share(by)} for one, less, by in differences]
        known = {"parts": [part("all", "all", 0.9, 0.9, 0.3)], "reconstruction_flips": None}
        names = sorted({name for one, less, _ in differences for name in (one, less)})
        results = {"classifiers": [known | {"name": name} for name in names], "comparison": rows, "residual": True}
        return comparison_headline(results)

    assert compared(("b", "a", 0.2)) == "b withstands 20 points more"
    assert compared(("b", "a", -0.2)) == "a withstands 20 points more"
    assert compared(("b", "a", 0.04)) == "No difference in the worst case to be sure of"
    assert compared(("b", "a", 0.2), ("c", "a", 0.1), ("c", "b", -0.1)) == "b withstands most"
    assert compared(("b", "a", 0.2), ("c", "a", 0.18), ("c", "b", -0.02)).startswith("No difference")


def test_latents_keep_the_residual_of_any_size() -> None:
    latents = Latents(torch.zeros(2, 6, 4), residual=torch.ones(2, 3, 16, 16))
    assert Latents.cat([latents, latents])[1:3].tensors()["residual"].shape == (2, 3, 16, 16)


def test_numbers_of_a_style_are_said_with_names_and_units() -> None:
    names = [name for layer in StatisticsConfig("moments").number_names for name in layer]
    said = style_words([{"name": name, "by": 0.25} for name in names])
    assert said == (
        "exposure +0.25, warmth +0.25, tint +0.25, contrast +0.25 stops, contrast (red - blue) +0.25 stops, "
        "contrast (green - (red + blue)/2) +0.25 stops"
    )
