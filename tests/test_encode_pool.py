"""Of which training images Algorithm 2's mean latent and partners are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from advmix.data.datasets import open_data
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, save_autoencoder
from advmix.encoders.optimize import OptimizeEncoder
from advmix.generators.style import StyleConfig
from advmix.training.encoding import EncodeConfig, make_encoder
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import generator, global_seed

SMALL = StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def few_in_the_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advmix.training.encoding.POOL", 24)


def made(folder: Path) -> Autoencoder:
    with global_seed(0):
        model = Autoencoder(SMALL).eval()
    save_autoencoder(make_folder(folder), model, {})
    return model


def images() -> ImageSet:
    return open_data(DataConfig(train_images=64), 0).train


def pool_of(encoder: Any) -> torch.Tensor:
    assert isinstance(encoder, OptimizeEncoder)
    return encoder.pool.styles


def codes(model: Autoencoder, part: ImageSet) -> torch.Tensor:
    with torch.no_grad():
        styles: torch.Tensor = model.encoder(part.batch(slice(None))[0]).styles
    return styles


def test_images_in_the_order_of_their_classes_are_drawn_from_all(tmp_path: Path) -> None:
    model, data = made(tmp_path), images()
    by_class = data[data.labels.argsort(stable=True)]
    rows = torch.randperm(64, generator=generator(5, "encode", "pool"))[:24]
    encoder = make_encoder(EncodeConfig(generator=tmp_path, encoder="mean", seed=5), model, by_class, CPU)
    torch.testing.assert_close(pool_of(encoder), codes(model, by_class[rows]))
    assert len(by_class[:24].labels.unique()) < 5
    assert len(by_class[rows].labels.unique()) > 7
