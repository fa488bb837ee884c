"""`python -m experiments shifts`: on a set of made pictures in the place of the blood cells."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from running import main

from advmix.data.digits import load_gray
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.style import StyleConfig
from advmix.training.objectives import Batch
from advmix.utils.files import read_json, write_tensors
from advmix.utils.torch_tools import generator, global_seed
from experiments.shifts.cell import (
    FIT,
    ShiftCell,
    balanced,
    fitted_generator,
    one_against_all,
    packed,
    scores,
    unpacked,
)
from experiments.shifts.donors import FILE, donor_images, photograph_crops
from experiments.shifts.made_shifts import MADE_SHIFTS, make_shift
from experiments.shifts.methods import METHODS, Ingredients
from experiments.shifts.networks import NETWORKS, make_network
from experiments.shifts.results import (
    ESTIMATED,
    Forecasted,
    Variant,
    balanced_mean,
    by_variant,
    forecast_quality,
    forecasts,
    made_mean,
    paired_difference,
    site_mean,
    summarise,
    worst_site,
)
from experiments.shifts.sets import SETS, ShiftImages, in_size, open_set
from experiments.shifts.study import ShiftsConfig
from experiments.shifts.tables import PARTS, shift_tables
from experiments.shifts.twins import measure_twins
from experiments.shifts.worst_case import withstood
from pictures import encoded, write
from tiny import assert_same_state
from trained import shared

CLASSES = ("basophil", "eosinophil", "monocyte")
COUNTS = (("barcelona", "train", 30), ("barcelona", "val", 9), ("barcelona", "test", 12), ("bccd", "test", 18))
LAMP = (("deepbionet", "train", 30), ("deepbionet", "val", 24), ("tecom", "test", 18), ("bccd", "test", 12))
FAST = ["--size", "16", "--epochs", "1", "--train-images", "24", "--device", "cpu"]


def pictures(counts: tuple[tuple[str, str, int], ...], grouped: bool) -> dict[str, bytes | str]:
    """Noise whose brightness is the class, in another colour at another site; two pictures of each group."""
    rng = generator(0, "tests", "shifts")
    files: dict[str, bytes | str] = {}
    rows = ["filename,label,site,split" + (",group" if grouped else "")]
    for site, split, count in counts:
        for place in range(count):
            label, name = place % 3, f"{site}-{split}-{place}.png"
            noise = 0.3 * label + 0.3 * torch.rand(16, 16, 3, generator=rng)
            noise[..., 0] += 0.1 * (site != counts[0][0])
            files[name] = encoded(Image.fromarray(np.asarray((255 * noise.clamp(0, 1)).to(torch.uint8))))
            group = f",{split}{place // 6}-{label}" if split != "test" else ","
            rows.append(f"{name},{CLASSES[label]},{site},{split}" + (group if grouped else ""))
    return {**files, "labels.csv": "\n".join(rows)}


@shared
def data(out: Path) -> None:
    write(out / "wbc-sites", pictures(COUNTS, grouped=False))
    write(out / "wbc-lamp", pictures(LAMP, grouped=True))
    keep_photographs(out)


def write_digits(out: Path) -> None:
    """MNIST in its own format, 36 training and 20 test images, and the latter again in noise, as MNIST-M."""
    for part, count in (("train", 36), ("t10k", 20)):
        rng = np.random.default_rng(count)
        images = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        write(
            out / "MNIST" / "raw",
            {
                f"{part}-images-idx3-ubyte": idx(images),
                f"{part}-labels-idx1-ubyte": idx(np.arange(count, dtype=np.uint8) % 10),
            },
        )
    files: dict[str, bytes | str] = {}
    rows = ["filename,label,domain,split,mnist_index"]
    for place in range(30):
        split, name = ("test", f"{place}.png") if place < 20 else ("train", f"{place}.png")
        noise = np.random.default_rng(place).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        files[name] = encoded(Image.fromarray(noise))
        rows.append(f"{name},{place % 10},mnist-m,{split},{19 - place if split == 'test' else place}")
    write(out / "mnist-m", {**files, "labels.csv": "\n".join(rows)})


def idx(values: np.ndarray) -> bytes:
    """MNIST's format: two zero bytes, the type (8, bytes), the dimensions, their sizes, the numbers."""
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def keep_photographs(out: Path) -> None:
    rng = generator(1, "tests", "shifts")
    out.mkdir(exist_ok=True)
    write_tensors(
        out / FILE, "images", {"pixels": torch.randint(256, (6, 3, 64, 64), generator=rng).to(torch.uint8)}, {}
    )


