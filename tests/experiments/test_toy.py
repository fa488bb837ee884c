"""The toy example: its points, its true decoder under the real mixers, the study from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from running import main
from torch import Tensor, nn

from advmix.mixing import SearchOptions
from advmix.utils.torch_tools import generator
from experiments.toy.plane import PERP_STD, PlaneDecoder, Points, encode, mixers, sample, to_images, to_plane
from experiments.toy.study import ToyConfig, accuracy, fit, make_network, worst_over_pool

SEARCH = ToyConfig().search
SMALL = ["--points", "60", "--test-points", "200", "--train-steps", "30"]


class Threshold(nn.Module):
    """Says 1 where a coordinate of the plane is above a number, unsure enough for every loss to have a gradient."""

    def __init__(self, coordinate: int, above: float) -> None:
        super().__init__()
        self.coordinate, self.above = coordinate, above

    def forward(self, images: Tensor) -> Tensor:
        margin = (to_plane(images)[:, self.coordinate] - self.above) / 10
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def points(agreement: float = 1.0, count: int = 2000, seed: int = 0) -> Points:
    return sample(count, agreement, generator(seed, "tests", "toy"))


@pytest.mark.parametrize("agreement", [0.0, 0.5, 0.9, 1.0])
def test_points_are_distributed_as_described(agreement: float) -> None:
    found = points(agreement, count=20_000)
    x1, x2, y = found.plane[:, 0], found.plane[:, 1], found.labels
    assert float(((x1 > 5).long() == y).double().mean()) == pytest.approx(agreement, abs=0.02)
    for label in (0, 1):
        assert float(x2[y == label].mean()) == pytest.approx(20 * label, abs=0.05)
        assert float(x2[y == label].std()) == pytest.approx(1, abs=0.03)
    left = x1[x1 < 5]
    assert float(left.mean()) == pytest.approx(0, abs=0.08)
    assert float(left.std()) == pytest.approx(PERP_STD, abs=0.06)


def test_two_agreements_differ_in_nothing_but_the_label_free_coordinate() -> None:
    told, silent = points(1.0), points(0.5)
    assert torch.equal(told.labels, silent.labels)
    assert torch.equal(told.plane[:, 1], silent.plane[:, 1])
    moved = (told.plane[:, 0] - silent.plane[:, 0]).abs()
    assert set(moved.round().tolist()) == {0.0, 10.0}


def test_a_shift_of_ten_reverses_what_the_label_free_coordinate_says() -> None:
    told = points(1.0)
    assert torch.allclose(told.shifted(10).plane, points(0.0).plane, atol=1e-5)
    assert torch.equal(told.shifted(10).labels, told.labels)


def test_the_decoder_inverts_the_encoder() -> None:
    plane = points().plane
    images = to_images(plane)
    assert images.shape == (2000, 2, 1, 1)
    assert torch.allclose(to_plane(images), plane, atol=1e-4)
    assert torch.allclose(PlaneDecoder()(encode(images)), images, atol=1e-6)


def test_randmix_swaps_x1_and_keeps_x2() -> None:
    told = points(count=100)
    pool, own = encode(to_images(told.plane)), torch.arange(100)
    mix = mixers(SEARCH)["randmix"](None, pool, told.labels, pool, rng=generator(0, "tests"), exclude=own)
    expected = torch.stack([told.plane[mix.donors, 0], told.plane[:, 1]], dim=1)
    assert torch.allclose(to_plane(mix.images), expected, atol=1e-4)
    assert not bool((mix.donors == own).any())


def test_advmix_goes_as_far_as_its_box_against_a_classifier_that_reads_x1() -> None:
    """The exact answer: with one restart, the donor's x1 moved against the label by the box's half-width."""
    told = points(count=100)
    pool = encode(to_images(told.plane))
    mix = mixers(SEARCH)["advmix"](
        Threshold(0, 5.0), pool, told.labels, pool, rng=generator(0, "tests"), exclude=torch.arange(100)
    )
    assert SEARCH.radius is not None
    reach = min(SEARCH.radius, SEARCH.steps * SEARCH.step_size) * float(told.plane[:, 0].std(correction=0))
    expected = told.plane[mix.donors, 0] + reach * (1 - 2 * told.labels)
    assert torch.allclose(to_plane(mix.images)[:, 0], expected, atol=1e-3)
    assert torch.allclose(to_plane(mix.images)[:, 1], told.plane[:, 1], atol=1e-4)


def test_the_worst_over_the_pool_is_the_loop_over_it() -> None:
    network = fit(ToyConfig(train_steps=30), "mlp", "nominal", points(count=60), 0)
    pool, tested = points(count=20, seed=1), points(count=50, seed=2)
    right = []
    for point, label in zip(tested.plane, tested.labels, strict=True):
        tries = [torch.stack([x1, point[1]]) for x1 in pool.plane[:, 0]]
        with torch.no_grad():
            answers = [int(network(to_images(one[None])).argmax()) for one in tries]
        right.append(all(answer == int(label) for answer in answers))
    assert 0 < sum(right) < len(right)
    assert worst_over_pool(network, tested, pool) == pytest.approx(sum(right) / len(right))


def test_who_reads_x2_minds_nothing_and_who_reads_x1_minds_all() -> None:
    told, pool = points(), points(count=50, seed=1)
    assert accuracy(Threshold(1, 10.0), told.shifted(10)) == worst_over_pool(Threshold(1, 10.0), told, pool) == 1
    assert accuracy(Threshold(0, 5.0), told) > 0.99
    assert accuracy(Threshold(0, 5.0), told.shifted(10)) < 0.01
    assert worst_over_pool(Threshold(0, 5.0), told, pool) == 0


@pytest.mark.parametrize(("scaling", "across"), [("each", 0.5), ("common", 1.0)])
def test_scaling_keeps_or_undoes_the_shape_of_the_plane(scaling: str, across: float) -> None:
    """What the classifier's network sees of one unit of x1, against one of x2; x2 varies about twice as much as x1."""
    told = points()
    network = make_network("mlp", told, 0, scaling)
    seen: list[Tensor] = []
    network.network.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].flatten(1)))
    network(to_images(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])))
    step = seen[0] - seen[0][0]
    assert float(step[2, 1] / step[1, 0]) == pytest.approx(across, rel=0.1)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("toy") / "run"
    assert main(["study", "toy", *SMALL, "--seeds", "0", "1", "--out", str(out)]) == 0
    return out


