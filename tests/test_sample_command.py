"""`advmix sample` as a user meets it: images that a StyleGAN makes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from advmix.cli import main
from advmix.data.images import to_bytes
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.generators.style import StyleConfig
from advmix.generators.stylegan import MappedGenerator, StyleGanConfig
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import generator, global_seed

WIDTHS = (8, 8, 8)


@pytest.fixture(scope="module", params=[1, 3], ids=["grey", "colour"])
def gan(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained StyleGAN of a few numbers."""
    folder = tmp_path_factory.mktemp("gan")
    shape = StyleGanConfig(resolution=16, channels=request.param, style_dim=8, mapping_layers=2, widths=WIDTHS)
    with global_seed(1):
        model = Autoencoder(shape)
        torch.nn.init.normal_(model.get_parameter("generator.to_image.weight"), std=1.0)
    save_autoencoder(make_folder(folder), model, {"data_fingerprint": "0" * 16})
    return folder


def sample(gan: Path, out: Path, *arguments: str) -> Tensor:
    """What lies in the files, `(N, H, W, C)` or `(N, H, W)`, in the order of their names."""
    assert main(["sample", "--generator", str(gan), "--out", str(out), "--device", "cpu", *arguments]) == 0
    return torch.stack([torch.from_numpy(pixels(path)) for path in files(out)])


def pixels(path: Path) -> np.ndarray[Any, Any]:
    with Image.open(path) as image:
        return np.array(image)


def files(out: Path) -> list[Path]:
    return sorted((out / "images").iterdir())


def test_files_are_what_the_generator_makes_of_seeded_latents(gan: Path, tmp_path: Path) -> None:
    found = sample(gan, tmp_path / "out", "--count", "7", "--truncation", "0.6", "--mixing", "0.5", "--seed", "3")
    dec = load_autoencoder(gan)[0].generator
    assert isinstance(dec, MappedGenerator)
    with torch.no_grad():
        groups = [dec(dec.sample(4, generator(3, "samples", first), 0.6, 0.5)) for first in (0, 4)]
    expected = to_bytes(torch.cat(groups)[:7]).permute(0, 2, 3, 1)
    assert torch.equal(found, expected.squeeze(3))
    assert [path.name for path in files(tmp_path / "out")][-1] == "00006.png"
    assert pixels(tmp_path / "out" / "samples.png").shape[1] > 7 * dec.resolution


def test_a_longer_run_begins_with_the_same_images_and_another_seed_does_not(gan: Path, tmp_path: Path) -> None:
    short, long = (sample(gan, tmp_path / count, "--count", count) for count in ("5", "70"))
    assert torch.equal(long[:5], short)
    other = sample(gan, tmp_path / "other", "--count", "5", "--seed", "1")
    assert not torch.equal(short, other)


def test_truncation_draws_all_images_towards_the_mean_one(gan: Path, tmp_path: Path) -> None:
    spreads = []
    for truncation in ("0", "0.5", "1"):
        images = sample(gan, tmp_path / truncation, "--count", "8", "--truncation", truncation).float()
        spreads.append(float(images.std(dim=0).mean()))
    assert spreads[0] == 0
    assert 0 < spreads[1] < spreads[2]


def test_a_run_that_was_stopped_ends_in_the_same_images(gan: Path, tmp_path: Path) -> None:
    whole = sample(gan, tmp_path / "out", "--count", "6")
    files(tmp_path / "out")[4].unlink()
    assert torch.equal(sample(gan, tmp_path / "out", "--count", "6", "--resume"), whole)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--count", "0"], "--count 0: must be at least 1"),
        (["--truncation", "-1"], "--truncation -1.0: must be at least 0"),
        (["--mixing", "2"], "--mixing 2.0: must be between 0 and 1"),
        ([], "which draws only what it is given; fit one with --regime gan, or import one"),
    ],
)
def test_what_is_refused(arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shape = StyleConfig(resolution=8, style_dim=4, widths=(6, 5), start=4, grid_channels=8)
    save_autoencoder(make_folder(tmp_path / "fit"), Autoencoder(shape), {"data_fingerprint": "0" * 16})
    command = ["sample", "--generator", str(tmp_path / "fit"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, *arguments]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
