"""Training on mixes: what each term is, whom it reaches, and that nothing changes where it is off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers import conv_net
from advmix.cli import main
from advmix.data import ImageSet
from advmix.encoders import load_autoencoder
from advmix.generators import StyleConfig
from advmix.latents import Latents
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.discriminator import r1_penalty
from advmix.training.gan import GanOptions
from advmix.training.loop import Loop
from advmix.training.mix_losses import MixOptions, MixTrainee, discriminator_widths, survival_error
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import read_checkpoint
from advmix.utils.torch_tools import generator, global_seed
from test_autoencode import photographs
from test_gan import flat
from tiny import assert_same_state, interrupt_at, no_gradients, state_of

STEPS = 6
BOTH = MixOptions(adversarial_weight=0.3, survival_weight=0.7)
GAN = GanOptions(r1_every=3, r1_weight=2.0)
KINDS = pytest.mark.parametrize("grid", [0, 4], ids=["styles", "grid"])


@pytest.fixture(scope="module")
def photos() -> ImageSet:
    return photographs(side=16)


def make_reference() -> nn.Sequential:
    """In train mode; its batch normalisation has seen a few images."""
    with global_seed(0):
        network = conv_net(2, widths=(4, 4))
        network(torch.rand(8, 3, 16, 16))
    return network


def fit_options(grid: int = 0) -> FitOptions:
    return FitOptions(fit_steps=STEPS, fit_batch=6, grid_channels=grid, l1_weight=0.5)


def make_trainee(photos: ImageSet, mix: MixOptions = BOTH, grid: int = 0, gan: GanOptions = GAN) -> MixTrainee:
    reference = make_reference() if mix.survival_weight else None
    return MixTrainee(photos, fit_options(grid), 0, make_fabric("cpu"), mix, gan, reference)


def in_float64(trainee: MixTrainee, monkeypatch: pytest.MonkeyPatch) -> tuple[Tensor, Tensor, int]:
    """A first step's batch, now with everything in float64."""
    index, signed, seed = trainee.batch(0)
    assert trainee.adversary is not None
    assert trainee.reference is not None
    for network in (trainee.model, trainee.adversary.discriminator, trainee.reference):
        network.double()
    monkeypatch.setattr(trainee, "batch", lambda step: (index, signed.double(), seed))
    return index, signed.double(), seed


def crossed(latents: Latents, perp: list[int]) -> Latents:
    """One image at a time, one layer at a time."""
    rows = []
    for image in range(len(latents)):
        row = latents.styles[image].clone()
        for layer in perp:
            row[layer] = latents.styles[image - 1, layer]
        rows.append(row)
    return Latents(torch.stack(rows), latents.grid)


@KINDS
def test_loss_is_the_sum_of_its_terms(photos: ImageSet, grid: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainee = make_trainee(photos, grid=grid, gan=GanOptions(gan_augment=0))
    index, signed, seed = in_float64(trainee, monkeypatch)
    model, adversary = trainee.model, trainee.adversary
    assert adversary is not None
    assert trainee.reference is not None
    with torch.no_grad():
        found = trainee.loss(0)
        latents, size = model.encode_noisy(signed, 0.1, seed)
        decoded = model.generator.decode_signed(latents)
        mixes = model.generator.decode_signed(crossed(latents, list(range(6)) if grid else [4, 5]))
        gap = decoded - signed
        logits = adversary.discriminator(torch.cat([decoded, mixes]))
        shown = ((mixes + 1) / 2).clamp(0, 1)
        probabilities = torch.stack([trainee.reference(image[None])[0].softmax(0) for image in shown])
    survival = torch.stack([-row[photos.labels[place]].log() for row, place in zip(probabilities, index, strict=True)])
    expected = gap.square().mean() + 0.5 * gap.abs().mean() + 1e-3 * size
    expected = expected - 0.3 * logits.sigmoid().log().mean() + 0.7 * survival.mean()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)  # the discriminator's logits are rounded to float32


