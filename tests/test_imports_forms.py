"""The forms in which others keep the same network: read, or refused with what to do. And what else a file may be."""

from __future__ import annotations

import argparse
import functools
import gzip
import io
import pickle
import tarfile
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import foreign_nvidia
import foreign_rosinality
from advmix.generators.stylegan2 import StyleGan2
from advmix.pretrained.read import import_generator, read_generator
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded


class Other:
    """Something of which the program knows nothing."""

    def __init__(self) -> None:
        self.inner = [self]


FOREIGN = {
    "path": Path("a/b"),
    "device": torch.device("cuda:0"),
    "size": torch.Size([3, 4]),
    "sets": (frozenset({1, (2, 3)}), {"a"}, {None: 1, (1, 2): 2, 1.5: 3}),
    "ordered": OrderedDict([("a", 1)]),
    "default": defaultdict(list, a=[1]),
    "numbers": [np.float64(1.5), np.int16(3), np.complex64(1j), np.arange(3), np.dtype("U4"), np.str_("a"), 2**80],
    "bytes": [b"", b"abc", bytearray(b"abc")],
    "partial": functools.partial(print, "a"),
    "other": Other(),
    "class": Other,
    "types": [torch.float16, int, range(3), slice(1, 2), ...],
    "tensors": [
        torch.arange(3),
        torch.zeros(2, dtype=torch.bool),
        torch.zeros(1).expand(2**20),
        torch.zeros(2, dtype=torch.complex64),
    ],
    "network": nn.Sequential(nn.Linear(2, 2), nn.BatchNorm2d(2)),
}


def same(found: StyleGan2, expected: StyleGan2) -> bool:
    state = expected.state_dict()
    return all(torch.equal(tensor, state[name]) for name, tensor in found.state_dict().items())


