"""`python -m experiments learned-style`: its measures, on changes whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import advmix
from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet, to_bytes
from advmix.encoders.autoencoder import load_autoencoder
from advmix.utils.torch_tools import global_seed
from experiments.learned_style.figures import SHOWN, draw_reproductions
from experiments.learned_style.made_changes import FAMILIES, bright_part, gains
from experiments.learned_style.reproduction import explained, mixes, nearness
from experiments.learned_style.searching import search_row
from experiments.learned_style.study import mix_rows, mixes_table, reproduced_table, reproduction_rows, searched_table
from experiments.tables import learned_style


def pictures() -> Tensor:
    rng = torch.Generator().manual_seed(0)
    small = torch.rand(4, 3, 6, 6, generator=rng)
    return 0.2 + 0.6 * torch.nn.functional.interpolate(small, (32, 32), mode="bilinear")


def test_a_change_that_the_styles_hold_is_explained_and_another_one_is_not() -> None:
    model, images = load_autoencoder(Path("statistics"))[0], pictures()
    assert explained(model, images, gains(images, 0.8, 1.0, 1.1)) > 0.99
    mirrored = images.flip(-1)
    assert abs(explained(model, images, mirrored)) < 1e-3  # the same moments


def test_a_share_is_that_of_counting_pixel_by_pixel() -> None:
    model, images = load_autoencoder(Path("statistics"))[0], pictures()
    changed = FAMILIES["bright or dark part"]["darker background"](images)
    made = mixes(model, images, changed)
    missed = whole = 0.0
    for found, wanted, begun in zip(
        made.flatten().tolist(), changed.flatten().tolist(), images.flatten().tolist(), strict=True
    ):
        missed += (found - wanted) ** 2
        whole += (wanted - begun) ** 2
    assert explained(model, images, changed) == pytest.approx(1 - missed / whole, abs=1e-5)


def test_a_donor_is_near_to_itself() -> None:
    images = pictures()
    near, far = nearness(images, images, images), nearness(images, images.flip(0) * 0.5, images)
    assert near == pytest.approx({"means": 0, "deviations": 0, "colours": 0, "edges": 1}, abs=1e-6)
    assert far["means"] > 0.1
    assert far["deviations"] > 0.5
    assert far["colours"] > 0.1


def test_every_change_changes_images() -> None:
    images = pictures()
    for changes in FAMILIES.values():
        for change in changes.values():
            assert float((change(images).clamp(0, 1) - images).square().mean().sqrt()) > 0.01


def test_the_bright_part_is_about_half_of_an_image() -> None:
    mask = bright_part(pictures())
    assert mask.shape == (4, 1, 32, 32)
    assert 0.35 < float(mask.mean()) < 0.65


def test_rows_become_tables_and_a_figure(tmp_path: Path) -> None:
    models = {name: load_autoencoder(Path(name))[0] for name in ("statistics:moments", "photo:moments")}
    reproduced = [{"kind": "blots", **row} for row in reproduction_rows(models, pictures())]
    mixed = [{"kind": "blots", **row} for row in mix_rows(models, pictures())]
    assert reproduced_table(reproduced).row_count == sum(map(len, FAMILIES.values()))
    assert mixes_table(mixed).row_count == 3
    with global_seed(0):
        network = conv_net(2, widths=(8, 8)).eval()
    shown = ImageSet(to_bytes(pictures()), torch.tensor([0, 1, 0, 1]), ("a", "b"))
    searched = []
    for name, model in models.items():
        row = search_row(model, advmix.load(name, "photos").pool, network, shown, 2, 0)
        assert row["loss"] >= row["loss_start"]
        assert row["moved"] > 0
        searched.append({"kind": "blots", "generator": name, **row})
    assert searched[0]["moments"] > 0.9  # a search through moments moves moments, but for the floor and clipping
    assert searched_table(searched).row_count == 2
    config = {"images": 4, "size": 32, "steps": 2, "search_size": 32, "search_images": 4}
    rows = {"reproduced": reproduced, "mixes": mixed, "searched": searched}
    text = "\n".join(learned_style({"config": config, **rows}))
    for row in reproduced:
        assert f"| {100 * row['explained']['photo:moments']:.0f} |" in text
    draw_reproductions(models, pictures(), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    assert all(any(name in changes for changes in FAMILIES.values()) for name in SHOWN)
