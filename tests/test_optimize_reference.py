"""Algorithm 2 in batches and with shared work, held to its literal reference, in float64."""

from __future__ import annotations

import pytest
import torch

from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.generators.style import StyleConfig
from advmix.latents import Split
from reference_optimize import encode_one
from test_optimize import make_features
from tiny import SPATIAL, VECTOR, make_generator, make_latents

CASES = {
    "vector": (VECTOR, Split.fine(VECTOR.layers, 2)),
    "coarse": (VECTOR, Split(VECTOR.layers, (0, 3))),
    "spatial": (SPATIAL, Split.fine(SPATIAL.layers, 2)),
    "grid": (SPATIAL, Split(SPATIAL.layers, (1,), grid=True)),
}


@pytest.mark.parametrize(("config", "split"), CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("features", [True, False], ids=["features", "pixels"])
def test_same_losses_and_latents_as_one_image_at_a_time(config: StyleConfig, split: Split, features: bool) -> None:
    generator, options = make_generator(config), OptimizeOptions(optimize_steps=4, mixing_weight=0.7)
    pool, network = make_latents(config, 7, seed=2), make_features() if features else None
    encoder = OptimizeEncoder(generator, split, pool, network, options=options)
    with torch.no_grad():
        signed = generator(make_latents(config, 3, seed=1)) * 2 - 1
    found = encoder.optimize(signed)
    for index in range(3):
        latents, losses = encode_one(encoder, signed[index : index + 1])
        assert found.losses[:, index].tolist() == pytest.approx(losses, rel=1e-9)
        torch.testing.assert_close(found.latents.styles[index], latents.styles[0], rtol=0, atol=1e-9)
        if latents.grid is not None and found.latents.grid is not None:
            torch.testing.assert_close(found.latents.grid[index], latents.grid[0], rtol=0, atol=1e-9)
