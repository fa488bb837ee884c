"""Other people's generators, from synthetic files of the published formats: what they draw, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import foreign_nvidia
import foreign_rosinality
from advmix.generators.stylegan2 import StyleGan2
from advmix.latents import Latents, Split
from advmix.pretrained.nvidia import Found
from advmix.pretrained.read import read_found, read_generator
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded

ODD_FILTER = [[1.0, 2, 0, 1], [0, 3, 1, 2], [5, 1, 1, 1], [0, 0, 2, 7]]
"""Neither symmetric nor separable: a flip or a transposition shows."""

NVIDIA: dict[str, dict[str, Any]] = {
    "skip": {},
    "resnet": {"architecture": "resnet", "conv_clamp": 0.7, "num_fp16_res": 2},
    "orig": {"architecture": "orig", "use_noise": False},
    "clamp": {"conv_clamp": 0.5},
    "filter": {"taps": ODD_FILTER},
    "six taps": {"taps": [1.0, 2, 4, 4, 1, 1], "architecture": "resnet"},
    "eight taps": {"taps": [1.0, 2, 4, 4, 1, 1, 3, 1]},
    "grey": {"img_channels": 1, "channels_last": True},
    "frozen": {"mapping": {"freeze_layers": 1, "layer_features": 7, "lr_multiplier": 0.1}},
    "8 pixels": {"img_resolution": 8},
}


def codes(count: int, layers: int, seed: int = 0) -> Tensor:
    return torch.randn(count, layers, 6, generator=seeded(seed, "tests", "imports"), dtype=torch.float64)


def in_double(found: Found) -> StyleGan2:
    """The network with what was read, before it is rounded to float32."""
    config, tensors = found
    network = StyleGan2(config).double()
    network.load_state_dict({"mean_style": torch.zeros(config.style_dim), **tensors})
    return network


def from_pickle(path: Path, label: int | None = None) -> StyleGan2:
    return in_double(read_found(path, label)[1])


@torch.no_grad()
@pytest.mark.parametrize("settings", NVIDIA.values(), ids=NVIDIA.keys())
def test_nvidias_networks_draw_what_the_papers_say(settings: dict[str, Any], tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network(**settings)
    ours = from_pickle(foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs))
    assert ours.layers == theirs.num_ws
    styles, z = codes(3, ours.layers), codes(3, 1)[:, 0, :5]
    expected = theirs.double().synthesis(styles)
    assert float(expected.std()) > 0.05
    torch.testing.assert_close(ours.decode_signed(Latents(styles)), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.mapping(z), theirs.mapping(z), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.mean_style, theirs.mapping.w_avg)


@torch.no_grad()
@pytest.mark.parametrize("taps", [(1.0, 3, 3, 1), (1.0, 2, 4, 0), (1.0, 2), (1.0, 2, 4, 4, 1, 1)], ids=str)
@pytest.mark.parametrize("zipped", [True, False])
def test_rosinalitys_networks_draw_what_the_paper_says(taps: tuple[float, ...], zipped: bool, tmp_path: Path) -> None:
    theirs = foreign_rosinality.make_network(taps=taps)
    path = foreign_rosinality.write_checkpoint(tmp_path / "checkpoint.pt", theirs, zipped)
    ours = in_double(read_found(path)[1])
    styles, z = codes(3, ours.layers), codes(3, 1)[:, 0]
    torch.testing.assert_close(ours.decode_signed(Latents(styles)), theirs.double()(styles), rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.mapping(z), theirs.mapped(z), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("protocol", range(6))
def test_reading_makes_a_frozen_network_in_float32(protocol: int, tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network()
    ours = read_generator(foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs, protocol))
    styles = codes(2, ours.layers)
    found = ours.decode_signed(Latents(styles.float()))
    torch.testing.assert_close(found.double(), theirs.double().synthesis(styles), rtol=0, atol=1e-4)
    assert found.dtype == torch.float32
    assert not ours.training
    assert not any(parameter.requires_grad for parameter in ours.parameters())


@torch.no_grad()
def test_a_label_is_part_of_the_mapping(tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network(c_dim=4)
    path = foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs)
    z, theirs = codes(3, 1)[:, 0, :5], theirs.double()
    for label in (0, 3):
        expected = theirs.mapping(z, torch.eye(4, dtype=torch.float64)[[label] * 3])
        torch.testing.assert_close(from_pickle(path, label).mapping(z), expected, rtol=0, atol=1e-12)
    for wrong in (None, 4, -1):
        with pytest.raises(UserError, match=r"snapshot.pkl: a conditional generator: .* --label 0 to 3"):
            read_generator(path, wrong)


def test_a_label_without_classes_is_refused(tmp_path: Path) -> None:
    pickled = foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", foreign_nvidia.make_network())
    checkpoint = foreign_rosinality.write_checkpoint(tmp_path / "checkpoint.pt", foreign_rosinality.make_network())
    for path in (pickled, checkpoint):
        with pytest.raises(UserError, match="knows no classes, so that --label 1 has no meaning"):
            read_generator(path, 1)


@torch.no_grad()
def test_the_mean_is_the_files_or_that_of_many_draws(tmp_path: Path) -> None:
    theirs = foreign_rosinality.make_network()
    path, mean = tmp_path / "checkpoint.pt", torch.arange(6.0)
    given = read_generator(foreign_rosinality.write_checkpoint(path, theirs, latent_avg=mean))
    assert torch.equal(given.mean_style, mean)
    drawn = read_generator(foreign_rosinality.write_checkpoint(path, theirs))
    many = theirs.mapped(torch.randn(20_000, 6, generator=seeded(0, "tests", "mean")))
    torch.testing.assert_close(drawn.mean_style, many.mean(dim=0), rtol=0, atol=0.08)
    assert float((drawn.mean_style / many.std(dim=0)).abs().max()) > 0.1


@torch.no_grad()
def test_noise_that_was_never_stored_is_none(tmp_path: Path) -> None:
    theirs = foreign_rosinality.make_network()
    theirs.noises = torch.nn.Module()
    ours = read_generator(foreign_rosinality.write_checkpoint(tmp_path / "checkpoint.pt", theirs))
    noises = [tensor for name, tensor in ours.named_buffers() if name.endswith("noise")]
    assert len(noises) == len(ours.convs)
    assert not any(noise.any() for noise in noises)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_two_stages_equal_the_whole_for_every_split(architecture: str, tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network(8, architecture=architecture, conv_clamp=2.0)
    ours = from_pickle(foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs))
    latents, other = Latents(codes(2, ours.layers)), Latents(codes(2, ours.layers, 1))
    for count in range(1, ours.layers + 1):
        for perp in combinations(range(ours.layers), count):
            split = Split(ours.layers, perp)
            state, mixed = ours.prefix(latents, split), split.combine(latents, other)
            found = ours.render_signed(state, split.perp_of(other))
            torch.testing.assert_close(found, ours.decode_signed(mixed), rtol=0, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("architecture", ["skip", "resnet"])
def test_a_state_keeps_what_runs_beside_its_features(architecture: str, tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network(architecture=architecture)
    ours = from_pickle(foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs))
    latents, other = Latents(codes(3, ours.layers)), Latents(codes(4, ours.layers, 1))
    split, rows = Split(ours.layers, (4, 5)), torch.tensor([2, 0])
    state = ours.prefix(latents, split)
    assert state.beside is not None
    found = ours.render_signed(state[rows].repeat(2), split.perp_of(other))
    expected = ours.decode_signed(split.combine(latents[torch.tensor([2, 0, 2, 0])], other))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_every_latent_number_reaches_the_image(tmp_path: Path) -> None:
    theirs = foreign_nvidia.make_network()
    ours = read_generator(foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", theirs))
    styles = codes(1, ours.layers).float().requires_grad_()
    (gradient,) = torch.autograd.grad(ours.decode_signed(Latents(styles))[0, 0, 3, 5], styles)
    assert (gradient.abs() > 0).all()


def test_splits_of_other_networks_are_refused(tmp_path: Path) -> None:
    ours = read_generator(foreign_nvidia.write_snapshot(tmp_path / "s.pkl", foreign_nvidia.make_network()))
    latents = ours.mean_latents(1)
    with pytest.raises(UserError, match="made for 8 layers, but the generator has 6"):
        ours.prefix(latents, Split(8, (7,)))
    with pytest.raises(UserError, match="the grid cannot be z⊥"):
        ours.prefix(latents, Split(6, (5,), grid=True))


class TestRefusals:
    """Files of the right format that hold something else: one line, which says what."""

    def refused(self, tmp_path: Path, network: Any, pattern: str) -> None:
        path = foreign_nvidia.write_snapshot(tmp_path / "snapshot.pkl", network)
        with pytest.raises(UserError, match=pattern) as caught:
            read_generator(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert "\n" not in str(caught.value)

    def test_alias_free_networks(self, tmp_path: Path) -> None:
        network = foreign_nvidia.make_network()
        for name in list(network.synthesis._modules):
            del network.synthesis._modules[name]
        network.synthesis.input = foreign_nvidia.Discriminator(img_channels=3)
        network.synthesis.L0_36_512 = foreign_nvidia.Discriminator(img_channels=3)
        network.synthesis.L0_36_512.in_size = np.asarray([36, 36])  # type: ignore[assignment]
        self.refused(tmp_path, network, r"a StyleGAN3 \(alias-free\) network; only StyleGAN2's can be read")

    def test_other_networks(self, tmp_path: Path) -> None:
        self.refused(tmp_path, foreign_nvidia.Discriminator(img_channels=3), "G_ema has no module mapping")

    @pytest.mark.parametrize(
        ("settings", "pattern"),
        [
            ({"img_channels": 4}, "images of 4 channels; 1 or 3"),
            ({"taps": [1.0, 2, 1]}, "a filter of 3 taps"),
            ({"mapping": {"activation": "relu"}}, "G_ema.mapping.fc0 has the activation 'relu'"),
            ({"activation": "linear"}, "G_ema.synthesis.b4.conv1 has the activation 'linear'"),
        ],
    )
    def test_settings_that_are_not_known(self, settings: dict[str, Any], pattern: str, tmp_path: Path) -> None:
        self.refused(tmp_path, foreign_nvidia.make_network(**settings), pattern)

    def test_parts_that_do_not_fit_together(self, tmp_path: Path) -> None:
        for part, change, pattern in (
            ("synthesis.b8.conv0", lambda layer: setattr(layer, "conv_clamp", 1.0), "is clamped at 1.0, other layers"),
            ("synthesis.b8.conv0", lambda layer: layer.resample_filter.mul_(2), "another resample_filter"),
            ("synthesis.b8", lambda block: setattr(block, "architecture", "orig"), "b8 has another architecture"),
            ("synthesis", lambda network: delattr(network, "b16"), "G_ema.synthesis has no module b16"),
            ("synthesis.b16.torgb", lambda layer: delattr(layer, "bias"), "torgb has no tensor bias"),
            ("mapping.fc1", lambda layer: delattr(layer, "weight_gain"), "fc1 does not state its weight_gain"),
            ("mapping", lambda network: setattr(network, "z_dim", 0), "images of a label alone"),
            ("", lambda network: setattr(network, "img_resolution", 24), "images of 24 pixels; a side must be one of"),
            ("", lambda network: setattr(network, "w_dim", 7), "cannot make styles of 7"),
        ):
            network = foreign_nvidia.make_network().requires_grad_(False)
            change(network.get_submodule(part))
            self.refused(tmp_path, network, pattern)

    def test_tensors_of_another_shape_or_not_finite(self, tmp_path: Path) -> None:
        changes: tuple[tuple[Callable[[Tensor], Tensor], str], ...] = (
            (lambda weight: weight[:, :5], r"what becomes convs.2.weight is \(8, 5, 3, 3\); .* it is \(8, 8, 3, 3\)"),
            (lambda weight: weight / 0, "numbers that are not finite, in what becomes convs.2.weight"),
            (lambda weight: weight[0], "what becomes convs.2.weight is"),
        )
        for change, pattern in changes:
            network = foreign_nvidia.make_network()
            layer = network.get_submodule("synthesis.b8.conv1")
            layer.weight = torch.nn.Parameter(change(layer.get_parameter("weight").detach()))
            self.refused(tmp_path, network, pattern)

    def test_checkpoints_that_do_not_fit(self, tmp_path: Path) -> None:
        network = foreign_rosinality.make_network()
        for change, pattern in (
            (lambda state: state.pop("conv1.conv.weight"), "g_ema has no tensor conv1.conv.weight"),
            (lambda state: state.update({"conv1.conv.weight": "text"}), "'conv1.conv.weight' is not a tensor"),
            (lambda state: state.update({"input.input": torch.zeros(1, 8, 16, 16)}), "what becomes constant is"),
            (lambda state: state.update({"convs.0.conv.blur.kernel": torch.ones(4, 4)}), "another filter than"),
            (lambda state: state.update({"conv1.conv.weight": torch.zeros(8)}), "do not make a StyleGAN2"),
            (lambda state: [state.pop(name) for name in list(state) if "to_rgbs" in name], "at 1 resolutions"),
        ):
            state = network.state_dict()
            change(state)
            path = tmp_path / "checkpoint.pt"
            torch.save({"g_ema": state}, path)
            with pytest.raises(UserError, match=pattern):
                read_generator(path)
        torch.save({"model": {"weight": torch.zeros(2)}}, path)
        with pytest.raises(UserError, match=r"holds no G_ema, .* and no g_ema, .*, but 'model'"):
            read_generator(path)

    def test_other_files(self, tmp_path: Path) -> None:
        path = tmp_path / "file"
        with pytest.raises(UserError, match=f"{path}: no such file"):
            read_generator(path)
        for content, pattern in (
            (b"", "0 bytes"),
            (b"not a network", "neither a pickle of stylegan2-ada-pytorch nor a checkpoint"),
            (b"\x80\x04]\x94.", "holds no G_ema"),
            (b"\x80\x02cdnnlib.tflib.network\nNetwork\n)\x81.", "a TensorFlow pickle; convert it with legacy.py"),
        ):
            path.write_bytes(content)
            with pytest.raises(UserError, match=pattern):
                read_generator(path)
