"""The generator and the pool in the wheel: small, whole, made for each other, and good on smooth images."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

import advmix
from advmix.encoders.autoencoder import FILE, Autoencoder, load_autoencoder
from advmix.encoders.quantized import read_styles, write_styles
from advmix.latents import Latents
from advmix.utils.errors import UserError
from advmix.utils.files import write_tensors

FOLDER = Path(advmix.__file__).parent / "pretrained"
PHOTO, POOL = FOLDER / "photo.safetensors", FOLDER / "photo_pool.safetensors"


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Autoencoder, dict[str, object]]:
    folder = tmp_path_factory.mktemp("photo")
    shutil.copyfile(PHOTO, folder / FILE)
    return load_autoencoder(folder)


def waves(size: int, count: int = 8) -> Tensor:
    """Smooth coloured images `(count, 3, size, size)` in [-1, 1]: three waves in each channel."""
    rng = torch.Generator().manual_seed(0)
    down, right = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    x = torch.zeros(count, 3, size, size)
    for _ in range(3):
        across, along, phase = (6 * torch.randn(3, count, 3, 1, 1, generator=rng)).unbind()
        x = x + 0.3 * torch.sin(across * down + along * right + phase)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def test_generator_and_pool_are_small() -> None:
    assert PHOTO.stat().st_size < 2_000_000
    assert POOL.stat().st_size < 1_000_000


@pytest.mark.parametrize("size", [32, 64, 96])
def test_it_reconstructs_smooth_images_of_any_size(photo: tuple[Autoencoder, dict[str, object]], size: int) -> None:
    images = waves(size)
    with torch.no_grad():
        decoded = photo[0](images)[0].clamp(-1, 1)
    error, spread = (decoded - images).square().mean(), (images - images.mean(dim=(2, 3), keepdim=True)).square().mean()
    assert error < 0.1 * spread


def test_another_images_styles_change_it_and_not_its_grid(photo: tuple[Autoencoder, dict[str, object]]) -> None:
    model, images = photo[0], waves(64)
    darker = images * 0.4 - 0.5
    with torch.no_grad():
        grids = [model.encoder.encode_signed(x).grid for x in (images, darker)]
        bright, dark = (model.encoder.encode_signed(x) for x in (images, darker))
        mixed = model.generator.decode_signed(Latents(dark.styles, bright.grid))
    assert grids[0] is not None
    assert grids[1] is not None
    assert (grids[0] - grids[1]).square().mean() < 0.25 * grids[0].square().mean()  # colour and light do not pass
    assert (mixed - darker).square().mean() < 0.2 * (mixed - images).square().mean()


def test_the_pool_is_of_this_generator(photo: tuple[Autoencoder, dict[str, object]]) -> None:
    model, metadata = photo
    latents, made_with = read_styles(POOL)
    assert made_with["generator"] == metadata["fingerprint"]
    assert made_with["encoder_network"] == model.network_fingerprint
    assert made_with["pictures_fingerprint"] == metadata["pictures_fingerprint"]
    assert latents.styles.shape == (2000, model.generator.layers, model.config.style_dim)
    assert latents.styles.std(dim=0).min() > 0


def test_styles_are_kept_to_half_a_step(tmp_path: Path) -> None:
    styles = torch.randn(50, 2, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.01, 1, 100])
    styles[:, 1, 0] = 7  # the same everywhere
    write_styles(tmp_path / "styles.safetensors", styles, {"made": "here"})
    latents, metadata = read_styles(tmp_path / "styles.safetensors")
    assert metadata == {"made": "here"}
    for layer in range(2):
        for place in range(3):
            column, found = styles[:, layer, place], latents.styles[:, layer, place]
            step = float(column.max() - column.min()) / 255
            assert (found - column).abs().max() <= step * 0.5001 + 1e-6 * column.abs().max()


@pytest.mark.parametrize("name", ["numbers", "offset", "scale"])
def test_a_file_of_other_tensors_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    right = {"numbers": torch.zeros(4, 2, 3, dtype=torch.uint8), "offset": torch.zeros(2, 3), "scale": torch.ones(2, 3)}
    path = tmp_path / "styles.safetensors"
    for tensors in ({**right, name: torch.zeros(2)}, {key: value for key, value in right.items() if key != name}):
        write_tensors(path, "styles", tensors, {})
        with pytest.raises(UserError, match="not styles, or damaged"):
            read_styles(path)
