"""Training and test images where the data have no split of their own."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import torch

from advmix.seeds import generator


def hold_out(labels: Sequence[int], units: Sequence[str], share: float, seed: int) -> set[int]:
    """Places of the images that are held out: `share` of every class, as nearly as whole units allow.

    Give all of them one label where the share need not hold for every class.

    A unit is what stays together: the images of one person, or a single image. It counts to the class that most of its
    images have. Every class keeps at least one unit for training. What is chosen follows from the seed and the units'
    names, not from their order.

    Args:
        labels: `(N,)` class indices.
        units: `(N,)` names.
        share: in [0, 1).
        seed: fixes the choice.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, unit in enumerate(units):
        members[unit].append(place)
    by_class: dict[int, list[str]] = defaultdict(list)
    for unit in sorted(members):
        by_class[_most_common(labels[place] for place in members[unit])].append(unit)
    held: set[int] = set()
    for index, of_class in by_class.items():
        wanted = share * sum(len(members[unit]) for unit in of_class)
        taken = 0
        for place in torch.randperm(len(of_class), generator=generator(seed, "photos", "holdout", index))[1:]:
            images = members[of_class[place]]
            if taken + len(images) / 2 <= wanted:
                held.update(images)
                taken += len(images)
    return held


def _most_common(labels: Iterable[int]) -> int:
    counts = Counter(labels)
    return max(sorted(counts), key=lambda label: counts[label])