def test_survival_is_the_cross_entropy_of_what_leaves_the_generator() -> None:
    reference = make_reference().eval().double()
    mixes = torch.randn(5, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1, 0, 1])
    losses = []
    for mix, label in zip(mixes, labels, strict=True):
        logits = reference(torch.where(mix < -1, 0, torch.where(mix > 1, 1, (mix + 1) / 2))[None])[0]
        losses.append(logits.exp().sum().log() - logits[label])
    torch.testing.assert_close(survival_error(reference, mixes, labels), torch.stack(losses).mean())


@pytest.mark.parametrize(
    ("grid", "named", "perp"),
    [(0, None, [4, 5]), (4, None, [0, 1, 2, 3, 4, 5]), (4, (-1,), [5]), (0, (1, -2), [1, 4])],
)
def test_mixes_cross_the_layers_that_were_named(
    photos: ImageSet, grid: int, named: tuple[int, ...] | None, perp: list[int]
) -> None:
    trainee = make_trainee(photos, MixOptions(adversarial_weight=1.0, mix_perp=named), grid)
    latents = trainee.model.encoder.encode_signed(trainee.batch(0)[1]).detach()
    found, expected = trainee.mixed(latents), crossed(latents, perp)
    assert torch.equal(found.styles, expected.styles)
    assert not torch.equal(found.styles, latents.styles)
    assert found.grid is latents.grid