def one_line(path: Path, pattern: str, **options: Any) -> None:
    with pytest.raises(UserError, match=pattern) as caught:
        read_generator(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return foreign_nvidia.make_network(8).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def snapshot(network: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> StyleGan2:
    return read_generator(foreign_nvidia.write_snapshot(tmp_path_factory.mktemp("a") / "a.pkl", network))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return foreign_rosinality.make_network().state_dict()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> StyleGan2:
    path = tmp_path_factory.mktemp("a") / "a.pt"
    return read_generator(foreign_rosinality.write_checkpoint(path, foreign_rosinality.make_network()))


class TestSnapshots:
    @pytest.mark.parametrize("protocol", range(6))
    def test_alone_in_a_tuple_or_in_a_dictionary(
        self, protocol: int, network: nn.Module, snapshot: StyleGan2, tmp_path: Path
    ) -> None:
        path, other = tmp_path / "file", foreign_nvidia.make_network(8, seed=1)
        for content in (
            network,
            (other, FOREIGN["network"], network),
            {"G": other, "G_ema": network},
            {"ema": network},
        ):
            with foreign_nvidia.foreign_modules():
                path.write_bytes(pickle.dumps(content, protocol))
            assert same(read_generator(path), snapshot)

    @pytest.mark.parametrize("zipped", [True, False])
    def test_saved_by_torch(self, zipped: bool, network: nn.Module, snapshot: StyleGan2, tmp_path: Path) -> None:
        path = tmp_path / "file"
        for content in (network, {"G_ema": network, "step": 3}):
            with foreign_nvidia.foreign_modules():
                torch.save(content, path, _use_new_zipfile_serialization=zipped)
            assert same(read_generator(path), snapshot)

    @pytest.mark.parametrize("thing", FOREIGN.values(), ids=FOREIGN.keys())
    def test_whatever_else_stands_beside_it(
        self, thing: Any, network: nn.Module, snapshot: StyleGan2, tmp_path: Path
    ) -> None:
        for protocol in (0, 2, 5):
            path = foreign_nvidia.write_snapshot(
                tmp_path / "a.pkl", network, protocol, D=thing, training_set_kwargs=[thing]
            )
            assert same(read_generator(path), snapshot)

    def test_several_networks_without_a_name_that_says_which(self, network: nn.Module, tmp_path: Path) -> None:
        with foreign_nvidia.foreign_modules():
            (tmp_path / "file").write_bytes(pickle.dumps({"G": network, "other": network}))
        one_line(tmp_path / "file", r"holds no G_ema, .*, but 'G', 'other'; save it as the training does")

    def test_tensors_without_settings(self, network: nn.Module, tmp_path: Path) -> None:
        torch.save(network.state_dict(), tmp_path / "file")
        one_line(
            tmp_path / "file", r"tensors of stylegan2-ada-pytorch without the settings .*; save it as the training"
        )


class TestCheckpoints:
    @pytest.mark.parametrize(
        ("wrap", "place"),
        [
            (lambda state: state, "the file"),
            (lambda state: {"ema": state, "g": {**state, "input.input": None}}, "ema"),
            (lambda state: {"generator": state, "discriminator": {"weight": torch.zeros(2)}}, "generator"),
            (lambda state: {"g_ema": {f"module.{name}": part for name, part in state.items()}}, "g_ema.module"),
            (lambda state: {"state_dict": {f"net.decoder.{name}": part for name, part in state.items()}}, "decoder"),
            (lambda state: {3: None, **state, 4: torch.zeros(2)}, "the file"),
            (lambda state: {"state": {"models": {"G_ema": state}, "step": 3}}, "state.models.G_ema"),
        ],
    )
    @pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
    def test_tensors_under_other_names(
        self,
        wrap: Callable[[Any], Any],
        place: str,
        save: Callable[[Any, Path], Any],
        state: dict[str, Tensor],
        checkpoint: StyleGan2,
        tmp_path: Path,
    ) -> None:
        save(wrap(state), tmp_path / "file")
        found = import_generator(tmp_path / "file")
        assert same(found.generator, checkpoint)
        assert found.remarks[0].startswith("the generator in it is ")
        assert found.remarks[0].endswith(place)

    @pytest.mark.parametrize("zipped", [True, False])
    @pytest.mark.parametrize("thing", FOREIGN.values(), ids=FOREIGN.keys())
    def test_whatever_else_stands_beside_them(
        self, thing: Any, zipped: bool, checkpoint: StyleGan2, tmp_path: Path
    ) -> None:
        path, network = tmp_path / "file", foreign_rosinality.make_network()
        for more in ({"args": argparse.Namespace(thing=thing)}, {"args": thing}, {"d_optim": {"state": {0: thing}}}):
            assert same(read_generator(foreign_rosinality.write_checkpoint(path, network, zipped, **more)), checkpoint)

    def test_what_is_refused_says_what_to_do(self, state: dict[str, Tensor], tmp_path: Path) -> None:
        path, network = tmp_path / "file", foreign_rosinality.make_network()
        wavelets = {**state, "to_rgbs.0.iwt.ll": torch.zeros(2, 2), "iwt.ll": torch.zeros(2, 2)}
        for content, pattern in (
            (
                network,
                "it is a whole network of the class 'foreign_rosinality.Generator', whose code is not executed; ",
            ),
            ({"g_ema": network}, r"g_ema is a whole network .*; save its tensors, torch.save\({'g_ema': "),
            ({"a": state, "b": {**state}}, "holds several generators, a, b; save one of them as {'g_ema': ...}"),
            ({"g_ema": wavelets}, "a SWAGAN, which draws wavelets and not pixels; only StyleGAN2's can be read"),
            ({"g": state, "g_ema": {"weight": torch.zeros(2)}}, "g_ema has no tensor input.input"),
            ({"g_ema": {**state, "style.1.weight": torch.zeros(0), "style.2.weight": torch.zeros(0)}}, "lr_mlp"),
            ({"g_ema": {**state, "style.1.weight": torch.zeros(6, 6).int()}}, "a tensor of 'Int' numbers"),
            ({"g_ema": {**state, "input.input": torch.zeros(1, 8, 4, 4) / 0}}, "numbers that are not finite"),
        ):
            torch.save(content, path)
            one_line(path, pattern)

    @torch.no_grad()
    @pytest.mark.parametrize("multiplier", [1.0, 0.1, 0.02, 0.005])
    def test_the_mappings_learning_rate_is_stated_or_asked_for(self, multiplier: float, tmp_path: Path) -> None:
        theirs, path = foreign_rosinality.make_network(multiplier=multiplier), tmp_path / "file"
        z = torch.randn(3, 6, generator=seeded(0, "tests", "imports"))
        foreign_rosinality.write_checkpoint(path, theirs)
        one_line(
            path,
            r"does not state the learning rate .* \(lr_mlp\), whose weights .*; name it with --mapping-lr",
        )
        found = read_generator(path, mapping_lr=multiplier)
        torch.testing.assert_close(found.mapping(z), theirs.mapped(z), rtol=1e-4, atol=1e-4)
        foreign_rosinality.write_checkpoint(path, theirs, args=argparse.Namespace(lr_mlp=multiplier))
        assert same(read_generator(path), found)
        one_line(
            path, f"states that its mapping network has a lr_mlp of {multiplier}; leave --mapping-lr", mapping_lr=0.3
        )

    def test_the_usual_learning_rate_is_said_to_be_a_guess(self, tmp_path: Path) -> None:
        path = foreign_rosinality.write_checkpoint(tmp_path / "file", foreign_rosinality.make_network())
        (remark,) = import_generator(path).remarks
        assert remark.startswith("the file does not state the learning rate of its mapping network (lr_mlp): 0.01 is")
        assert import_generator(path, mapping_lr=0.01).remarks == ()
        foreign_rosinality.write_checkpoint(path, foreign_rosinality.make_network(), args={"lr_mlp": "0.01"})
        one_line(path, "its args state an lr_mlp of '0.01', which is no number above 0")

    def test_a_mean_for_every_layer(self, tmp_path: Path) -> None:
        path, network, mean = tmp_path / "file", foreign_rosinality.make_network(), torch.arange(6.0)
        for shape in (mean, mean[None], mean.expand(6, 6).clone(), mean.expand(1, 6, 6).clone()):
            found = read_generator(foreign_rosinality.write_checkpoint(path, network, latent_avg=shape))
            assert torch.equal(found.mean_style, mean)
        foreign_rosinality.write_checkpoint(path, network, latent_avg=torch.randn(6, 6))
        one_line(path, r"its mean latent differs from layer to layer, \(6, 6\); only one for all layers can be read")
        foreign_rosinality.write_checkpoint(path, network, latent_avg=Path("mean"))
        one_line(path, "names 'pathlib.PosixPath'|names 'pathlib.WindowsPath'")

    @torch.no_grad()
    def test_a_filter_of_odd_length_is_refused(self, tmp_path: Path) -> None:
        network, path = foreign_rosinality.make_network(taps=(1.0, 2, 1)), tmp_path / "file"
        one_line(foreign_rosinality.write_checkpoint(path, network), r"is \(3, 3\); square filters of an even number")


def archive(path: Path, *names: str) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, b"content")
    return path.read_bytes()


def packed(path: Path) -> bytes:
    with tarfile.open(path, "w") as file:
        file.add(__file__)
    return path.read_bytes()


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4)).save(stream, "PNG")
    return stream.getvalue()


