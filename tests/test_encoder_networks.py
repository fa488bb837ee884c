"""Several encoder networks may have been trained for one generator: what one of them encoded is not another's."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import advmix
from advmix.cli import main
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.encoders.store import LatentStore
from advmix.generators.style import NetworkConfig, StyleConfig
from advmix.generators.stylegan import StyleGanConfig
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import global_seed

VECTOR = StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5))
MAPPED = StyleGanConfig(resolution=16, style_dim=4, widths=(6, 6, 5))


def save(folder: Path, config: NetworkConfig = VECTOR, encoder: int | None = 0) -> Path:
    """The generator of seed 0 with the encoder of another one, or none."""
    with global_seed(0):
        model = Autoencoder(config, with_encoder=False)
    if encoder is not None:
        with global_seed(encoder):
            model.encoder = Autoencoder(config).encoder
    save_autoencoder(make_folder(folder), model, {})
    return folder


def encode(generator: Path, out: Path, *more: str) -> int:
    own = ["--data", "digits", "--train-images", "64", "--shard-size", "32", "--device", "cpu"]
    return main(["encode", "--generator", str(generator), *own, "--out", str(out), *more])


def test_a_store_begun_with_another_network_is_not_gone_on_with(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, out = save(tmp_path / "a"), save(tmp_path / "b", encoder=1), tmp_path / "latents"
    assert load_autoencoder(first)[1]["fingerprint"] == load_autoencoder(second)[1]["fingerprint"]
    assert encode(first, out) == 0
    whole = LatentStore.open(out).latents.styles
    (out / "latents-00001.safetensors").unlink()
    (out / "seconds.json").unlink()
    assert encode(second, out, "--resume") == 2
    assert "this run began with another encoder network" in capsys.readouterr().err
    assert encode(first, out, "--resume") == 0
    assert torch.equal(LatentStore.open(out).latents.styles, whole)


def test_latents_go_with_the_network_that_made_them(tmp_path: Path) -> None:
    first, second, out = save(tmp_path / "a"), save(tmp_path / "b", encoder=1), tmp_path / "latents"
    assert encode(first, out) == 0
    parts = advmix.load(first, out)
    images = parts.data.train.batch(slice(None))[0]
    torch.testing.assert_close(parts.encoder(images).styles, parts.pool.styles)
    assert not torch.allclose(load_autoencoder(second)[0].encoder(images).styles, parts.pool.styles, atol=0.01)
    made, has = (load_autoencoder(folder)[0].network_fingerprint for folder in (first, second))
    with pytest.raises(
        UserError, match=f"made with encoder network {made}, but this generator has encoder network {has}"
    ):
        advmix.load(second, out)


def test_latents_of_a_generator_without_a_network_are_not_those_of_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare, later, out = save(tmp_path / "a", MAPPED, None), save(tmp_path / "b", MAPPED), tmp_path / "latents"
    assert encode(bare, out, "--encoder", "mean", "--optimize-steps", "1") == 0
    assert len(advmix.load(bare, out).pool) == 64
    train = ["train", "--method", "randmix", "--generator", str(later), "--latents", str(out)]
    assert main([*train, "--device", "cpu", "--out", str(tmp_path / "randmix")]) == 2
    assert "made with no encoder network" in capsys.readouterr().err
