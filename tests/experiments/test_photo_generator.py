"""The generator in the wheel: its photographs, crops, training and pool, on two tiny pictures that are made here."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from advmix.encoders.autoencoder import load_autoencoder
from advmix.encoders.quantized import read_styles
from advmix.training.autoencode import FitOptions
from advmix.training.loop import Loop, Stepper
from advmix.utils.errors import UserError
from advmix.utils.program import Interrupted
from experiments.photo_generator.credits import LICENCES, notice
from experiments.photo_generator.crops import draw_crops, draw_images, recoloured, relit
from experiments.photo_generator.pictures import Picture, Pyramids, gather_pictures, listed_pictures
from experiments.photo_generator.study import POOL, PhotoGeneratorConfig, pool_images, train_photo

ROOT = Path(__file__).resolve().parents[2]


def made_picture(width: int, height: int, seed: int) -> Image.Image:
    """Blurred noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def pyramids() -> Pyramids:
    return Pyramids.of([made_picture(160, 120, 0), made_picture(96, 140, 1)])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_listed_photograph_is_free_named_once_and_in_the_notice() -> None:
    listed = listed_pictures()
    assert len({one.file for one in listed}) == len({one.sha256 for one in listed}) == len(listed) > 100
    assert {one.licence for one in listed} <= LICENCES.keys()
    assert all(all((one.author, one.version, one.source)) and len(one.sha256) == 64 for one in listed)
    assert (ROOT / "NOTICE").read_text() == notice(listed)


def test_pictures_are_gathered_only_as_they_are_listed(tmp_path: Path) -> None:
    place = tmp_path / "unpacked" / "somepackage" / "usr"
    place.mkdir(parents=True)
    made_picture(40, 40, 0).save(place / "a.png")
    digest = hashlib.sha256((place / "a.png").read_bytes()).hexdigest()
    listed = Picture("a.png", "usr/a.png", "somepackage", "1", "A", "CC0-1.0", digest, "copyright:1")
    gather_pictures(tmp_path / "unpacked", tmp_path / "out", [listed])
    assert len(Pyramids.read(tmp_path / "out", [listed])) == 1
    made_picture(40, 40, 1).save(place / "a.png")
    with pytest.raises(UserError, match=r"a\.png: not the photograph of somepackage 1"):
        gather_pictures(tmp_path / "unpacked", tmp_path / "out", [listed])
    with pytest.raises(UserError, match=r"b\.png: no such file; unpack somepackage 1"):
        gather_pictures(tmp_path / "unpacked", tmp_path / "out", [replace(listed, path="usr/b.png")])


def test_large_pictures_are_shrunk_and_every_level_is_half_the_one_before() -> None:
    (levels,) = Pyramids.of([made_picture(3200, 400, 0)]).levels
    assert [tuple(level.shape[1:]) for level in levels] == [(200, 1600), (100, 800), (50, 400)]


def test_crops_follow_from_the_seed_and_stay_in_range(pyramids: Pyramids) -> None:
    for draw in (draw_crops, draw_images):
        first, again, other = draw(pyramids, 6, 32, rng()), draw(pyramids, 6, 32, rng()), draw(pyramids, 6, 32, rng(1))
        assert first.shape == (6, 3, 32, 32)
        assert torch.equal(first, again)
        assert not torch.equal(first, other)
        assert first.min() >= 0
        assert first.max() <= 1


def test_crops_are_parts_of_the_pictures_at_all_scales() -> None:
    """On a ramp from left to right and another one downwards, a crop's slope is its scale and its mean its place."""
    down, right = np.mgrid[0:256, 0:256]
    ramps = np.stack([right, down, np.full((256, 256), 77)], axis=2).astype(np.uint8)
    crops = draw_crops(Pyramids.of([Image.fromarray(ramps)]), 200, 32, rng()) * 255
    slopes = (crops[:, 0, 16, 24] - crops[:, 0, 16, 8]) / 16
    assert torch.allclose(slopes.abs(), (crops[:, 1, 24, 16] - crops[:, 1, 8, 16]) / 16, atol=0.15)
    assert (crops[:, 2] - 77).abs().max() < 0.01
    scales = slopes.abs()
    assert scales.min() < 1.3
    assert 6 < scales.max() < 8.2
    assert 60 < (slopes < 0).sum() < 140  # mirrored


def test_a_picture_smaller_than_the_crop_is_enlarged() -> None:
    crops = draw_crops(Pyramids.of([made_picture(40, 48, 0)]), 3, 64, rng())
    assert crops.shape == (3, 3, 64, 64)


def test_another_light_keeps_grey_even_and_flat_images_flat() -> None:
    flat = torch.full((50, 3, 4, 4), 0.4)
    assert (relit(flat, rng()).flatten(2).std(dim=2) < 1e-6).all()
    ramp = torch.linspace(0, 1, 16).expand(50, 3, 4, 16)
    lit = relit(ramp, rng())
    assert (lit.diff(dim=3) >= -1e-6).all()  # light never turns dark into bright
    assert (recoloured(ramp, rng()).diff(dim=3) < -1e-3).flatten(1).any(dim=1).any()  # but some are inverted


SMALL = FitOptions(fit_steps=6, fit_batch=2, grid_channels=4)


def test_a_run_that_was_stopped_ends_in_the_same_weights(
    pyramids: Pyramids, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = PhotoGeneratorConfig(fit=SMALL, pool=5, out=tmp_path / "whole", device="cpu")
    train_photo(whole, pyramids)
    stopped = replace(whole, out=tmp_path / "stopped", checkpoint_seconds=0)
    monkeypatch.setattr(Loop, "_save", _stopping(Loop._save, 3))
    with pytest.raises(Interrupted):
        train_photo(stopped, pyramids)
    monkeypatch.undo()
    train_photo(stopped, pyramids)
    names = {path.name for path in whole.out.iterdir()} - {"config.json", "seconds.json"}
    assert {
        "generator.safetensors",
        "log.jsonl",
        "photo_pool.safetensors",
        "statistics_moments_pool.safetensors",
    } <= names
    for name in names:
        assert (whole.out / name).read_bytes() == (stopped.out / name).read_bytes()
    model, metadata = load_autoencoder(whole.out)
    assert metadata["pictures_fingerprint"] == pyramids.fingerprint
    images = next(pool_images(pyramids, 5))
    latents, made_with = read_styles(whole.out / POOL)
    wanted = model.encoder(images).styles
    assert made_with["generator"] == metadata["fingerprint"]
    span = wanted.amax(dim=0) - wanted.amin(dim=0)
    assert ((latents.styles - wanted).abs() <= span / 510 + 1e-6).all()
    assert F.mse_loss(images[0], images[1]) > 0


def _stopping(save: object, at: int) -> object:
    def stop(loop: Loop, trainee: Stepper, step: int) -> None:
        save(loop, trainee, step)  # type: ignore[operator]
        if step == at:
            raise Interrupted

    return stop


def test_sizes_that_the_network_cannot_draw_are_refused() -> None:
    with pytest.raises(UserError, match="--sizes 30: must be a multiple of 4, 16 or more"):
        PhotoGeneratorConfig(sizes=(64, 30))