@shared
def finished(out: Path) -> None:
    """Two seeds of some methods, by two calls; what the second one writes holds both."""
    write(out / "data" / "wbc-sites", pictures(COUNTS, grouped=False))
    words = ["study", "shifts", "--data", str(out / "data"), *FAST, "--out", str(out / "run")]
    assert main([*words, "--sets", "wbc-sites", "--methods", "nominal", "mixstyle", "--seeds", "0", "1"]) == 0
    keep_photographs(out / "run")
    lists = ["--methods", "randmix-kept", "--donors", "sites", "photographs", "--seeds", "0"]
    assert main([*words, "--sets", "wbc-sites", *lists]) == 0


@pytest.fixture
def results(finished: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((finished / "run" / "results.json").read_text())
    return found


def opened(data: Path, name: str, seed: int = 0) -> ShiftImages:
    return open_set(name, data, 16, 24, seed)


def test_no_image_of_a_site_is_both_lent_and_judged(data: Path) -> None:
    first, second = opened(data, "wbc-sites", 0), opened(data, "wbc-sites", 1)
    assert (len(first.train), len(first.chosen_by), len(first.home), list(first.sites)) == (24, 9, 12, ["bccd"])
    site, other = first.sites["bccd"], second.sites["bccd"]
    assert not (site.is_lent & site.is_judged).any()
    assert site.unlabelled.labels.bincount().tolist() == [3, 3, 3]
    assert site.judged.labels.bincount(minlength=3).tolist() == [0, 3, 3]  # basophils are at one site alone
    assert site.images.fingerprint == other.images.fingerprint
    assert (site.is_judged != other.is_judged).any()
    assert first.train.fingerprint != second.train.fingerprint
    assert first.chosen_by.fingerprint == second.chosen_by.fingerprint


def test_photographs_that_choose_settings_are_not_judged(data: Path) -> None:
    images = opened(data, "wbc-lamp")
    assert len(images.chosen_by) + len(images.home) == 24
    assert set(images.home.labels.tolist()) == set(images.chosen_by.labels.tolist()) == {0, 1, 2}
    assert len(images.home_units.unique()) == 6  # of twelve photographs, two of each class
    assert set(images.sites) == {"tecom", "bccd"}


def test_twins_are_the_same_digit_at_home(tmp_path: Path) -> None:
    write_digits(tmp_path)
    images = open_set("mnist-m", tmp_path, 16, 12, 0)
    assert (len(images.train), len(images.chosen_by), len(images.home)) == (12, 6, 20)
    site = images.sites["mnist-m"]
    assert site.twins is not None
    plain, _ = load_gray("mnist", tmp_path, "test", download=False)
    wanted = in_size(ImageSet(plain.expand(-1, 3, -1, -1), site.twins.labels, images.train.classes), 16).pixels
    assert torch.equal(site.twins.pixels, wanted.flip(0))  # the table names them from the last to the first
    assert site.twins.shape == (3, 16, 16)


def test_twins_are_counted_as_they_would_be_one_by_one(tmp_path: Path) -> None:
    write_digits(tmp_path)
    images = open_set("mnist-m", tmp_path, 16, 12, 0)
    site = images.sites["mnist-m"]
    network = make_network("group", 10, 0).eval()
    found = measure_twins(network, site, torch.device("cpu"), 0)
    assert site.twins is not None
    with torch.no_grad():
        known = [
            int(network(site.twins.batch(torch.tensor([row]))[0]).argmax()) == int(site.twins.labels[row])
            for row in site.is_judged.nonzero()[:, 0].tolist()
        ]
    assert found["images"] == sum(known)
    if sum(known):
        assert 0 <= found["withstood"] <= 1


def test_a_refitted_classifier_is_the_same_but_for_its_last_layer(data: Path) -> None:
    images, network = opened(data, "wbc-lamp"), make_network("conv", 3, 0).eval()
    held_out = images.train[torch.arange(24).repeat(8)]
    refitted = METHODS["refit"].finish(network, replace(images, chosen_by=held_out), 0)
    before, after = network.state_dict(), refitted.state_dict()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert changed == ["14.weight", "14.bias"]


class ByLight(torch.nn.Module):
    """Says the second class of bright images, by one number that can be switched off."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(weight))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        light = self.weight * (images.mean(dim=(1, 2, 3)) - 0.5)
        return torch.stack([-light, light], dim=1)


def test_a_classifier_that_goes_by_light_withstands_no_other_light() -> None:
    dark, bright = torch.full((4, 3, 16, 16), 60), torch.full((4, 3, 16, 16), 200)
    noise = torch.randint(30, (8, 3, 16, 16), generator=generator(0, "tests"))
    images = ImageSet((torch.cat([dark, bright]) + noise).to(torch.uint8), torch.arange(8) // 4, ("dark", "bright"))
    cpu = torch.device("cpu")
    assert not withstood(ByLight(9.0), images, images, cpu, 0).any()
    alike = images[images.labels == 1]
    assert withstood(ByLight(9.0), alike, alike, cpu, 0).all()


def test_donors_come_from_where_they_say(data: Path, tmp_path: Path) -> None:
    keep_photographs(tmp_path)
    images = opened(data, "wbc-lamp")
    assert donor_images("home", images, tmp_path, tmp_path) is images.train
    assert donor_images("photographs", images, tmp_path, tmp_path).shape == (3, 16, 16)
    assert photograph_crops(tmp_path, tmp_path).shape == (3, 64, 64)
    sites = donor_images("sites", images, tmp_path, tmp_path)
    assert len(sites) == 2 * 9  # as many of the smaller site
    lent = torch.cat([site.unlabelled.pixels for site in images.sites.values()]).flatten(1)
    assert all((lent == one).all(dim=1).any() for one in sites.pixels.flatten(1))


def test_made_sites_change_images_and_nothing_else(data: Path) -> None:
    images = opened(data, "wbc-sites").home
    for name in MADE_SHIFTS:
        made = make_shift(name, images)
        assert made.shape == images.shape
        assert torch.equal(made.labels, images.labels)
        assert (made.pixels != images.pixels).float().mean() > 0.2


def tiny_generator() -> Autoencoder:
    with global_seed(0):
        return Autoencoder(StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5)))


def test_a_generator_is_fitted_once_to_home(data: Path, tmp_path: Path) -> None:
    config = ShiftsConfig(data=data, out=tmp_path, size=16, train_images=24, device="cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FIT, "fit_steps", 2)
        first = fitted_generator("wbc-sites", config)
        assert first.config.grid_shape == (8, 4, 4)
        again = fitted_generator("wbc-sites", config)
    assert_same_state(first.state_dict(), again.state_dict())
    assert not any(part.requires_grad for part in first.parameters())


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_loss_with_gradients(name: str, data: Path, tmp_path: Path) -> None:
    keep_photographs(tmp_path)
    images, method = opened(data, "wbc-lamp"), METHODS[name]
    donors = donor_images("home", images, tmp_path, tmp_path) if method.borrows else None
    objective = method.make(Ingredients(images, donors, tiny_generator))
    network = method.wrap(make_network("conv", 3, 0)).train()
    index = torch.arange(8)
    batch = Batch(*images.train.batch(index), index, augmented=True)
    loss = objective(network, batch, generator(0, "tests"))
    loss.backward()
    assert loss.isfinite()
    assert any(part.grad is not None and part.grad.any() for part in network.parameters())
    assert network.training


def test_networks_answer_in_float32_and_group_normalisation_keeps_no_statistics() -> None:
    x = torch.rand(2, 3, 32, 32)
    for name in NETWORKS:
        network = make_network(name, 5, 0).eval()
        assert network(x).shape == (2, 5)
        assert any("running" in key for key in network.state_dict()) == (name != "group")


def test_scores_are_those_of_counting() -> None:
    answer = torch.tensor([[0.8, 0.2], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1])
    found = scores(answer, labels)
    assert found["accuracy"] == 1 / 4
    assert found["balanced"] == balanced(answer, labels) == (1 / 3 + 0) / 2
    assert found["right"] == "1000"
    squares = [2 * 0.2**2, 2 * 0.6**2, 2 * 0.7**2, 2 * 0.9**2]
    assert found["brier"] == pytest.approx(sum(squares) / 4)
    perfect = torch.nn.functional.one_hot(labels, 2).double()
    assert one_against_all(perfect, labels) == 1
    assert unpacked(packed(labels)).tolist() == labels.tolist()


def test_rows_of_several_calls_are_one_table(results: dict[str, Any]) -> None:
    names = [(row["method"], row["donors"], row["seed"]) for row in results["rows"]]
    assert sorted(names) == [
        ("mixstyle", "", 0),
        ("mixstyle", "", 1),
        ("nominal", "", 0),
        ("nominal", "", 1),
        ("randmix-kept", "photographs", 0),
        ("randmix-kept", "sites", 0),
    ]
    assert results["config"]["methods"] == ["nominal", "mixstyle", "randmix-kept"]
    assert results["config"]["seeds"] == [0, 1]
    row = results["rows"][0]
    assert set(row["made"]) == set(MADE_SHIFTS)
    assert set(row["sites"]["bccd"]) == {"as_it_is", "estimated", "forecast", "answers"}
    text = "\n".join(shift_tables(results))
    assert "RandMix, statistics, with consistency" in text
    for make in PARTS.values():
        assert isinstance("\n".join(make(results)), str)


def test_finished_rows_are_taken_over(finished: Path, tmp_path: Path) -> None:
    data = finished / "data"
    words = ["study", "shifts", "--data", str(data), "--sets", "wbc-sites", "--methods", "nominal", "--seeds", "0"]
    out = ["--finished", str(finished / "run"), "--out", str(tmp_path / "out")]
    other = [*FAST[:3], "2", *FAST[4:]]
    assert main([*words, *other, *out]) == 2  # another number of epochs
    assert main([*words, *FAST, *out]) == 0
    rows = json.loads((tmp_path / "out" / "results.json").read_text())["rows"]
    assert rows == json.loads((finished / "run" / "results.json").read_text())["rows"]


def test_the_same_training_has_the_same_row(finished: Path, tmp_path: Path) -> None:
    words = ["study", "shifts", "--data", str(finished / "data"), *FAST, "--sets", "wbc-sites", "--methods", "mixstyle"]
    assert main([*words, "--seeds", "1", "--out", str(tmp_path)]) == 0
    name = ShiftCell("wbc-sites", "conv", "mixstyle", "", 1, 1).name
    first, second = (read_json(place / "rows" / f"{name}.json") for place in (finished / "run", tmp_path))
    assert {**first, "cpu_seconds": 0} == {**second, "cpu_seconds": 0}


def made_row(seed: int, right: dict[str, str], **more: Any) -> dict[str, Any]:
    """A row of results, of what is judged alone."""
    sites = {}
    for name, digits in right.items():
        labels = unpacked(LABELS["sites"][name]["labels"])
        share = float(balanced_mean(unpacked(digits).double(), labels, torch.ones(1, len(labels)).double()))
        forecast = {"styles": 0.9, "mean_confidence": 0.8, "thresholded_confidence": 0.7}
        sites[name] = {"as_it_is": {"balanced": share, "right": digits}, "forecast": forecast, "answers": digits}
    return {"set": "wbc-sites", "network": "conv", "method": "m", "donors": "", "budget": 1, "seed": seed, **more} | {
        "sites": sites
    }


LABELS = {"sites": {name: {"labels": "0011", "judged": "1111"} for name in ("a", "b")}}
ALL_LABELS = {f"wbc-sites seed {seed}": LABELS for seed in (0, 1)}


def test_means_and_paired_differences_are_those_of_counting() -> None:
    better = {seed: made_row(seed, {"a": "1111", "b": "1101"}) for seed in (0, 1)}
    worse = {seed: made_row(seed, {"a": "1100", "b": "1100"}) for seed in (0, 1)}
    assert site_mean(better[0]) == (1 + 3 / 4) / 2
    assert site_mean(better[0], ESTIMATED) == site_mean(better[0])  # a network without such statistics
    assert worst_site(better[0]) == 3 / 4
    found = paired_difference(better, worse, ALL_LABELS)
    assert found is not None
    assert found.value == pytest.approx((1 + 3 / 4) / 2 - 1 / 2)
    assert found.low < found.value < found.high
    same = paired_difference(better, better, ALL_LABELS)
    assert same is not None
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert paired_difference(better, {}, ALL_LABELS) is None
    assert list(by_variant([*better.values()])) == [Variant("wbc-sites", "conv", "m", "", 1)]


def test_forecasts_are_held_against_the_truth() -> None:
    rows = [made_row(seed, {"a": "1111", "b": "1100"}) for seed in (0, 1)]
    found = forecasts(rows)
    assert [(one.site, one.truth, one.styles, one.agreement) for one in found] == [
        ("a", 1, 0.9, 1),
        ("b", 0.5, 0.9, 1),
    ] * 2
    quality = forecast_quality(found, "styles")
    assert quality.error == pytest.approx((0.1 + 0.4) / 2)
    assert quality.bias == pytest.approx((-0.1 + 0.4) / 2)
    assert quality.above == 0.5
    assert quality.orders_sites is None  # two sites, and a forecast that is the same for both


def test_a_forecast_that_orders_sites_is_seen_to() -> None:
    variant = Variant("wbc-sites", "conv", "m", "", 1)
    truths, said = (0.2, 0.5, 0.9), (0.3, 0.6, 0.7)
    found = [
        Forecasted(variant, 0, str(place), truth, styles, 1 - styles, styles, None)
        for place, (truth, styles) in enumerate(zip(truths, said, strict=True))
    ]
    assert forecast_quality(found, "styles").orders_sites == pytest.approx(1)
    assert forecast_quality(found, "confidence").orders_sites == pytest.approx(-1)


def test_settings_that_are_not_there_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, value in (("--methods", "magic"), ("--sets", "cifar"), ("--donors", "nobody"), ("--networks", "vgg")):
        assert main(["study", "shifts", flag, value]) == 2
        assert f"{flag} {value}: unknown" in capsys.readouterr().err
    assert main(["study", "shifts", "--precision", "8"]) == 2
    assert {cell.seed for cell in ShiftsConfig(seeds=(3,)).cells()} == {3}
    lamp = [cell for cell in ShiftsConfig().cells() if cell.method in ("groupdro", "refit")]
    assert {cell.set_name for cell in lamp} == {"wbc-lamp"}
    assert set(SETS) == {cell.set_name for cell in ShiftsConfig().cells()}


def test_summaries_read_every_row(results: dict[str, Any]) -> None:
    rows = by_variant(results["rows"])
    nominal = summarise(rows[Variant("wbc-sites", "conv", "nominal", "", 1)])
    assert nominal["sites"].seeds == 2
    assert nominal["sites"].deviation is not None
    alone = summarise(rows[Variant("wbc-sites", "conv", "randmix-kept", "sites", 1)])
    assert alone["sites"].deviation is None
    assert 0 <= made_mean(results["rows"][0]) <= 1
