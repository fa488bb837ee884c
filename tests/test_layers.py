from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import trained
from advmix.classifiers.networks import load_classifier
from advmix.generators.base import Generator, State
from advmix.generators.style import StyleConfig
from advmix.inspect.scores import IDLE, LayerScores, dimension_scores, layer_scores, other_label, propose_split, verdict
from advmix.intervals import wilson
from advmix.latents import (
    Latents,
    Split,
    complement_split,
    join_splits,
    neighbour_splits,
    single_splits,
    split_name,
    split_parts,
)
from advmix.pools import data_of, load
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from tiny import SPATIAL, VECTOR, make_classifier, make_generator, make_latents, no_gradients

COLOR_LAYERS = Split.fine(layers=6, count=2)


class FourPixels(Generator):
    """Four layers of one number each; layer k is pixel k, of its own brightness."""

    resolution, channels, layers = 2, 1, 4

    def __init__(self, strength: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> None:
        super().__init__()
        self.strength = torch.tensor(strength, dtype=torch.float32)

    def prefix(self, latents: Latents, split: Split) -> State:
        return State(latents.styles, latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        styles = state.split.with_perp(state.latents, perp).styles[..., 0]
        return (self.strength * styles).view(-1, 1, 2, 2)


class Weighted(nn.Module):
    """Class 1 where the weighted sum of the four pixels, each in [-1, 1], is positive; class 2 where it is near 0."""

    def __init__(self, weights: Sequence[float], unclear: float = 0.0) -> None:
        super().__init__()
        self.weights, self.unclear = torch.tensor(weights, dtype=torch.float32), unclear

    def forward(self, images: Tensor) -> Tensor:
        score = (2 * images.flatten(1) - 1) @ self.weights
        return torch.stack([-score, score, torch.full_like(score, self.unclear)], dim=1)


def signs(count: int = 40) -> tuple[Latents, Tensor, Latents, Tensor]:
    """Images all of whose pixels show the label, 0 or 1, in half strength, and donors with the other label."""
    labels = torch.arange(count) % 2
    styles = (2 * labels - 1).float()[:, None, None].expand(-1, 4, 1) / 2
    return Latents(styles), labels, Latents(-styles), 1 - labels


def found(weights: Sequence[float], unclear: float = 0.0, strength: Sequence[float] = (1, 1, 1, 1)) -> LayerScores:
    latents, labels, donors, donor_labels = signs()
    return layer_scores(FourPixels(strength), Weighted(weights, unclear), latents, labels, donors, donor_labels)


def test_a_label_written_twice_shows_in_the_joint_swap_alone() -> None:
    scores = found((0.5, 0.6, 0, 0))
    first, second, both = Split(4, (0,)), Split(4, (1,)), Split(4, (0, 1))
    assert scores.of(first).label_changes.value == 0
    assert scores.of(second).label_changes.value == 1
    assert scores.of(both).takes_donor.value == 1
    assert scores.of(both).image_share == pytest.approx(0.5)
    assert scores.of(both).image_change == pytest.approx(0.25)  # two of four pixels, each from 0.25 to 0.75
    assert scores.of(scores.everything).image_share == 1


def test_another_answer_than_both_labels_is_a_change_but_not_the_donors() -> None:
    scores = found((1, 1, 0, 0), unclear=0.1)
    assert scores.of(Split(4, (0,))).label_changes.value == 1
    assert scores.of(Split(4, (0,))).takes_donor.value == 0


def test_proposal_is_the_largest_swap_that_keeps_the_label() -> None:
    proposal = propose_split(found((1, 1, 0, 0), unclear=0.1))
    assert proposal.split == Split(4, (2, 3))
    assert (proposal.sure, proposal.agreement, proposal.others) == ("fairly sure", 1.0, ())  # 40 pairs are few
    assert propose_split(found((1, 1, 0, 0), unclear=0.1), threshold=0.9).sure == "sure"
    assert propose_split(found((0, 0, 0, 1))).split == Split(4, (0, 1, 2))
    assert propose_split(found((1, 0, 0, 1), unclear=0.1)).split == Split(4, (1, 2))


def test_no_proposal_where_every_layer_carries_the_label() -> None:
    scores = found((1, 1, 1, 1), unclear=1.5)
    proposal = propose_split(scores)
    assert proposal.split is None
    assert proposal.next_larger is None
    assert proposal.sure == "sure"
    assert verdict(scores, proposal, scores.units[0]) == "z∥"


def test_idle_layers_are_named_and_not_proposed() -> None:
    scores = found((1, 0, 0, 0), strength=(1, 1, 1, IDLE))
    proposal = propose_split(scores)
    assert scores.idle == (Split(4, (3,)),)
    assert proposal.split == Split(4, (1, 2))
    assert [verdict(scores, proposal, unit) for unit in scores.units] == ["z∥", "z⊥", "z⊥", "idle"]
    assert verdict(scores, proposal, Split(4, (2, 3))) == "z∥"


def test_layers_of_a_group_go_together() -> None:
    halves = [Split(4, (0, 1)), Split(4, (2, 3))]
    assert propose_split(found((1, 0, 0, 0)), groups=halves).split == Split(4, (2, 3))
    assert propose_split(found((0, 0, 1, 0)), groups=halves).split == Split(4, (0, 1))
    assert propose_split(found((1, 0, 0, 1), unclear=0.1), groups=halves).split is None
    still = found((1, 0, 0, 0), strength=(1, 1, 1, IDLE))
    assert propose_split(still, groups=halves).split == Split(4, (2, 3))
    assert propose_split(found((1, 0, 0, 0), strength=(1, 1, IDLE, IDLE)), groups=halves).split is None


def test_only_pairs_with_a_right_reconstruction_count_for_labels() -> None:
    latents, labels, donors, donor_labels = signs()
    mislabelled = labels.clone()
    mislabelled[:10] = 1 - mislabelled[:10]
    scores = layer_scores(FourPixels(), Weighted((1, 0, 0, 0)), latents, mislabelled, donors, donor_labels)
    assert int(scores.right.sum()) == 30
    assert scores.of(Split(4, (0,))).label_changes == wilson(30, 30)
    assert scores.of(Split(4, (1,))).label_changes == wilson(0, 30)


def test_what_cannot_be_measured_is_refused() -> None:
    latents, labels, donors, donor_labels = signs()
    with pytest.raises(UserError, match="wrong on all 40 reconstructions"):
        layer_scores(FourPixels(), Weighted((-1, 0, 0, 0)), latents, labels, donors, donor_labels)
    with pytest.raises(UserError, match="changes no image"):
        layer_scores(FourPixels((0, 0, 0, 0)), Weighted((0, 0, 0, 0), 0), latents, labels * 0, donors, donor_labels)


@pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "grid"])
def test_scores_equal_the_literal_swaps(config: StyleConfig) -> None:
    decoder, network = make_generator(config), make_classifier()
    own, theirs = make_latents(config, 7), make_latents(config, 7, seed=1)
    network.eval()
    labels = network(decoder(own)).argmax(dim=1)
    labels[0] = (labels[0] + 1) % 3
    network.train()
    scores = layer_scores(decoder, network, own, labels, theirs, (labels + 1) % 3)
    assert network.training
    assert no_gradients(decoder, network)
    assert scores.right.tolist() == [False] + [True] * 6
    assert len(scores.splits) == len(scores.units) * (len(scores.units) + 1) / 2
    network.eval()
    for row, split in enumerate(scores.splits):
        for index in range(7):
            image = decoder(literal_swap(own, theirs, split, index)).detach()
            plain = decoder(own[index : index + 1]).detach()
            assert float(scores.change[row, index]) == pytest.approx(float((image - plain).abs().mean()), rel=1e-9)
            assert int(scores.answers[row, index]) == int(network(image).argmax())


