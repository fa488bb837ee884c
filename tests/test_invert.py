"""An encoder for a generator that is finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from advmix.generators.stylegan import StyleGan
from advmix.training.gan import InvertOptions, InvertTrainee
from advmix.training.loop import Loop
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed
from tiny import assert_same_state, interrupt_at, no_gradients, state_of
from tiny_gan import SHAPE, pictures

OPTIONS = InvertOptions(invert_steps=8, invert_batch=6)


def make_generator() -> StyleGan:
    with global_seed(0):
        network = StyleGan(SHAPE)
        network.track(torch.randn(64, 4), decay=0)
    return network


def make(options: InvertOptions = OPTIONS, seed: int = 0) -> InvertTrainee:
    return InvertTrainee(make_generator(), pictures(), options, seed, make_fabric("cpu"))


def test_generated_images_cost_pixels_and_latents_and_real_ones_pixels() -> None:
    trainee = make()
    dec, encoder = trainee.model.generator, trainee.model.encoder
    with torch.no_grad():
        known = make_generator().sample(5, torch.Generator().manual_seed(1))
        generated, real = dec.decode_signed(known), torch.rand(5, 3, 8, 8) * 2 - 1
        latents, pixels = trainee.network(real, known.styles, generated)
        squares = [(dec.decode_signed(encoder.encode_signed(x)) - x).square().mean() for x in (real, generated)]
        torch.testing.assert_close(pixels, (squares[0] + squares[1]) / 2)
        torch.testing.assert_close(latents, (encoder.encode_signed(generated).styles - known.styles).square().mean())


def test_weight_of_the_latents_is_an_option() -> None:
    with torch.no_grad():
        losses = [float(make(replace(OPTIONS, latent_weight=weight)).loss(2)) for weight in (0.0, 0.5, 1.0)]
    assert losses[2] - losses[1] == pytest.approx(losses[1] - losses[0], rel=1e-4)
    assert losses[1] > losses[0]


def test_the_encoder_learns_and_the_generator_stays() -> None:
    trainee, before = make(replace(OPTIONS, invert_steps=60, invert_lr=1e-2)), state_of(make_generator())
    loop = Loop("invert", 60)
    loop.train(trainee)
    assert loop.history[-1]["loss"] < 0.6 * loop.history[0]["loss"]
    assert_same_state(state_of(trainee.model.generator), before)
    assert no_gradients(trainee.model.generator)


def test_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped, resumed = make(), make(), make()
    Loop("invert", 8).train(whole)
    interrupt_at(3, stopped, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Loop("invert", 8, tmp_path).train(stopped)
    Loop("invert", 8, tmp_path).train(resumed)
    assert_same_state(state_of(resumed.model), state_of(whole.model))
    name = "encoder.styles.weight"
    assert not torch.equal(whole.model.get_parameter(name), make().model.get_parameter(name))


def test_batch_that_cannot_be_shared_out_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fabric = make_fabric("cpu")
    monkeypatch.setattr(type(fabric), "world_size", 4)
    with pytest.raises(UserError, match="--invert-batch 6: not a multiple of the 4 devices"):
        InvertTrainee(make_generator(), pictures(), OPTIONS, 0, fabric)


@pytest.mark.parametrize(
    ("option", "value"), [("invert_steps", 0), ("invert_batch", 0), ("invert_lr", -1.0), ("latent_weight", -0.5)]
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} {value}"):
        InvertOptions(**{option: value})
