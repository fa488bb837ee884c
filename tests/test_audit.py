"""`advmix audit`: verdicts image by image, shares by class and group, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from advmix.audit.verdicts import Verdicts, verdicts
from advmix.cli import main
from advmix.data import ImageSet
from advmix.encoders import StyleEncoder
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, RandMix
from advmix.report.audit import audit_sentences, audit_table
from advmix.results import schema
from advmix.seeds import generator as seeded
from advmix.seeds import global_seed
from pictures import digit, digit_label, encoded, write
from tiny import VECTOR, make_classifier, make_generator

COUNT = 12
DEC, SPLIT, CLASSIFIER = make_generator(), Split.fine(6, 2), make_classifier().eval()


class Code(StyleEncoder):
    """In float64, as the other tiny networks are."""

    def encode_signed(self, images: torch.Tensor) -> Latents:
        return super().encode_signed(images.double())


@pytest.fixture(scope="module")
def encoder() -> Code:
    with global_seed(0):
        return Code(VECTOR).double()


@pytest.fixture(scope="module")
def images() -> ImageSet:
    pixels = torch.randint(256, (COUNT, 3, 8, 8), generator=seeded(0), dtype=torch.uint8)
    with torch.no_grad():
        labels = CLASSIFIER(pixels.double() / 255).argmax(1)
    labels[::3] = (labels[::3] + 1) % 3
    return ImageSet(pixels, labels, ("a", "b", "c"))


class Judge(torch.nn.Module):
    """The tiny classifier, for images in float32 too."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = CLASSIFIER(images.double())
        return logits


def judged(encoder: Code, images: ImageSet, residual: bool, steps: int = 1) -> Verdicts:
    with torch.no_grad():
        pool = encoder(torch.rand(9, 3, 8, 8, generator=seeded(5)))
    search = AdvMix(DEC, SPLIT, restarts=3, steps=steps, stop_early=True)
    return verdicts(Judge(), search, encoder, images, pool, residual=residual, seed=1)


@pytest.mark.parametrize("residual", [True, False])
def test_verdicts_equal_trying_one_after_the_other(encoder: Code, images: ImageSet, residual: bool) -> None:
    found, (pixels, labels) = judged(encoder, images, residual), images.batch(slice(None))
    with torch.no_grad():
        own, pool = encoder(pixels), encoder(torch.rand(9, 3, 8, 8, generator=seeded(5)))
        assert torch.equal(found.right, Judge()(pixels).argmax(1) == labels)
        assert torch.equal(found.right_reconstruction, Judge()(DEC(own)).argmax(1) == labels)
        latents = DEC.complete(own, pixels) if residual else own
        mix = RandMix(DEC, SPLIT)(None, latents, labels, pool, rng=seeded(1, "random mix", 0))
        assert torch.equal(found.right_mixed, Judge()(mix.images).argmax(1) == labels)
    assert found.right.any()
    assert not found.right.all()


def test_worst_is_never_better_than_what_it_begins_with(encoder: Code, images: ImageSet) -> None:
    exact, drawn = judged(encoder, images, residual=True), judged(encoder, images, residual=False)
    assert not (exact.right_worst & ~exact.right).any()
    assert not (drawn.right_worst & ~drawn.right_reconstruction).any()
    assert not (judged(encoder, images, residual=True, steps=4).right_worst & ~exact.right_worst).any()


def share(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.1}


def part(kind: str, name: str, right: float, drawn: float, worst: float) -> dict[str, Any]:
    shares = {"right": share(right), "right_reconstruction": share(drawn), "right_mixed": share(drawn)}
    return {"kind": kind, "name": name, "images": 10, **shares, "right_worst": share(worst)}


def test_a_generator_that_blurs_gets_no_headline() -> None:
    said = list(audit_sentences({"parts": [part("all", "all", 0.9, 0.84, 0.3)]}))
    assert said[0].startswith("No headline: 84.0% right on reconstructions and 90.0% on the images")
    said = list(audit_sentences({"parts": [part("all", "all", 0.9, 0.86, 0.3)]}))
    assert said == ["90.0% right as they are; 30.0% whatever of this kind the search tried."]