def test_discriminator_learns_from_reconstructions_and_mixes_with_lazy_r1(photos: ImageSet) -> None:
    for step, penalised in ((0, True), (1, False), (3, True)):
        trainee = make_trainee(photos)
        assert trainee.adversary is not None
        discriminator = trainee.adversary.discriminator
        loss = trainee.loss(step)
        real, fake = (image.detach().clone().requires_grad_() for image in trainee.shown)
        assert (len(real), len(fake)) == (6, 12)
        logits = discriminator(real)
        expected = -logits.sigmoid().log().mean() - torch.log1p(-discriminator(fake).sigmoid()).mean()
        if penalised:
            expected = expected + 3 * 2.0 * r1_penalty(logits, real)
        wanted = torch.autograd.grad(expected, list(discriminator.parameters()))
        trainee.update(loss)
        for parameter, gradient in zip(discriminator.parameters(), wanted, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def test_discriminator_sees_moved_images_real_and_fake(photos: ImageSet) -> None:
    still, moved = (make_trainee(photos, gan=GanOptions(gan_augment=share)) for share in (0.0, 0.25))
    for trainee in (still, moved):
        trainee.loss(0)
    torch.testing.assert_close(still.shown[0], still.batch(0)[1])
    for plain, other in zip(still.shown, moved.shown, strict=True):
        assert not torch.equal(plain, other)
        for before, after in zip(plain.flatten(0, 1), other.flatten(0, 1), strict=True):
            assert torch.isin(after, before).all()  # pixels move, colours stay


@pytest.mark.parametrize("mix", [MixOptions(0.3), MixOptions(0.0, 0.7), BOTH], ids=["adversarial", "survival", "both"])
def test_the_loss_alone_changes_nothing(photos: ImageSet, mix: MixOptions) -> None:
    trainee = make_trainee(photos, mix)
    before = flat(trainee.state_dict())
    losses = [trainee.loss(3).detach() for _ in range(2)]
    assert torch.equal(*losses)
    assert_same_state(flat(trainee.state_dict()), before)
    assert no_gradients(trainee.model)


@KINDS
def test_every_term_teaches_the_autoencoder_and_nobody_else(photos: ImageSet, grid: int) -> None:
    plain = make_trainee(photos, MixOptions(), grid)
    plain.loss(0).backward()
    for mix in (MixOptions(0.3), MixOptions(0.0, 0.7)):
        trainee = make_trainee(photos, mix, grid)
        trainee.loss(0).backward()
        for name, parameter in trainee.model.named_parameters():
            assert parameter.grad is not None, name
        assert not torch.equal(gradient_of(trainee), gradient_of(plain))
        assert trainee.adversary is None or no_gradients(trainee.adversary.discriminator)
        assert trainee.reference is None or no_gradients(trainee.reference)


def gradient_of(trainee: MixTrainee) -> Tensor:
    gradient = trainee.model.get_parameter("generator.to_image.weight").grad
    assert isinstance(gradient, Tensor)
    return gradient


def test_a_step_changes_both_networks_and_each_by_its_own_loss(photos: ImageSet) -> None:
    trainee, fresh = make_trainee(photos), make_trainee(photos)
    assert trainee.adversary is not None
    before = state_of(trainee.adversary.discriminator)
    trainee.update(trainee.loss(0))
    fresh.loss(0).backward()
    for found, expected in zip(trainee.model.parameters(), fresh.model.parameters(), strict=True):
        assert found.grad is not None
        assert expected.grad is not None
        assert torch.equal(found.grad, expected.grad)
    for name, parameter in trainee.adversary.discriminator.named_parameters():
        assert not torch.equal(parameter, before[name]), name
        assert parameter.requires_grad


def test_the_reference_is_left_alone(photos: ImageSet) -> None:
    trainee = make_trainee(photos)
    assert trainee.reference is not None
    before = state_of(trainee.reference)
    Loop("test", 2).train(trainee)
    assert_same_state(state_of(trainee.reference), before)
    assert not any(module.training for module in trainee.reference.modules())
    assert not any(parameter.requires_grad for parameter in trainee.reference.parameters())


@KINDS
def test_without_weights_it_is_the_plain_trainee_bit_for_bit(photos: ImageSet, grid: int) -> None:
    plain = AutoencoderTrainee(photos, fit_options(grid), 0, make_fabric("cpu"))
    off = make_trainee(photos, MixOptions(), grid)
    loops = [Loop("test", STEPS, log_every=1) for _ in range(2)]
    for loop, trainee in zip(loops, (plain, off), strict=True):
        loop.train(trainee)
    assert loops[0].history == loops[1].history
    assert_same_state(flat(off.state_dict()), flat(plain.state_dict()))


@KINDS
def test_stopped_run_goes_on_as_if_it_had_not_been(
    photos: ImageSet, grid: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, stopped, resumed = (make_trainee(photos, grid=grid) for _ in range(3))
    uninterrupted, loop = Loop("fit", STEPS, log_every=1), Loop("fit", STEPS, tmp_path, log_every=1)
    uninterrupted.train(whole)
    interrupt_at(2, stopped, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        Loop("fit", STEPS, tmp_path, log_every=1).train(stopped)
    assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 3
    loop.train(resumed)
    assert loop.history == uninterrupted.history
    states = flat(resumed.state_dict()), flat(whole.state_dict())
    assert_same_state(*states)
    assert any(name.startswith("discriminator optimizer") for name in states[0])


def test_survival_weight_makes_labels_survive(photos: ImageSet) -> None:
    """A reference that tells the two photographs apart recognises more of the mixes of a generator that was told to."""
    with global_seed(0):
        reference = conv_net(2, widths=(8, 8))
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-2)
    images, labels = photos.batch(slice(None))
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(images), labels).backward()
        optimizer.step()
    errors = []
    for weight in (0.0, 1.0):
        mix, options = MixOptions(survival_weight=weight), FitOptions(fit_steps=25, fit_batch=8, grid_channels=4)
        trainee = MixTrainee(photos, options, 0, make_fabric("cpu"), mix, reference=reference if weight else None)
        Loop("test", 25).train(trainee)
        shuffled = torch.randperm(len(photos), generator=generator(0, "tests"))
        with torch.no_grad():
            latents = trainee.model.encoder(images)[shuffled]
            decoded = trainee.model.generator.decode_signed(trainee.mixed(latents))
            errors.append(float(survival_error(reference.eval(), decoded, labels[shuffled])))
    assert errors[1] < 0.5 * errors[0]


@pytest.mark.parametrize(
    ("side", "widths"),
    [(8, (64, 64)), (16, (64, 64, 32)), (32, (64, 64, 32, 32)), (128, (64, 64, 32, 32, 16, 16))],
)
def test_discriminator_follows_the_size_of_the_images(side: int, widths: tuple[int, ...]) -> None:
    assert discriminator_widths(side) == widths


@pytest.mark.parametrize("side", [48, 100])
def test_sizes_that_no_discriminator_has_are_refused(side: int) -> None:
    images = ImageSet(torch.zeros(2, 3, side, side, dtype=torch.uint8), torch.tensor([0, 1]), ("a", "b"))
    with pytest.raises(UserError, match=f"--adversarial-weight: images of {side} pixels"):
        make_trainee(images, MixOptions(adversarial_weight=1.0), grid=4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adversarial_weight": -1.0}, "--adversarial-weight -1.0"),
        ({"survival_weight": float("nan")}, "--survival-weight nan"),
        ({"mix_perp": (1,)}, "--mix-perp: goes together with"),
    ],
)
def test_bad_options_are_named(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        MixOptions(**options)


@pytest.mark.parametrize("perp", [6, -7])
def test_a_layer_outside_the_network_is_named(perp: int) -> None:
    with pytest.raises(UserError, match=rf"--mix-perp {perp}: outside the network, which has layers 0 to 5"):
        MixOptions(adversarial_weight=1.0, mix_perp=(perp,)).split(StyleConfig())


def test_weights_need_what_they_work_with(photos: ImageSet) -> None:
    fabric = make_fabric("cpu")
    for weight, reference in ((1.0, None), (0.0, make_reference())):
        with pytest.raises(UserError, match=f"--survival-weight {weight}: goes together with --reference"):
            MixTrainee(photos, fit_options(), 0, fabric, MixOptions(survival_weight=weight), reference=reference)
    with pytest.raises(UserError, match="--fit-batch 1: a mix takes two images"):
        MixTrainee(photos, FitOptions(fit_batch=1), 0, fabric, MixOptions(adversarial_weight=1.0))


DATA = ["--train-images", "64", "--test-images", "20", "--device", "cpu"]
MIX = ["--fit-steps", "3", "--fit-batch", "4", "--adversarial-weight", "0.1", "--survival-weight", "0.2"]


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("mixes") / "judge")
    assert main(["train", *DATA, "--method", "nominal", "--epochs", "1", "--out", folder]) == 0
    return folder


