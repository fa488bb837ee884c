"""How many rows are computed at once follows from one limit; what is found does not depend on it."""

from __future__ import annotations

from dataclasses import astuple
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from advmix.cli import main
from advmix.data.images import ImageSet
from advmix.latents import Split
from advmix.metrics import evaluate_batch, evaluate_latents, predict, unexplained
from advmix.mixing import AdvMix, RandMix, cross_entropy, draw_all_donors
from advmix.utils.errors import UserError
from advmix.utils.machine import MACHINE, read_bytes
from advmix.utils.memory import RowBudget, in_parts, set_memory
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import part_generator
from test_silent_gradients import Rounded, Unsure
from tiny import VECTOR, make_classifier, make_generator, make_latents

GENERATOR, SPLIT = make_generator(), Split.fine(6, 2)
LATENTS, POOL = make_latents(VECTOR, 11, seed=1), make_latents(VECTOR, 30, seed=2)
LABELS = torch.arange(11) % 3
SEARCH = AdvMix(GENERATOR, SPLIT, restarts=3, steps=2, stop_early=True)


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MACHINE, "memory", None)


class Counted:
    """Work that takes so many bytes a row, and knows how many rows it was given."""

    def __init__(self, bytes_per_row: int, more: int = 0) -> None:
        self.shape, self.more, self.seen = bytes_per_row // 4, more // 4, list[int]()

    def __call__(self, rows: slice) -> Tensor:
        count = rows.stop - rows.start
        self.seen.append(count)
        torch.zeros(count, self.shape), torch.zeros(self.more)
        return torch.arange(rows.start, rows.stop)


@pytest.mark.parametrize(("limit", "most"), [("1MB", 1), ("50MB", 9), ("10GB", 40)])
def test_rows_at_once_fit_into_the_limit(limit: str, most: int) -> None:
    set_memory(limit)
    work = Counted(4_000_000)
    found = in_parts(work, 40, "cpu")
    assert torch.cat(found).tolist() == list(range(40))
    assert most // 2 < max(map(len, found)) <= max(1, int(read_bytes(limit, "memory") / 4e6))


def test_what_only_the_first_row_costs_is_not_counted_for_each() -> None:
    """As of a network that fills its batches up: one row alone says next to nothing."""
    set_memory("20MB")
    work = Counted(100_000, more=4_000_000)
    assert 10 < max(map(len, in_parts(work, 200, "cpu"))) < 200


def test_a_row_is_measured_once_and_only_where_there_are_more() -> None:
    work, budget = Counted(1000), RowBudget()
    budget.parts(work, 1, "cpu")
    assert work.seen == [1]
    for _ in range(2):
        budget.parts(work, 10, "cpu")
    assert work.seen == [1, 2, 10, 10]


def test_work_within_work_is_not_measured_twice() -> None:
    inner = Counted(1000)
    in_parts(lambda rows: in_parts(inner, 5, "cpu"), 3, "cpu")
    assert inner.seen == [5, 2, 5]


def test_gradients_count_too() -> None:
    network, images = nn.Sequential(*[nn.Conv2d(3, 3, 3, padding=1) for _ in range(8)]), torch.rand(64, 3, 32, 32)
    seen: dict[bool, list[int]] = {True: [], False: []}

    def work(climb: bool, rows: slice) -> Tensor:
        seen[climb].append(rows.stop - rows.start)
        with torch.set_grad_enabled(climb):
            found: Tensor = network(images[rows]).sum(dim=(1, 2, 3))
            return found.detach()

    set_memory("1MB")
    for climb in (True, False):
        in_parts(partial(work, climb), 64, "cpu")
    assert max(seen[True]) < 0.75 * max(seen[False])


class Doubled(nn.Module):
    """To float64, as the networks of the tests are."""

    def forward(self, images: Tensor) -> Tensor:
        return images.double()