def test_the_worst_class_and_group_are_named() -> None:
    parts = [part("all", "all", 0.9, 0.9, 0.3), part("class", "a", 0.9, 0.9, 0.5), part("class", "b", 0.8, 0.9, 0.1)]
    said = list(audit_sentences({"parts": [*parts, part("group", "x", 0.9, 0.9, 0.3), part("group", "y", 1, 1, 0.2)]}))
    assert said[1] == "Worst class: b, 80.0% as they are, 10.0% in the worst case."
    assert said[2] == "Worst group: y, 100.0% as they are, 20.0% in the worst case."
    assert audit_table([part("all", "[red]", 1, 1, 1)]).columns[0]._cells == ["\\[red]"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator and a classifier of small digits in a table, with a group."""
    out = tmp_path_factory.mktemp("runs")
    rows = "".join(f"{i:03}.png,{digit_label(i)},{'even' if i % 2 == 0 else 'odd'}\n" for i in range(120))
    files: dict[str, bytes | str] = {f"{i:03}.png": encoded(digit(i)) for i in range(120)}
    data = write(out / "data", {**files, "labels.csv": "filename,label,place\n" + rows})
    fit, latents = str(out / "fit"), str(out / "latents")
    flags = ["--size", "16", "--channels", "1", "--group", "place", "--device", "cpu"]
    assert main(["fit", "--data", str(data), "--target", "label", *flags, "--fit-steps", "40", "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, "--device", "cpu"]) == 0
    made = ["--generator", fit, "--latents", latents, "--device", "cpu"]
    training = ["--method", "nominal", "--epochs", "4", "--batch", "16", "--out", str(out / "nominal")]
    assert main(["train", *made, *training]) == 0
    return out


def audit(runs: Path, out: Path, *flags: str) -> int:
    made = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents"), "--device", "cpu"]
    few = ["--images", "20", "--restarts", "1", "--steps", "1", "--resamples", "50"]
    return main(["audit", "--classifier", str(runs / "nominal"), *made, *few, "--out", str(out), *flags])


def test_audit_counts_classes_and_groups(runs: Path, tmp_path: Path) -> None:
    assert audit(runs, tmp_path / "out") == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    jsonschema.validate(results, schema())
    by_kind = {kind: [row for row in results["parts"] if row["kind"] == kind] for kind in ("all", "class", "group")}
    assert [row["name"] for row in by_kind["group"]] == ["even", "odd"]
    for rows in by_kind.values():
        assert sum(row["images"] for row in rows) == 20
        mean = sum(row["images"] * row["right_worst"]["value"] for row in rows) / 20
        assert mean == pytest.approx(by_kind["all"][0]["right_worst"]["value"])


def test_audit_is_repeatable_and_not_repeated(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(runs, tmp_path / "one") == 0
    assert audit(runs, tmp_path / "two") == 0
    one, two = (json.loads((tmp_path / name / "results.json").read_text())["parts"] for name in ("one", "two"))
    assert one == two
    capsys.readouterr()
    assert audit(runs, tmp_path / "one", "--resume") == 0
    assert "worst case" in capsys.readouterr().out
    assert audit(runs, tmp_path / "one", "--resume", "--no-residual") == 2
    assert "another run (residual True there, False here)" in capsys.readouterr().err


def test_painted_digits_are_audited_on_their_shuffled_test(tmp_path: Path) -> None:
    small = ["--train-images", "60", "--test-images", "30", "--device", "cpu"]
    fit, latents = str(tmp_path / "fit"), str(tmp_path / "latents")
    assert main(["fit", *small, "--fit-steps", "5", "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, "--device", "cpu"]) == 0
    made = ["--generator", fit, "--latents", latents, "--device", "cpu"]
    assert main(["train", "--method", "nominal", "--epochs", "1", *made, "--out", str(tmp_path / "nominal")]) == 0
    assert audit(tmp_path, tmp_path / "out") == 0


def test_a_classifier_of_other_images_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--method", "nominal", "--epochs", "1", "--train-images", "20", "--device", "cpu"]
    assert main(["train", *flags, "--out", str(tmp_path / "other")]) == 0
    assert audit(runs, tmp_path / "out", "--classifier", str(tmp_path / "other")) == 2
    assert "a classifier of other classes or sizes" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