def test_fit_takes_the_weights_and_remembers_them(judge: str, tmp_path: Path) -> None:
    fit = ["fit", *DATA, *MIX, "--mix-perp", "-1", "--reference", judge, "--out", str(tmp_path / "fit")]
    assert main(fit) == 0
    expected = {"adversarial_weight": 0.1, "survival_weight": 0.2, "mix_perp": [-1]}
    assert load_autoencoder(tmp_path / "fit")[1]["mix"] == expected
    assert "reference" in json.loads((tmp_path / "fit" / "config.json").read_text())["inputs"]
    assert main([*fit, "--resume"]) == 0


def test_fit_without_them_is_what_it_was(tmp_path: Path) -> None:
    assert main(["fit", *DATA, "--fit-steps", "2", "--fit-batch", "4", "--out", str(tmp_path)]) == 0
    assert "mix" not in load_autoencoder(tmp_path)[1]
    assert json.loads((tmp_path / "config.json").read_text())["inputs"].keys() == {"images"}


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--survival-weight", "1"], "--survival-weight 1.0: goes together with --reference"),
        (["--adversarial-weight", "1", "--regime", "gan"], "only with --regime autoencode"),
        (["--survival-weight", "1", "--target", "color", "--reference", "JUDGE"], "tells 0 1 2 ... apart"),
    ],
)
def test_bad_flags_end_in_one_line(
    judge: str, tmp_path: Path, flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [judge if flag == "JUDGE" else flag for flag in flags]
    assert main(["fit", *DATA, *given, "--out", str(tmp_path / "fit")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "fit").exists()