def runs_of(out: Path) -> list[dict[str, Any]]:
    runs = json.loads((out / "results.json").read_text())["runs"]
    return [{key: value for key, value in run.items() if key != "train_seconds"} for run in runs]


def test_the_study_writes_every_run_and_figure(study: Path) -> None:
    runs = runs_of(study)
    assert len(runs) == 2 * 2 * 4 * 2
    assert {path.stem for path in (study / "figures").iterdir()} == {"samples", "boundaries", "shift"}
    for run in runs:
        assert run["accuracy_shifted"][0] == run["accuracy_biased"]
        if run["agreement"] == 0.5:
            assert run["accuracy_reversed"] == run["accuracy_unbiased"]


def test_mixing_saves_the_network_where_nominal_training_leans_on_x1(study: Path) -> None:
    def worst(method: str) -> float:
        rows = [run for run in runs_of(study) if (run["model"], run["agreement"]) == ("mlp", 1.0)]
        return min(float(run["accuracy_worst_pool"]) for run in rows if run["method"] == method)

    assert worst("nominal") < 0.9
    assert worst("advmix") > 0.99


def test_the_same_command_again_gives_the_same_numbers(study: Path, tmp_path: Path) -> None:
    before = [run for run in runs_of(study) if (run["seed"], run["model"], run["agreement"]) == (1, "mlp", 1.0)]
    out = tmp_path / "one"
    one = [*SMALL, "--seeds", "1", "--models", "mlp", "--agreement", "1.0"]
    assert main(["study", "toy", *one, "--out", str(out)]) == 0
    assert runs_of(out) == before
    assert main(["study", "toy", "--config", str(out / "results.json"), "--out", str(out)]) == 0
    assert runs_of(out) == before


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--agreement", "1.5"], "--agreement 1.5"),
        (["--models", "forest"], "--models forest"),
        (["--scaling", "none"], "--scaling none"),
        (["--seeds", "1", "1"], "--seeds 1 1"),
        (["--points", "1"], "--points 1"),
        (["--clean-weight", "2"], "--clean-weight 2"),
        (["--perp", "3"], "--perp 3"),
        (["--lr", "1e30"], "--lr 1e+30"),
    ],
)
def test_bad_input_is_one_line(
    flags: list[str], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["study", "toy", *flags, "--out", str(tmp_path / "bad")]) == 2
    assert named in capsys.readouterr().err


def test_steps_are_scaled_by_the_spread_of_x1_alone() -> None:
    """Twice the plane's z⊥ spread, twice the reach: the unit of length is the pool's own."""
    narrow = points(count=100)
    wide = Points(narrow.plane * torch.tensor([2.0, 1.0]), narrow.labels)
    moved = []
    for found in (narrow, wide):
        pool = encode(to_images(found.plane))
        search = mixers(SearchOptions(perp=(1,), steps=1, step_size=0.3, radius=None))["advmix"]
        mix = search(Threshold(0, 5.0), pool, found.labels, pool, rng=generator(0, "tests"))
        moved.append((to_plane(mix.images)[:, 0] - found.plane[mix.donors, 0]).abs())
    assert torch.allclose(2 * moved[0], moved[1], atol=1e-3)