def literal_swap(own: Latents, theirs: Latents, split: Split, index: int) -> Latents:
    """One image, layer by layer."""
    styles = own.styles[index : index + 1].clone()
    for layer in split.perp:
        styles[0, layer] = theirs.styles[index, layer]
    source = theirs if split.grid else own
    return Latents(styles, None if source.grid is None else source.grid[index : index + 1])


@torch.no_grad()
def test_dimensions_equal_the_literal_swaps() -> None:
    decoder, network = make_generator(VECTOR), make_classifier().eval()
    own, theirs = make_latents(VECTOR, 5), make_latents(VECTOR, 5, seed=1)
    plain = network(decoder(own)).softmax(dim=1)
    labels = plain.argmax(dim=1)
    labels[2] = (labels[2] + 1) % 3
    scores = dimension_scores(decoder, network, own, labels, theirs)
    for layer in range(VECTOR.layers):
        for number in range(VECTOR.style_dim):
            styles = own.styles.clone()
            styles[:, layer, number] = theirs.styles[:, layer, number]
            images = decoder(Latents(styles))
            after = network(images).softmax(dim=1)
            changed = [int(after[row].argmax()) != int(labels[row]) for row in (0, 1, 3, 4)]
            moved = [abs(float(after[row, label] - plain[row, label])) for row, label in enumerate(labels.tolist())]
            found = (scores.change, scores.label_changes, scores.probability_change)
            expected = (float((images - decoder(own)).abs().mean()), sum(changed) / 4, sum(moved) / 5)
            for table, value in zip(found, expected, strict=True):
                assert float(table[layer, number]) == pytest.approx(value, rel=1e-6, abs=1e-12)


