"""Training of StyleGAN: two networks, an average, and everything that must survive a stop."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from advmix.data.images import ImageSet, to_bytes
from advmix.generators.stylegan import StyleGanConfig
from advmix.training.discriminator import r1_penalty
from advmix.training.gan import GanOptions, GanTrainee, gan_config, point_out_groups
from advmix.training.loop import Loop
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import read_checkpoint
from forked import in_two_processes
from tiny import assert_same_state, interrupt_at, no_gradients, state_of
from tiny_gan import OPTIONS, SHAPE, make_trainee, pictures, train_rank


def flat(state: dict[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """All tensors in nested state, by their path."""
    tensors: dict[str, Tensor] = {}
    for name, value in state.items():
        if isinstance(value, dict):
            tensors |= flat(value, f"{prefix}{name}.")
        elif isinstance(value, Tensor):
            tensors[f"{prefix}{name}"] = value.clone()
    return tensors


def one_step(trainee: GanTrainee, step: int) -> None:
    trainee.update(trainee.loss(step))


def test_loss_is_the_logistic_one_with_r1_every_third_step() -> None:
    seen: list[Tensor] = []
    for step, penalised in ((0, True), (1, False), (2, False), (3, True)):
        trainee = make_trainee()
        trainee.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        loss = trainee.loss(step).detach()
        real, fake = (image.requires_grad_() for image in seen[-2:])
        logits = trainee.discriminator(real)
        expected = -F.logsigmoid(logits).mean() - torch.log1p(-trainee.discriminator(fake).sigmoid()).mean()
        if penalised:
            expected = expected + 3 * OPTIONS.r1_weight * r1_penalty(logits, real)
        torch.testing.assert_close(loss, expected.detach())


def test_the_loss_alone_changes_nothing() -> None:
    trainee = make_trainee()
    before = flat(trainee.state_dict())
    losses = [trainee.loss(3).detach() for _ in range(2)]
    assert torch.equal(*losses)
    assert_same_state(flat(trainee.state_dict()), before)
    assert no_gradients(trainee.generator, trainee.discriminator)


def test_a_step_changes_both_networks_and_each_by_its_own_loss() -> None:
    trainee = make_trainee()
    generator, discriminator = state_of(trainee.generator), state_of(trainee.discriminator)
    one_step(trainee, 1)
    gradients = {name: p.grad.clone() for name, p in trainee.discriminator.named_parameters() if p.grad is not None}
    for before, network in ((generator, trainee.generator), (discriminator, trainee.discriminator)):
        changed = {name for name, parameter in network.named_parameters() if not torch.equal(parameter, before[name])}
        assert changed == {name for name, _ in network.named_parameters()}
    fresh = make_trainee()
    fresh.loss(1).backward()
    for name, parameter in fresh.discriminator.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(gradients[name], parameter.grad)


def test_average_is_the_literal_running_average() -> None:
    trainee = make_trainee(replace(OPTIONS, ema_decay=0.75))
    expected: dict[str, Tensor] = {}
    for step in range(4):
        one_step(trainee, step)
        weights = {name: p.detach().clone() for name, p in trainee.generator.named_parameters()}
        expected = {name: 0.75 * expected.get(name, w) + 0.25 * w for name, w in weights.items()}
    for name, parameter in trainee.average.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])
    assert torch.equal(trainee.average.mean_style, trainee.generator.mean_style)
    assert float(trainee.average.mean_style.abs().sum()) > 0


def test_augmentation_is_seen_on_real_and_fake_images() -> None:
    seen: list[Tensor] = []
    for share in (0.0, 0.25):
        trainee = make_trainee(replace(OPTIONS, gan_augment=share))
        trainee.discriminator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        trainee.loss(1)
    still, moved = seen[:2], seen[2:]
    for plain, other in zip(still, moved, strict=True):
        assert not torch.equal(plain, other)
        for before, after in zip(plain.flatten(0, 1), other.flatten(0, 1), strict=True):
            assert torch.isin(after, before).all()  # pixels move, colours stay


def test_flip_mirrors_about_half_of_what_the_discriminator_sees() -> None:
    left = torch.zeros(40, 3, 8, 8)
    left[:, :, :, :4] = 1
    images = ImageSet(to_bytes(left), torch.arange(40) % 2, ("even", "odd"))
    for flip in (False, True):
        options = replace(OPTIONS, gan_batch=40, gan_augment=0.0, gan_flip=flip)
        seen: list[Tensor] = []
        trainee = GanTrainee(images, options, 0, make_fabric("cpu"), SHAPE)
        trainee.discriminator.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].detach()))
        trainee.loss(1)
        mirrored = [bool(image[0, 0, 0] < 0) for image in seen[0]]
        assert (10 < sum(mirrored) < 30) if flip else not any(mirrored)


def test_style_mixing_reaches_the_fakes() -> None:
    """With probability 0 every layer of a fake has one style, with 1 none has."""
    for mixing, whole in ((0.0, True), (1.0, False)):
        trainee = make_trainee(replace(OPTIONS, style_mixing=mixing))
        _, crossover = trainee._drawn("generator")
        assert ((crossover >= trainee.generator.layers) == whole).all()


def test_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, stopped, resumed = make_trainee(), make_trainee(), make_trainee(seed=0)
    uninterrupted, loop = Loop("gan", 8), Loop("gan", 8, tmp_path)
    uninterrupted.train(whole)
    interrupt_at(3, stopped, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Loop("gan", 8, tmp_path).train(stopped)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
    loop.train(resumed)
    assert loop.history == uninterrupted.history
    assert_same_state(flat(resumed.state_dict()), flat(whole.state_dict()))


def test_another_seed_is_another_run() -> None:
    first, other = make_trainee(), make_trainee(seed=1)
    for trainee in (first, other):
        one_step(trainee, 0)
    assert not torch.equal(first.generator.to_image.weight, other.generator.to_image.weight)


def test_samples_come_to_look_like_the_pictures() -> None:
    trainee = make_trainee(replace(OPTIONS, gan_steps=120, gan_lr=1e-2, ema_decay=0.9, gan_augment=0))
    wanted = pictures().batch(slice(0, 40))[0]

    def gap() -> float:
        with torch.no_grad():
            made = trainee.average(trainee.average.sample(40, torch.Generator().manual_seed(0)))
        return float((made.mean(dim=0) - wanted.mean(dim=0)).abs().mean())

    before = gap()
    Loop("gan", 120).train(trainee)
    assert gap() < 0.4 * before


def test_bf16_keeps_the_weights_in_32_bits() -> None:
    plain, mixed = make_trainee(), make_trainee(precision="bf16")
    losses = []
    for trainee in (plain, mixed):
        losses.append(float(trainee.loss(0).detach()))
        for step in range(4):
            one_step(trainee, step)
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in mixed.generator.parameters())
    assert all(torch.isfinite(tensor).all() for tensor in flat(mixed.state_dict()).values())


def test_bf16_draws_the_fakes_of_both_networks_in_16_bits() -> None:
    trainee, seen = make_trainee(precision="bf16"), []
    trainee.generator.to_image.register_forward_hook(lambda _, __, image: seen.append(image.dtype))
    one_step(trainee, 1)
    assert seen == [torch.bfloat16, torch.bfloat16]


def test_two_processes_agree_bit_for_bit(tmp_path: Path) -> None:
    in_two_processes(train_rank, tmp_path)
    first, second = (torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    assert_same_state(flat(first["state"]), flat(second["state"]))
    assert first["history"] == second["history"]
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 10
    alone = Loop("fit StyleGAN", 1)
    alone.train(make_trainee())
    assert first["history"][0]["loss"] == pytest.approx(alone.history[0]["loss"], rel=1e-4)  # before noise has a weight


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("gan_steps", 0),
        ("gan_batch", 0),
        ("gan_channels", 0),
        ("gan_channels", 30),
        ("gan_lr", float("nan")),
        ("style_mixing", 1.5),
        ("r1_weight", -1.0),
        ("r1_every", 0),
        ("ema_decay", 1.1),
        ("gan_augment", -0.1),
        ("preview_every", 0),
    ],
)
def test_bad_options_are_named(option: str, value: Any) -> None:
    with pytest.raises(UserError, match=f"--{option.replace('_', '-')} {value}"):
        GanOptions(**{option: value})


@pytest.mark.parametrize(
    ("batch", "devices", "words"),
    [
        (8, 1, ""),
        (8, 2, ""),
        (6, 1, "--gan-batch 6: the minibatch standard deviation, .* compares 2 images at a time; 4 where 4 divides"),
        (10, 2, "--gan-batch 10 over 2 devices: .* compares 1 image at a time; 4 where 8 divides the batch"),
    ],
)
def test_a_batch_that_weakens_the_minibatch_deviation_is_pointed_out(
    batch: int, devices: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    point_out_groups(batch, devices)
    said = " ".join(capsys.readouterr().out.split())
    assert re.search(words, said)
    assert bool(said) == bool(words)


def test_network_follows_from_the_images() -> None:
    images = pictures(4)
    large = replace(images, pixels=images.pixels[:, :1].repeat(1, 1, 4, 4))
    assert gan_config(large) == StyleGanConfig(32, 1, 64, 4, (64, 64, 32, 32))
    wide = GanTrainee(large, GanOptions(gan_channels=128), 0, make_fabric("cpu"))
    assert wide.generator.config == StyleGanConfig(32, 1, 64, 4, (128, 128, 64, 64))
    assert wide.discriminator.widths == (128, 128, 64, 64)
    assert GanOptions().steps(32) == 20_000
    assert GanOptions(gan_steps=7).steps(32) == 7
    with pytest.raises(UserError, match="images of 8 pixels: fit takes 16, 32, 64"):
        gan_config(images)
    assert SHAPE.layers == 4
