from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from advmix.encoders.autoencoder import FILE, Autoencoder, fingerprint, load_autoencoder, save_autoencoder
from advmix.encoders.network import StyleEncoder
from advmix.generators.style import StyleConfig
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors
from advmix.utils.torch_tools import global_seed
from tiny import SPATIAL, VECTOR, assert_same_state

CONFIGS = pytest.mark.parametrize("config", [VECTOR, SPATIAL], ids=["vector", "spatial"])


def make(config: StyleConfig = VECTOR, seed: int = 0) -> Autoencoder:
    with global_seed(seed):
        return Autoencoder(config)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_autoencoder(tmp_path, make(), {"made": "by a test"})
    return tmp_path


@CONFIGS
def test_encoder_makes_what_the_generator_takes(config: StyleConfig) -> None:
    latents = StyleEncoder(config)(torch.rand(3, 3, 8, 8))
    assert latents.styles.shape == (3, config.layers, 4)
    assert (None if latents.grid is None else latents.grid.shape[1:]) == config.grid_shape
    assert make(config).generator(latents).shape == (3, 3, 8, 8)


@pytest.mark.parametrize("resolution", [16, 32, 64])
def test_grid_has_the_generators_size_at_every_resolution(resolution: int) -> None:
    widths = {16: (4, 4), 32: (4, 4, 4), 64: (4, 4, 4, 4)}[resolution]
    config = StyleConfig(resolution=resolution, style_dim=4, widths=widths, start=8, grid_channels=3)
    latents = StyleEncoder(config)(torch.rand(2, 3, resolution, resolution))
    assert latents.grid is not None
    assert latents.grid.shape == (2, 3, 8, 8)


def test_encoder_takes_images_from_zero_to_one() -> None:
    encoder, images = StyleEncoder(VECTOR), torch.rand(2, 3, 8, 8)
    assert torch.equal(encoder(images).styles, encoder.encode_signed(images * 2 - 1).styles)


def test_grid_does_not_see_the_contrast() -> None:
    encoder, signed = StyleEncoder(SPATIAL).double(), torch.rand(2, 3, 8, 8, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        grid, faint = encoder.encode_signed(signed).grid, encoder.encode_signed(signed / 2).grid
    assert grid is not None
    torch.testing.assert_close(faint, grid, rtol=0, atol=0.02)
    torch.testing.assert_close(grid.mean(dim=(2, 3)), torch.zeros(2, 8, dtype=torch.float64))


@CONFIGS
def test_noise_follows_from_its_seed(config: StyleConfig) -> None:
    model, signed = make(config), torch.rand(2, 3, 8, 8) * 2 - 1
    with torch.no_grad():
        plain, again, other = (model(signed, *model.draw_noise(signed, 0.5, seed))[0] for seed in (1, 1, 2))
        exact, size = model(signed)
        latents = model.encoder.encode_signed(signed)
        torch.testing.assert_close(exact, model.generator.decode_signed(latents))
    assert torch.equal(plain, again)
    assert not torch.equal(plain, other)
    squares = latents.styles.square().mean() + (0 if latents.grid is None else latents.grid.square().mean())
    torch.testing.assert_close(size, squares)


@CONFIGS
def test_what_is_saved_is_loaded(tmp_path: Path, config: StyleConfig) -> None:
    model = make(config)
    save_autoencoder(tmp_path, model, {"made": "by a test"})
    loaded, metadata = load_autoencoder(tmp_path)
    assert loaded.config == config
    assert_same_state(loaded.state_dict(), model.state_dict())
    assert metadata["made"] == "by a test"
    assert metadata["fingerprint"] == fingerprint(model.generator, config)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


def test_fingerprint_changes_with_any_single_weight() -> None:
    model = make()
    seen = {fingerprint(model.generator, VECTOR)}
    for parameter in model.generator.parameters():
        with torch.no_grad():
            parameter[(-1,) * parameter.ndim] += 1e-3
        seen.add(fingerprint(model.generator, VECTOR))
    assert len(seen) == 1 + len(list(model.generator.parameters()))


def test_fingerprint_changes_with_the_config_and_with_nothing_else() -> None:
    generator = make().generator
    before = fingerprint(generator, VECTOR)
    assert fingerprint(generator, dataclasses.replace(VECTOR, style_dim=5)) != before
    generator.eval().requires_grad_(False).to(memory_format=torch.contiguous_format)
    assert fingerprint(generator, VECTOR) == before
    assert fingerprint(make().generator, VECTOR) == before


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"{FILE}: no such file"):
        load_autoencoder(tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 100, -1])
def test_damaged_file_is_refused(saved: Path, kept: int) -> None:
    path = saved / FILE
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(UserError, match=FILE):
        load_autoencoder(saved)


def test_foreign_file_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / FILE)
    with pytest.raises(UserError, match=rf"{FILE}: not a file of advmix"):
        load_autoencoder(tmp_path)


def test_file_of_another_kind_is_refused(saved: Path) -> None:
    write_tensors(saved / FILE, "classifier", *read_tensors(saved / FILE, "autoencoder"))
    with pytest.raises(UserError, match=r"advmix\.classifier.*advmix\.autoencoder is wanted"):
        load_autoencoder(saved)


def test_file_of_another_version_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = read_tensors(saved / FILE, "autoencoder")
    with monkeypatch.context() as other:
        other.setattr("advmix.utils.files.FORMAT_VERSION", "99")
        write_tensors(saved / FILE, "autoencoder", *content)
    with pytest.raises(UserError, match="version 99"):
        load_autoencoder(saved)


def test_weights_that_were_tampered_with_are_refused(saved: Path) -> None:
    tensors, metadata = read_tensors(saved / FILE, "autoencoder")
    tensors["generator.to_image.bias"][0] += 0.01
    write_tensors(saved / FILE, "autoencoder", tensors, metadata)
    with pytest.raises(UserError, match=rf"{FILE}: the weights do not match their fingerprint"):
        load_autoencoder(saved)


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    tensors, metadata = read_tensors(saved / FILE, "autoencoder")
    metadata["network"]["style_dim"] = 5
    write_tensors(saved / FILE, "autoencoder", tensors, metadata)
    with pytest.raises(UserError, match=rf"{FILE}: the weights do not fit"):
        load_autoencoder(saved)