def random_scores(seed: int, count: int = 60) -> LayerScores:
    """Three layers; swaps keep about 90 to 100 % of the labels, so that resamples disagree."""
    rng = seeded(seed, "tests", "scores")
    splits = neighbour_splits(3, grid=False)
    keep = 0.88 + 0.12 * torch.rand(len(splits), 1, generator=rng)
    labels = torch.randint(4, (count,), generator=rng)
    lost = torch.rand(len(splits), count, generator=rng) > keep
    return LayerScores(
        splits,
        change=torch.rand(len(splits), 1, generator=rng).double() + torch.rand(len(splits), count, generator=rng) / 10,
        answers=torch.where(lost, (labels + 1) % 4, labels),
        labels=labels,
        donor_labels=(labels + 1) % 4,
        right=torch.rand(count, generator=rng) > 0.1,
    )


@pytest.mark.parametrize("seed", range(5))
def test_proposal_equals_the_literal_bootstrap(seed: int) -> None:
    scores = random_scores(seed)
    proposal = propose_split(scores, threshold=0.93, resamples=30, rng=seeded(seed))
    draws = torch.randint(60, (30, 60), generator=seeded(seed))
    votes = [literal_choice(scores, draw.tolist(), 0.93) for draw in draws]
    assert proposal.split == literal_choice(scores, list(range(60)), 0.93)
    assert proposal.agreement == votes.count(proposal.split) / 30
    assert dict(proposal.others) == {split: votes.count(split) / 30 for split in votes if split != proposal.split}
    supports = [sum(vote is not None and layer in vote.perp for vote in votes) / 30 for layer in range(3)]
    assert list(proposal.support) == supports
    assert sorted((share for _, share in proposal.others), reverse=True) == [share for _, share in proposal.others]


def literal_choice(scores: LayerScores, rows: list[int], threshold: float) -> Split | None:
    best: tuple[float, Split | None] = (-1.0, None)
    for index, split in enumerate(scores.splits):
        counted = [row for row in rows if scores.right[row]]
        kept = sum(int(scores.answers[index, row]) == int(scores.labels[row]) for row in counted) / len(counted)
        change = sum(float(scores.change[index, row]) for row in rows) / len(rows)
        if split != scores.everything and kept >= threshold and change > best[0]:
            best = (change, split)
    return best[1]


@pytest.mark.parametrize("seed", range(5))
def test_next_larger_is_the_larger_swap_that_keeps_most(seed: int) -> None:
    scores = random_scores(seed)
    proposal = propose_split(scores, threshold=0.93)
    assert proposal.split is not None
    most = scores.of(proposal.split).image_change
    larger = [scores.of(split) for split in scores.splits if split != scores.everything]
    rates = [other.label_changes.value for other in larger if other.image_change > most]
    if proposal.next_larger is None:
        assert not rates
    else:
        assert scores.of(proposal.next_larger).image_change > most
        assert scores.of(proposal.next_larger).label_changes.value == min(rates)


