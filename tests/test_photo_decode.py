"""Image files of every kind become the same plain pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from advmix.data.photos.decode import Decoded, decode_all, open_bytes
from advmix.utils.errors import UserError
from pictures import digit, encoded, photograph

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def decode(data: bytes, size: int = 8, channels: int = 3, crop: str = "centre") -> Decoded:
    return decode_all(lambda _: open_bytes(data), ["picture"], size, channels, crop)


def pixels(data: bytes, size: int = 8, channels: int = 3, crop: str = "centre") -> np.ndarray:
    """`(size, size, channels)`."""
    decoded = decode(data, size, channels, crop)
    assert decoded.broken == ()
    found: np.ndarray = decoded.pixels[0].permute(1, 2, 0).numpy()
    return found


def reason(data: bytes) -> str:
    decoded = decode(data)
    assert decoded.pixels.shape == (0, 3, 8, 8)
    assert decoded.kept.tolist() == []
    return decoded.broken[0].reason


def grey() -> np.ndarray:
    return np.asarray(digit(0))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP"])
def test_pixels_of_the_right_size_are_kept(kind: str) -> None:
    image = digit(0).convert("RGB")
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(pixels(encoded(image, kind, **options)), np.asarray(image))


def test_grey_and_colour_become_one_another() -> None:
    assert np.array_equal(pixels(encoded(digit(0))), np.repeat(grey()[..., None], 3, axis=2))
    colored = photograph().resize((8, 8))
    assert np.array_equal(pixels(encoded(colored), channels=1)[..., 0], np.asarray(colored.convert("L")))


def test_sixteen_bits_are_scaled_not_cut() -> None:
    wide = Image.fromarray(grey().astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    assert np.array_equal(pixels(encoded(wide), channels=1)[..., 0], grey())
    big_endian = Image.frombytes("I;16B", (8, 8), (grey().astype(">u2") * 257).tobytes())
    assert np.array_equal(pixels(encoded(big_endian, "TIFF"), channels=1)[..., 0], grey())


def half_clear() -> Image.Image:
    """Red, its right half transparent."""
    image = Image.new("RGBA", (8, 8), (*RED, 255))
    image.paste((*BLUE, 0), (4, 0, 8, 8))
    return image


@pytest.mark.parametrize(
    "convert",
    [lambda image: image, lambda image: image.quantize(4), lambda image: image.convert("LA")],
    ids=["RGBA", "P", "LA"],
)
def test_what_is_transparent_becomes_white(convert: Callable[[Image.Image], Image.Image]) -> None:
    found = pixels(encoded(convert(half_clear())))
    assert (found[:, 4:] == 255).all()
    assert (found[:, :4] < 255).any(axis=-1).all()


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "TIFF"), ("P", "PNG"), ("1", "PNG"), ("LA", "PNG")])
def test_every_mode_is_read(mode: str, kind: str) -> None:
    image = Image.new("L", (8, 8), "white")
    image.paste(0, (0, 0, 8, 4))
    data = encoded(image.convert("RGB").convert(mode) if mode != "LA" else image.convert("LA"), kind)
    found = pixels(data).astype(int)
    assert decode(data).modes == {mode: 1}
    assert found[4:].min() > 250
    assert found[:4].max() < 5


def test_the_camera_s_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    turned = digit(0).rotate(90, expand=True)
    found = pixels(encoded(turned, exif=exif), channels=1)[..., 0]
    assert np.array_equal(found, grey())


def flag() -> bytes:
    """24x8: red, green and blue squares side by side."""
    image = Image.new("RGB", (24, 8), GREEN)
    image.paste(RED, (0, 0, 8, 8))
    image.paste(BLUE, (16, 0, 24, 8))
    return encoded(image)


def test_crops() -> None:
    assert (pixels(flag(), 8, crop="centre") == GREEN).all()
    padded = pixels(flag(), 24, crop="pad")
    assert (padded[:8] == 0).all()
    assert (padded[16:] == 0).all()
    assert [tuple(padded[12, x]) for x in (0, 12, 23)] == [RED, GREEN, BLUE]
    stretched = pixels(flag(), 24, crop="stretch")
    assert (stretched == stretched[:1]).all()
    assert [tuple(stretched[12, x]) for x in (0, 12, 23)] == [RED, GREEN, BLUE]


def test_shrinking_averages() -> None:
    board = np.indices((64, 64)).sum(axis=0) % 2 * 255
    found = pixels(encoded(Image.fromarray(board.astype(np.uint8))), 8).astype(int)
    assert np.abs(found - 127.5).max() < 2


def test_a_large_jpeg_is_decoded_small_and_looks_the_same() -> None:
    jpeg = encoded(photograph().resize((1280, 854)), "JPEG", quality=95)
    whole = encoded(open_bytes(jpeg))
    assert decode(jpeg, 64).sizes == {(1280, 854): 1}
    assert np.abs(pixels(jpeg, 64).astype(float) - pixels(whole, 64)).mean() < 2


def test_damaged_files_say_why() -> None:
    photo = encoded(photograph(), "JPEG")
    assert "truncated" in reason(photo[: len(photo) // 2])
    assert "not an image" in reason(b"hello")
    assert "not an image" in reason(b"")
    assert "not an image" in reason(encoded(photograph(), "EPS"))
    assert "floating-point" in reason(encoded(Image.new("F", (8, 8)), "TIFF"))
    assert reason(encoded(digit(0))[:60])


def huge() -> bytes:
    """A PNG of a few bytes that says it has 900 million pixels."""
    data = bytearray(encoded(digit(0)))
    data[16:24] = struct.pack(">II", 30_000, 30_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_gigantic_images_are_not_decoded() -> None:
    assert "89 million pixels" in reason(huge())
    between = bytearray(huge())
    between[16:24] = struct.pack(">II", 10_000, 10_000)  # where Pillow only warns
    between[29:33] = struct.pack(">I", zlib.crc32(between[12:29]))
    assert "89 million pixels" in reason(bytes(between))


def test_order_and_broken_ones_are_kept_track_of() -> None:
    files = {f"{index}": encoded(digit(index)) if index % 3 else b"broken" for index in range(100)}
    decoded = decode_all(lambda name: open_bytes(files[name]), [*files, "none"], 8, 1, "centre")
    good = [index for index in range(100) if index % 3]
    assert decoded.kept.tolist() == good
    assert all(np.array_equal(decoded.pixels[i, 0], np.asarray(digit(index))) for i, index in enumerate(good))
    assert [image.name for image in decoded.broken] == [*(str(index) for index in range(0, 100, 3)), "none"]
    assert decoded.sizes == {(8, 8): len(good)}


def test_more_memory_than_there_is_is_refused() -> None:
    with pytest.raises(UserError, match=r"2 images of 10000000x10000000 pixels need 600\.0 TB .*--size, or --limit"):
        decode_all(lambda _: digit(0), ["a", "b"], 10**7, 3, "centre")