def safe(path: Path) -> bytes:
    save_file({"weight": torch.zeros(2)}, path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("make", "pattern"),
    [
        (
            lambda path: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "a pointer of Git LFS, not the file",
        ),
        (lambda path: b"\n<!DOCTYPE html><html></html>", "a web page or XML, not a network; download"),
        (lambda path: picture(), "a picture, not a network"),
        (lambda path: gzip.compress(b"a"), "a gzip archive; unpack it first"),
        (packed, "a tar archive; unpack it first"),
        (safe, "a safetensors file, which has no settings of a StyleGAN2; of a generator of advmix, name the folder"),
        (
            lambda path: archive(path, "images/0.png"),
            "a zip archive of 'images/0.png' and others, not one of torch.save",
        ),
        (lambda path: archive(path, "archive/data.pkl"), r"damaged, or not a pickle"),
        (lambda path: archive(path, "archive/constants.pkl", "archive/data.pkl"), "a network of TorchScript, without"),
        (lambda path: b"PK\x03\x04" + bytes(100), "damaged: not a whole zip archive"),
        (lambda path: b"PK\x05\x06" + bytes(18), "a zip archive without content"),
        (lambda path: b'{"a": 1}', "neither a pickle of stylegan2-ada-pytorch nor a checkpoint"),
        (lambda path: b"(not a pickle.", "damaged, or not a pickle"),
    ],
)
def test_other_files_are_called_what_they_are(make: Callable[[Path], bytes], pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "network.pkl"
    path.write_bytes(make(path))
    one_line(path, pattern)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    one_line(tmp_path, "a folder; name the file in it, a .pkl or .pt")


def test_noise_and_strength_do_not_multiply_in_size(tmp_path: Path) -> None:
    network = foreign_nvidia.make_network(8)
    layer = network.get_submodule("synthesis.b8.conv1")
    layer.noise_const, layer.noise_strength = torch.zeros(2000, 1), nn.Parameter(torch.zeros(1, 2000))
    one_line(
        foreign_nvidia.write_snapshot(tmp_path / "a.pkl", network), r"noise_strength is \(1, 2000\), not one number"
    )