def test_units_coarse_to_fine() -> None:
    grid = single_splits(2, grid=True)
    assert [split_name(unit) for unit in grid] == ["grid", "0", "1"]
    assert join_splits(grid) == Split(2, (0, 1), grid=True)
    assert split_parts(join_splits(grid)) == grid
    assert neighbour_splits(2, grid=True) == (
        Split(2, (), grid=True),
        Split(2, (0,), grid=True),
        Split(2, (0, 1), grid=True),
        Split(2, (0,)),
        Split(2, (0, 1)),
        Split(2, (1,)),
    )
    assert complement_split(Split(3, (1,)), grid=True) == Split(3, (0, 2), grid=True)
    assert complement_split(Split(3, (1,)), grid=False) == Split(3, (0, 2))
    assert complement_split(Split(2, (0, 1)), grid=False) is None


def test_donors_have_another_label_and_all_of_them_come_up() -> None:
    pool = torch.tensor([2, 0, 1, 1, 0, 2, 2, 3])
    labels = torch.tensor([2, 0, 3]).repeat_interleave(4000)
    rows = other_label(labels, pool, seeded(0))
    assert bool((pool[rows] != labels).all())
    for label, others in ((2, [1, 2, 3, 4, 7]), (0, [0, 2, 3, 5, 6, 7]), (3, [0, 1, 2, 3, 4, 5, 6])):
        counts = rows[labels == label].bincount(minlength=8)
        assert counts.nonzero()[:, 0].tolist() == others
        expected = 4000 / len(others)
        assert float((counts[others] - expected).abs().max()) < 5 * expected**0.5
    assert torch.equal(rows, other_label(labels, pool, seeded(0)))
    with pytest.raises(UserError, match="one label"):
        other_label(labels[:3], torch.full((9,), 2), seeded(0))


def test_wilson_interval() -> None:
    share = wilson(8, 10)
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.4901625, 0.9433178), abs=1e-6)
    assert (share.rest.value, share.rest.low, share.rest.high) == pytest.approx((0.2, 0.0566822, 0.5098375), abs=1e-6)
    assert wilson(0, 50).low == 0
    assert wilson(50, 50).high == pytest.approx(1)
    assert wilson(50, 50).low == pytest.approx(0.928652, abs=1e-6)


RESOLUTIONS = tuple(Split(6, (layer, layer + 1)) for layer in (0, 2, 4))
SWAPS = [
    *single_splits(6, grid=False),
    *(join_splits(RESOLUTIONS[first:last]) for first in range(3) for last in range(first + 1, 4)),
]


def scores_of(reference: Path) -> LayerScores:
    """On the first images; these are biased: digit and colour have the same labels."""
    generator, latents = Path(trained.good_mixing()[1]), Path(trained.good_mixing()[3])
    fitted = load(generator, latents)
    labels, pool = data_of(fitted.metadata, generator).train.labels, fitted.pool
    rows = other_label(labels[:150], labels, seeded(0, "donors"))
    network = load_classifier(reference)[0]
    return layer_scores(fitted.model.generator, network, pool[:150], labels[:150], pool[rows], labels[rows], SWAPS)


THRESHOLD = 0.85
"""After fewer and smaller steps than usual, a swap of colours costs some labels."""


def test_colour_layers_are_proposed_for_digits() -> None:
    scores = scores_of(trained.good_classifier("ceiling"))
    proposal = propose_split(scores, THRESHOLD, groups=RESOLUTIONS)
    assert proposal.split == COLOR_LAYERS
    assert proposal.agreement > 0.9
    assert scores.of(COLOR_LAYERS).image_share > 0.5
    assert scores.of(Split(6, (0, 1, 2, 3))).takes_donor.value > 0.8
    singles = [scores.of(Split(6, (layer,))).label_changes.value for layer in range(4)]
    assert max(singles) < 0.5  # the shape is written into several layers: alone, none of them is enough


def test_colour_layers_are_not_proposed_when_colour_is_the_label() -> None:
    scores = scores_of(trained.good_classifier("ceiling", *trained.BIASED, "--target", "color"))
    proposal = propose_split(scores, THRESHOLD, groups=RESOLUTIONS)
    assert proposal.split == Split(6, (0, 1, 2, 3))
    assert proposal.agreement > 0.9
    assert scores.of(COLOR_LAYERS).takes_donor.value > 0.8


def test_a_biased_reference_does_not_propose_the_colour_layers() -> None:
    scores = scores_of(trained.good_classifier("nominal"))
    assert scores.of(COLOR_LAYERS).label_changes.value > 0.5
    split = propose_split(scores, THRESHOLD, groups=RESOLUTIONS).split
    assert split is not None
    assert not {4, 5} & set(split.perp)
