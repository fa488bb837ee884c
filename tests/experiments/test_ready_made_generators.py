"""`python -m experiments ready-made`: its numbers, against counting one by one."""

from __future__ import annotations

from pathlib import Path

import torch

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import load_autoencoder
from advmix.utils.torch_tools import generator, global_seed
from experiments.photo_generator.domains import Kind
from experiments.photo_generator.ready_made import (
    NAMED_CHANGES,
    SITES,
    ReadyMadeConfig,
    found_table,
    numbers,
    search_images,
    trained_table,
)


def images(count: int, seed: int) -> ImageSet:
    rng = generator(seed, "ready-made tests")
    pixels = torch.randint(256, (count, 3, 16, 16), generator=rng).to(torch.uint8)
    return ImageSet(pixels, torch.arange(count) % 3, ("a", "b", "c"))


def test_shares_are_those_of_counting() -> None:
    config = ReadyMadeConfig(generators=("statistics",), restarts=2, steps=1)
    with global_seed(0):
        nominal, reference = (conv_net(3, widths=(8, 8)).eval() for _ in range(2))
    model, kind = load_autoencoder(Path("statistics"))[0], Kind(images(12, 0), images(9, 1))
    found = search_images(config, nominal, model, kind)
    row = numbers(found, nominal, reference, kind.judged)
    pixels, labels = kind.judged.batch(slice(None))
    with torch.no_grad():
        right = [int(nominal(image[None]).argmax()) == label for image, label in zip(pixels, labels, strict=True)]
        by_name = [
            any(int(nominal(change(image[None]).clamp(0, 1)).argmax()) != label for change in NAMED_CHANGES.values())
            for image, label in zip(pixels, labels, strict=True)
        ]
    flipped = [ok and not still for ok, still in zip(right, found.right.tolist(), strict=True)]
    assert row["accuracy_clean"] == sum(right) / 9
    assert row["flips"] == sum(flipped)
    assert row["accuracy_worst_case"] * 9 == sum(right) - sum(flipped)
    confirmed = [named for named, flip in zip(by_name, flipped, strict=True) if flip]
    assert row["confirmed"] == (sum(confirmed) / len(confirmed) if confirmed else None)
    assert found_table([{"kind": "noise", "generator": "statistics", **row}]).row_count == 1


def test_made_sites_change_every_image_and_stay_images() -> None:
    pixels = images(4, 2).batch(slice(None))[0]
    for change in (*SITES.values(), *NAMED_CHANGES.values()):
        changed = change(pixels).clamp(0, 1)
        assert changed.shape == pixels.shape
        assert float((changed - pixels).abs().mean()) > 0.01
    row = {"kind": "noise", "method": "nominal", "seed": 0, "home": 0.5, "sites": dict.fromkeys(SITES, 0.25)}
    assert trained_table([row]).row_count == 1