@pytest.mark.parametrize("network", [make_classifier(), Rounded(make_classifier()), Unsure(make_classifier(), 0.5)])
@pytest.mark.parametrize("limit", [1, 10**6])
def test_what_a_search_finds_does_not_depend_on_how_much_is_searched_at_once(
    network: nn.Module, limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no gradient says which way is up, and other donors take the place of steps."""
    network.eval()
    whole = evaluate_batch(network, SEARCH, LATENTS, LABELS, POOL, seed=4, start=0, loss=cross_entropy)
    monkeypatch.setattr(MACHINE, "memory", limit)
    parts = evaluate_batch(network, SEARCH, LATENTS, LABELS, POOL, seed=4, start=0, loss=cross_entropy)
    assert all(map(torch.equal, astuple(parts[0]), astuple(whole[0])))
    for some, all_at_once in zip(parts[1:], whole[1:], strict=True):
        assert torch.equal(some.donors, all_at_once.donors)
        torch.testing.assert_close(some.images, all_at_once.images)
        torch.testing.assert_close(some.losses, all_at_once.losses)
        assert some.flips is not None
        assert all_at_once.flips is not None
        assert torch.equal(some.flips.there, all_at_once.flips.there)
        torch.testing.assert_close(some.flips.perp[some.flips.there], all_at_once.flips.perp[some.flips.there])


def test_a_search_with_drawn_donors_is_the_one_that_draws_them() -> None:
    network = make_classifier().eval()
    own = torch.arange(11)
    drawn = draw_all_donors(SEARCH.search, 11, 30, own, seeded(7))
    assert drawn.shape == (3, 3, 11)
    assert not (drawn == own).any()
    given = SEARCH(network, LATENTS, LABELS, POOL, donors=drawn)
    itself = SEARCH(network, LATENTS, LABELS, POOL, rng=seeded(7), exclude=own)
    assert torch.equal(given.images, itself.images)
    mixer = RandMix(GENERATOR, SPLIT)
    drawn = draw_all_donors(mixer.search, 11, 30, own, seeded(8))
    itself = mixer(None, LATENTS, LABELS, POOL, rng=seeded(8), exclude=own)
    assert torch.equal(mixer(None, LATENTS, LABELS, POOL, donors=drawn).donors, itself.donors)


@pytest.mark.parametrize("own", [slice(0, 4), slice(4, 11)])
def test_of_several_processes_each_one_draws_its_own_part(own: slice) -> None:
    whole = draw_all_donors(SEARCH.search, 11, 30, torch.arange(11), seeded(7, "train"))
    rng = part_generator(7, "train", count=11, own=own)
    part = draw_all_donors(SEARCH.search, own.stop - own.start, 30, torch.arange(11)[own], rng)
    assert torch.equal(part, whole[..., own])


def test_all_that_is_measured_of_images_is_the_same_with_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = make_classifier().eval()
    pixels = torch.randint(256, (11, 3, 8, 8), generator=seeded(1)).to(torch.uint8)
    images = ImageSet(pixels, LABELS, ("a", "b", "c"))

    def measure() -> list[Tensor]:
        missed = unexplained(GENERATOR, LATENTS, images)
        evaluation = evaluate_latents(network, SEARCH, LATENTS, LABELS, POOL, seed=3)
        seen = predict(nn.Sequential(Doubled(), network), images, torch.device("cpu"))
        return [seen, torch.tensor(missed), *astuple(evaluation)]

    whole = measure()
    monkeypatch.setattr(MACHINE, "memory", 1)
    for few, all_at_once in zip(measure(), whole, strict=True):
        torch.testing.assert_close(few, all_at_once)


@pytest.mark.parametrize("wrong", ["2 apples", "-1GB", "0", "1KB", "GB", "1e9", "nan", "9" * 30 + "TB"])
def test_what_is_no_size_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--classifier", "x", "--memory", wrong]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"advmix: --memory {wrong}: must be a number of bytes from 1MB")
    assert line.count("\n") == 1


@pytest.mark.parametrize(("text", "number"), [("2GB", 2 * 10**9), ("1.5 gb", 15 * 10**8), ("500MB", 5 * 10**8)])
def test_sizes_are_read_as_they_are_written(text: str, number: int) -> None:
    assert read_bytes(text, "memory") == number


def test_memory_must_have_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "--memory"]) == 2
    assert "--memory: no value follows" in capsys.readouterr().err
    with pytest.raises(UserError):
        set_memory("much")
