"""`advmix adapt`: a forecast without labels of the site, a classifier that is better there, no look at the truth."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from advmix.adapt.measure import choose, hurts
from advmix.adapt.run import adapt_classifier
from advmix.adapt.words import error_sentence, headline
from advmix.classifiers.open import open_classifier
from advmix.cli import main
from advmix.data.datasets import open_images
from advmix.data.images import ImageSet
from advmix.intervals import balanced_share
from advmix.report.page import joined_units
from advmix.report.tables import schema
from advmix.training.classify import ClassifierTrainee
from advmix.training.normalisation import estimate_norm, norm_layers
from advmix.utils.errors import UserError
from pictures import digit, digit_label, encoded, write
from tiny import cli
from trained import made, shared

CPU = ["--device", "cpu"]
DIGITS = (0, 1, 4)
"""These are told apart."""
PLACES = [place for place in range(1200) if digit_label(place) in DIGITS]
Entry = dict[str, Any]


def stained(place: int, site: bool) -> Image.Image:
    """A digit of 16x16 pixels: pale yellow on green at home, darker and blue at the site."""
    ink = np.asarray(digit(place).resize((16, 16)), dtype=np.float32)[..., None] / 255
    light, dark = ((0.2, 0.3, 0.6), (0.0, 0.1, 0.3)) if site else ((0.9, 0.9, 0.5), (0.4, 0.5, 0.1))
    noise = np.random.default_rng(place).normal(1, 0.1, 3)
    pixels = (ink * np.array(light) + (1 - ink) * np.array(dark)) * noise
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def site_files(places: list[int], site: bool) -> dict[str, bytes | str]:
    rows = "".join(f"{place:04}.png,{digit_label(place)}\n" for place in places)
    files: dict[str, bytes | str] = {f"{place:04}.png": encoded(stained(place, site)) for place in places}
    return {**files, "labels.csv": "filename,digit\n" + rows}


@shared
def sites(out: Path) -> None:
    """Home, a site, a site of few images, and a classifier of home."""
    home = str(write(out / "home", site_files(PLACES[:220], site=False)))
    write(out / "site", site_files(PLACES[220:340], site=True))
    write(out / "few", site_files(PLACES[220:240], site=True))
    train = ["--size", "16", "--holdout", "0.4", "--epochs", "8", "--batch", "16", *CPU]
    assert main(["train", "--method", "nominal", "--data", home, *train, "--out", str(out / "nominal")]) == 0


def words(sites: Path, site: str = "site") -> list[str]:
    named = ["--classifier", str(sites / "nominal"), "--new-site", str(sites / site)]
    return ["adapt", *named, "--donors", "2", "--epochs", "4", "--batch", "16", "--pictures", "3", *CPU]


@pytest.fixture(scope="module")
def adapted(sites: Path) -> Path:
    return made(*words(sites), "--new-site-target", "digit")


def results_in(folder: Path) -> Entry:
    found: Entry = json.loads((folder / "results.json").read_text())
    return found


def by_name(results: Entry) -> dict[str, Entry]:
    return {entry["name"]: entry for entry in results["candidates"]}


def value(share: Entry) -> float:
    return float(share["balanced"]["value"])


def test_the_forecast_is_below_home_where_the_site_is_another(adapted: Path) -> None:
    first = by_name(results_in(adapted))["none"]
    assert value(first["home"]) > 0.9
    assert value(first["styles"]) < value(first["home"]) - 0.2
    assert value(first["truth"]) < value(first["home"]) - 0.2


def test_the_classifier_that_is_kept_is_better_at_the_site(adapted: Path) -> None:
    results = results_in(adapted)
    found = by_name(results)
    assert list(found) == ["none", "normalisation", "styles", "both"]
    assert results["chosen"] != "none"
    assert value(found[results["chosen"]]["truth"]) > value(found["none"]["truth"]) + 0.2


def test_what_is_written_is_what_was_measured(adapted: Path, sites: Path) -> None:
    results = results_in(adapted)
    images = open_images(sites / "site", size=16, holdout=0.5)
    opened = open_classifier(adapted / results["adapted"], images.train.classes)
    pixels = torch.cat([images.train.pixels, images.test.pixels])
    labels = torch.cat([images.train.labels, images.test.labels])
    with torch.no_grad():
        right = opened.network(pixels / 255).argmax(1) == labels
    assert float(right.double().mean()) == pytest.approx(
        by_name(results)[results["chosen"]]["truth"]["accuracy"]["value"], abs=0.01
    )


def test_results_and_page_say_the_same(adapted: Path) -> None:
    results, page = results_in(adapted), (adapted / "report.html").read_text()
    jsonschema.validate(results, schema())
    for entry in results["candidates"]:
        for share in (entry["home"], entry["styles"], entry["truth"]):
            assert f"{100 * value(share):.1f}" in page
    assert page.count("data:image/png") == 3 * 3 + 6
    assert joined_units(error_sentence()) in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_the_headline_says_where_the_site_costs_nothing(adapted: Path) -> None:
    results = results_in(adapted)
    first = results["candidates"][0]
    assert headline(results).startswith(f"At the new site expect {100 * value(first['styles']):.1f} %")
    first["styles"] = first["home"]
    assert headline(results).startswith("Light and colours of the site cost nothing")


def test_the_choice_knows_no_label_of_the_site(sites: Path) -> None:
    """The same images with other labels: all but the truth is the same."""
    home = open_images(sites / "home", size=16, holdout=0.4)
    site = open_images(sites / "site", size=16, holdout=0.0).train
    found = []
    for labels in (site.labels, (site.labels + 2) % len(DIGITS)):
        shown = ImageSet(site.pixels, labels, site.classes)
        common: Any = {"donors": 1, "epochs": 1, "device": "cpu"}
        found.append(adapt_classifier(sites / "nominal", home, shown, **common))
    one, other = (result.results for result in found)
    assert one["chosen"] == other["chosen"]
    assert [entry["truth"] for entry in one["candidates"]] != [entry["truth"] for entry in other["candidates"]]
    for mine, theirs in zip(one["candidates"], other["candidates"], strict=True):
        assert {**mine, "truth": None} == {**theirs, "truth": None}
    assert found[0].classifier is not None
    weights = [Path(str(result.classifier)) / "classifier.safetensors" for result in found]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_run_that_was_stopped_ends_in_the_same_bytes(
    sites: Path, adapted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = [*words(sites), "--new-site-target", "digit", "--checkpoint-seconds", "0"]
    out = ["--out", str(tmp_path / "out")]
    loss = ClassifierTrainee.loss

    def stopped(trainee: ClassifierTrainee, step: int) -> Tensor:
        if step == 7:
            signal.raise_signal(signal.SIGINT)
        return loss(trainee, step)

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierTrainee, "loss", stopped)
        assert main([*line, *out]) == 130
    assert not (tmp_path / "out" / "results.json").exists()
    assert main([*line, *out]) == 2  # it is there already
    assert main([*line, *out, "--resume"]) == 0
    name = "classifier/classifier.safetensors"
    assert (tmp_path / "out" / name).read_bytes() == (adapted / name).read_bytes()
    assert by_name(results_in(tmp_path / "out")) == by_name(results_in(adapted))
    assert not (tmp_path / "out" / "checkpoint.pt").exists()


def test_too_few_images_give_no_statistics_and_no_labels_no_truth(
    sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert cli([*words(sites, "few"), "--epochs", "1", "--out", str(out)]) == 0
    said, results = capsys.readouterr().out, results_in(out)
    assert "20 images of the site are too few" in said
    assert [entry["name"] for entry in results["candidates"]] == ["none", "styles"]
    assert all(entry["truth"] is None for entry in results["candidates"])
    assert "Nothing here is measured at the site" in (out / "report.html").read_text()


def test_a_classifier_without_normalisation_layers(sites: Path, named: Callable[[nn.Module], str]) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3))
    line = [*words(sites), "--classifier", named(network), "--data", str(sites / "home"), "--size", "16"]
    folder = made(*line, "--epochs", "1")
    results = results_in(folder)
    assert "no layers of batch normalisation" in results["left_out"]["normalisation"]
    assert results["adapted"] == "classifier/classifier.json"
    again = open_classifier(str(folder / results["adapted"]), image=(3, 16, 16), trust_code=True)
    assert again.outputs == 3


def test_a_fixed_graph_gets_a_forecast_alone(
    sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    network = open_classifier(sites / "nominal").network
    with torch.no_grad():
        torch.jit.trace(network, torch.rand(2, 3, 16, 16)).save(tmp_path / "net.pt")
    recwarn.clear()
    line = [*words(sites), "--data", str(sites / "home"), "--size", "16", "--holdout", "0.4"]
    line[line.index(str(sites / "nominal"))] = str(tmp_path / "net.pt")
    assert main([*line, "--out", str(tmp_path / "out")]) == 0
    assert "cannot be trained" in capsys.readouterr().out
    results = results_in(tmp_path / "out")
    assert [entry["name"] for entry in results["candidates"]] == ["none"]
    assert results["adapted"] is None
    assert not (tmp_path / "out" / "classifier").exists()


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--new-site", "EMPTY"], "no images in it"),
        (["--new-site", "ONE"], "1 image; 2 are needed"),
        (["--new-site", "NOWHERE"], "NOWHERE: no such file or folder"),
        (["--data", "HOME", "--size", "8"], "a ready-made generator takes 16 pixels at least"),
        (["--data", "UNLABELLED"], "UNLABELLED: no labelled images"),
        (["--new-site-target", "colour"], "--new-site-target colour: "),
        (["--new-site-target", "digit", "--new-site", "OTHER"], "give them the names of home"),
        (["--strength", "1.5"], "--strength 1.5: must be between 0 and 1"),
        (["--donors", "0"], "--donors 0"),
        (["--new-site-images", "1"], "--new-site-images 1"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], told: str, sites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "EMPTY").mkdir()
    write(tmp_path / "ONE", {"1.png": encoded(stained(0, site=True))})
    write(tmp_path / "UNLABELLED", {"1.png": encoded(stained(0, site=True))})
    other = {**site_files(PLACES[:4], site=True), "labels.csv": "filename,digit\n" + f"{PLACES[0]:04}.png,cat\n"}
    write(tmp_path / "OTHER", other)
    (tmp_path / "HOME").symlink_to(sites / "home")
    placed = [str(tmp_path / word) if word.isupper() else word for word in flags]
    assert cli([*words(sites), *placed, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error
    assert not (tmp_path / "out").exists()


def test_images_of_another_shape_are_refused(sites: Path) -> None:
    home = open_images(sites / "home", size=16)
    with pytest.raises(UserError, match="16x16 pixels in 1 channels, but those of home have 16x16 pixels in 3"):
        adapt_classifier(sites / "nominal", home, torch.zeros(4, 1, 16, 16), device="cpu")


def test_what_hurts_at_home_is_left_out() -> None:
    def entry(name: str, home: float, styles: float) -> Entry:
        shares = {"home": home, "styles": styles}
        return {"name": name, "validation": {part: {"balanced": {"value": it}} for part, it in shares.items()}}

    none, norm = entry("none", 0.95, 0.3), entry("normalisation", 0.5, 0.6)
    gentle, harsh = ([entry("styles", home, 0.7), entry("both", 0.4, 0.9)] for home in (0.93, 0.929))
    assert hurts([none, norm, *gentle], keep_home=False) == [False, False, False, False]
    assert hurts([none, norm, *harsh], keep_home=False) == [False, False, True, True]
    assert hurts([none, norm, *gentle], keep_home=True) == [False, True, False, True]
    chosen = [choose([none, norm, *gentle], False), choose([none, norm, *harsh], False)]
    assert [*chosen, choose([none, norm, *gentle], True), choose([none, norm, *harsh], True)] == [3, 1, 2, 0]
    assert choose([none, entry("styles", 0.95, 0.3)], keep_home=False) == 0


def test_trained_weights_take_the_statistics_of_the_site_where_they_cost_little() -> None:
    def found(none: float, styles: float, both: float) -> int:
        forecasts = {"none": none, "styles": styles, "both": both}
        share = {"home": {"balanced": {"value": 0.9}}}
        entries = [
            {"name": name, "validation": {**share, "styles": {"balanced": {"value": value}}}}
            for name, value in forecasts.items()
        ]
        return choose(entries, keep_home=False)

    assert found(none=0.3, styles=0.9, both=0.81) == 2
    assert found(none=0.3, styles=0.9, both=0.79) == 1
    assert found(none=0.85, styles=0.9, both=0.84) == 1
    assert found(none=0.95, styles=0.9, both=0.9) == 0


def test_balanced_share_is_the_mean_of_the_classes() -> None:
    labels = torch.tensor([0] * 90 + [2] * 10)
    hits = torch.cat([torch.ones(90), torch.zeros(10)])
    found = balanced_share(hits, labels)
    assert found.value == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.3447, 0.6553), abs=1e-3)  # as of 36 images
    alike = balanced_share(torch.ones(40), torch.arange(4).repeat(10))
    assert (alike.value, alike.high) == (1.0, 1.0)
    assert alike.low == pytest.approx(0.912, abs=1e-3)  # as of 40


def test_normalisation_statistics_are_those_of_the_images() -> None:
    network = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    pixels = torch.randint(256, (150, 3, 6, 6), dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(150, dtype=torch.int64), ("",))
    weights = [weight.clone() for weight in network.parameters()]
    estimate_norm(network.train(), images, torch.device("cpu"), seed=0, batch=60)
    first, second = norm_layers(network)
    shown = pixels / 255
    assert first.running_mean is not None
    assert first.running_var is not None
    torch.testing.assert_close(first.running_mean, shown.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(first.running_var, shown.var(dim=(0, 2, 3)), rtol=0.02, atol=0)
    assert second.running_var is not None
    assert not torch.equal(second.running_var, torch.ones(4))
    assert network.training
    assert first.momentum == 0.1
    assert all(torch.equal(old, new) for old, new in zip(weights, network.parameters(), strict=True))
