from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet
from advmix.encoders.network import Encoder, StyleEncoder, encoded
from advmix.encoders.store import LatentStore, write_store
from advmix.generators.style import StyleConfig
from advmix.latents import Latents
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed
from tiny import VECTOR

DIGITS = StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5))
SPATIAL_DIGITS = StyleConfig(resolution=16, style_dim=4, widths=(6, 5), start=8, grid_channels=2)


def make_encoder(config: StyleConfig = DIGITS, seed: int = 0) -> StyleEncoder:
    with global_seed(seed):
        return StyleEncoder(config)


@pytest.fixture
def images(digits: ColoredDigits) -> ImageSet:
    return digits.train[:50]


@pytest.fixture
def folder(tmp_path: Path, images: ImageSet) -> Path:
    """Four shards, the last of them short."""
    write_store(tmp_path / "store", make_encoder(), images, generator="good", shard_size=16)
    return tmp_path / "store"


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


@pytest.mark.parametrize("config", [DIGITS, SPATIAL_DIGITS], ids=["vector", "spatial"])
def test_latents_come_back_in_the_order_of_the_data(tmp_path: Path, images: ImageSet, config: StyleConfig) -> None:
    encoder = make_encoder(config)
    write_store(tmp_path, encoder, images, generator="good", shard_size=16)
    store = LatentStore.open(tmp_path, generator="good")
    with torch.no_grad():
        expected = encoder(images.batch(slice(None))[0])
    assert len(store) == len(store.latents) == 50
    torch.testing.assert_close(store.latents.styles, expected.styles)
    assert (store.latents.grid is None) == (expected.grid is None)
    if store.latents.grid is not None and expected.grid is not None:
        torch.testing.assert_close(store.latents.grid, expected.grid)
    assert not store.latents.styles.requires_grad


def test_shards_hold_so_many_images_each(folder: Path) -> None:
    assert [path.name for path in shards(folder)] == [f"latents-0000{number}.safetensors" for number in range(4)]


def test_resumed_store_has_the_same_latents(folder: Path, images: ImageSet) -> None:
    before, untouched = LatentStore.open(folder).latents, shards(folder)[0].stat().st_ino
    shards(folder)[2].unlink()
    write_store(folder, make_encoder(), images, generator="good", shard_size=16)
    assert torch.equal(LatentStore.open(folder).latents.styles, before.styles)
    assert shards(folder)[0].stat().st_ino == untouched


def test_damaged_shard_is_made_again(folder: Path, images: ImageSet) -> None:
    before = LatentStore.open(folder).latents
    shards(folder)[1].write_bytes(b"damaged")
    with pytest.raises(UserError, match="latents-00001"):
        LatentStore.open(folder).latents  # noqa: B018
    write_store(folder, make_encoder(), images, generator="good", shard_size=16)
    assert torch.equal(LatentStore.open(folder).latents.styles, before.styles)


@pytest.mark.parametrize("what", ["generator", "images", "encoder", "network"])
def test_shards_of_anything_else_are_made_again(folder: Path, images: ImageSet, what: str) -> None:
    encoder, changed = make_encoder(seed=1), {"generator": "good", "made_by": "network", "network": None}
    if what == "images":
        images = images[torch.arange(50).flip(0)]
    else:
        changed["made_by" if what == "encoder" else what] = "other"
    write_store(folder, encoder, images, shard_size=16, **changed)  # type: ignore[arg-type]
    with torch.no_grad():
        expected = encoder(images.batch(slice(None))[0]).styles
    torch.testing.assert_close(LatentStore.open(folder).latents.styles, expected)


@pytest.mark.parametrize("shard_size", [8, 32, 64])
def test_shards_of_another_size_are_made_again(folder: Path, images: ImageSet, shard_size: int) -> None:
    before = LatentStore.open(folder).latents
    write_store(folder, make_encoder(), images, generator="good", shard_size=shard_size)
    found = LatentStore.open(folder).latents
    assert len(found) == 50
    torch.testing.assert_close(found.styles, before.styles)


def test_latents_of_another_generator_are_refused(folder: Path) -> None:
    with pytest.raises(UserError, match="latents of generator good, but this generator is bad"):
        LatentStore.open(folder, generator="bad")


def test_missing_shard_is_refused(folder: Path) -> None:
    shards(folder)[3].unlink()
    with pytest.raises(UserError, match="1 of 4 shards are missing"):
        LatentStore.open(folder)


def test_shard_of_another_store_is_refused(folder: Path, tmp_path: Path, images: ImageSet) -> None:
    write_store(tmp_path / "other", make_encoder(), images, generator="other", shard_size=16)
    shards(tmp_path / "other")[0].replace(shards(folder)[0])
    with pytest.raises(UserError, match=r"latents-00000.*another store"):
        LatentStore.open(folder, generator="good").latents  # noqa: B018


def test_folder_without_latents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no latents"):
        LatentStore.open(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"generator": "good", "count": 50}'])
def test_damaged_index_is_refused(folder: Path, text: str) -> None:
    (folder / "store.json").write_text(text)
    with pytest.raises(UserError, match=r"store\.json"):
        LatentStore.open(folder, generator=None)


def test_metadata_are_kept_in_the_index(tmp_path: Path, images: ImageSet) -> None:
    write_store(tmp_path, make_encoder(), images, generator="good", metadata={"data_seed": 3})
    index = LatentStore.open(tmp_path).index
    assert (index["data_seed"], index["count"], index["images"]) == (3, 50, images.fingerprint)


def test_encoder_of_other_images_fails_before_a_shard_is_written(tmp_path: Path, images: ImageSet) -> None:
    with pytest.raises(RuntimeError):
        write_store(tmp_path, make_encoder(VECTOR), images, generator="good")
    assert shards(tmp_path) == []
    with pytest.raises(UserError, match="1 of 1 shards are missing"):
        LatentStore.open(tmp_path)


def test_as_many_images_are_encoded_at_once_as_memory_allows(
    tmp_path: Path, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(StyleEncoder):
        def forward(self, images: torch.Tensor) -> Latents:
            seen.append(len(images))
            return super().forward(images)

    watched = Watched(DIGITS)
    whole = encoded(images, watched)
    assert max(seen) == len(images)
    seen.clear()
    monkeypatch.setattr("advmix.utils.machine.MACHINE.memory", 10**5)
    few = write_store(tmp_path, watched, images, generator="0" * 16, shard_size=20).latents
    assert 1 <= max(seen) < 10
    torch.testing.assert_close(few.styles, whole.styles)


def test_latents_that_are_no_numbers_are_not_kept(tmp_path: Path) -> None:
    class Broken(Encoder):
        def encode_signed(self, images: Tensor) -> Latents:
            return Latents(images.mean(dim=(1, 2, 3)).log()[:, None, None].expand(-1, 4, 3))

    pixels = torch.full((5, 1, 8, 8), 255, dtype=torch.uint8)
    pixels[2] = 0  # -1 in the generator's range
    images = ImageSet(pixels, torch.zeros(5, dtype=torch.long), ("only",))
    with pytest.raises(UserError, match="1 of 5 images are encoded to latents that are no numbers"):
        write_store(tmp_path, Broken(), images, generator="0" * 16)
    assert not list(tmp_path.glob("*.safetensors"))
