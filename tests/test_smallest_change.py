"""The smallest change that flips an answer, held against a walk in small steps, image by image."""

from __future__ import annotations

import torch
from torch import Tensor

from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Flips, Mix
from advmix.smallest_change import LEVELS, StyleScale, clipped_share, smallest_change
from advmix.utils.torch_tools import generator as seeded
from tiny import VECTOR, make_classifier, make_generator, make_latents

DEC, SPLIT, CLASSIFIER = make_generator(), Split.fine(6, 2), make_classifier().eval()
FINE = 16 * LEVELS


def searched(restarts: int = 3) -> tuple[Latents, Tensor, Mix]:
    latents, pool = make_latents(VECTOR, 24, seed=7), make_latents(VECTOR, 9, seed=5)
    with torch.no_grad():
        labels = CLASSIFIER(DEC(latents)).argmax(1)
    labels[::6] = (labels[::6] + 1) % 3
    search = AdvMix(DEC, SPLIT, restarts=restarts, steps=1, stop_early=True)
    mix = search(CLASSIFIER, latents, labels, pool, rng=seeded(3))
    return latents, labels, mix


def first_wrong(latents: Latents, label: int, own: Tensor, ends: list[Tensor]) -> float:
    """The first of ten levels at which some way is wrong, bisected as its 16 parts say: the least of all ways."""
    state = DEC.prefix(latents, SPLIT)

    def wrong(end: Tensor, part: int) -> bool:
        seen = CLASSIFIER(DEC.render(state, torch.lerp(own, end, part / FINE))).argmax()
        return int(seen) != label

    for level in range(LEVELS):
        found = []
        for end in ends:
            low, high = 16 * level, 16 * level + 16
            if wrong(end, high):
                while high - low > 1:
                    middle = (low + high) // 2
                    low, high = (low, middle) if wrong(end, middle) else (middle, high)
                found.append(high / FINE)
        if found:
            return min(found)
    return torch.inf


@torch.no_grad()
def test_it_is_that_of_walking_each_way_alone() -> None:
    latents, labels, mix = searched()
    assert mix.flips is not None
    assert mix.fooled is not None
    found = smallest_change(CLASSIFIER, DEC, SPLIT, latents, labels, mix.flips)
    own = SPLIT.perp_of(latents)
    kinds = set()
    for place, label in enumerate(labels.tolist()):
        one = torch.tensor([place])
        ends = [mix.flips.perp[run, one] for run in range(3) if mix.flips.there[run, place]]
        clean = int(CLASSIFIER(DEC(latents[one])).argmax()) == label
        wanted = first_wrong(latents[one], label, own[one], ends) if clean else 0.0
        assert abs(float(found.strength[place]) - wanted) < 1e-9 or float(found.strength[place]) == wanted
        assert bool(mix.fooled[place]) == (wanted < torch.inf) or not clean
        seen = int(CLASSIFIER(found.images[one]).argmax())
        assert (seen != label) == (wanted < torch.inf)
        drawn = DEC(SPLIT.with_perp(latents[one], found.perp[one]))
        assert torch.allclose(drawn, found.images[one])
        kinds.add("right" if wanted == torch.inf else "wrong before" if wanted == 0 else "flipped")
    assert kinds == {"right", "wrong before", "flipped"}


@torch.no_grad()
def test_more_ways_are_never_longer() -> None:
    latents, labels, mix = searched()
    assert mix.flips is not None
    every = smallest_change(CLASSIFIER, DEC, SPLIT, latents, labels, mix.flips).strength
    for run in range(3):
        one = Flips(mix.flips.perp[run : run + 1], mix.flips.there[run : run + 1])
        alone = smallest_change(CLASSIFIER, DEC, SPLIT, latents, labels, one).strength
        assert (torch.ceil(every * LEVELS) <= torch.ceil(alone * LEVELS)).all()


def test_the_scale_is_that_of_all_pairs() -> None:
    images = torch.randn(40, 3, generator=seeded(1), dtype=torch.float64)
    images[:, 2] = 4.0
    pool = torch.randn(30, 3, generator=seeded(2), dtype=torch.float64)
    pool[:, 2] = 4.0
    scale = StyleScale.of(images, pool)
    spread = images[:, :2].std(dim=0, correction=0)
    all_pairs = torch.pdist(images[:, :2] / spread)
    own, other = images[:5], images[5:10]
    size = ((own - other)[:, :2] / spread).norm(dim=1)
    wanted = (all_pairs[None] < size[:, None]).double().mean(dim=1)
    assert torch.allclose(scale.share_of_pairs(own, other), wanted, atol=0.02)
    assert scale.share_of_pairs(own, own).tolist() == [0] * 5
    apart = torch.cdist(pool[:, :2] / spread, pool[:, :2] / spread).fill_diagonal_(torch.inf).min(dim=1).values
    nearest = torch.cdist(other[:, :2] / spread, pool[:, :2] / spread).min(dim=1).values
    assert torch.allclose(scale.share_of_pool(other), (apart[None] < nearest[:, None]).double().mean(dim=1))
    assert float(scale.share_of_pool(other + 100).min()) == 1


def test_what_was_at_an_end_before_is_not_clipped() -> None:
    before = torch.tensor([0.0, 0.5, 0.5, 1.0]).view(1, 1, 2, 2)
    after = torch.tensor([0.0, 1.0, 0.4, 0.0]).view(1, 1, 2, 2)
    assert clipped_share(before, after).tolist() == [0.25]
