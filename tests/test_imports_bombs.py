"""Small files that ask for much memory or work: each is read or refused, in little of both."""

from __future__ import annotations

import argparse
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import foreign_nvidia
import foreign_rosinality
from advmix.pretrained.read import read_generator
from advmix.utils.errors import UserError
from bounded import little_memory


def doubled(levels: int = 200) -> Any:
    """As text it would be longer than anything: every tuple holds the one before twice."""
    value: Any = ("a", "b")
    for _ in range(levels):
        value = (value, value)
    return value


def deep(begin: bytes, step: bytes, levels: int = 200_000) -> bytes:
    """A pickle without its end, nested so deep."""
    return begin + step * levels


DEEP = {
    "tuples": deep(b")", b"\x85"),
    "lists": deep(b"", b"]", 200_000) + b"a" * 199_999,
    "dictionaries": deep(b"", b"}\x8c\x01a", 100_000) + b"}" + b"s" * 100_000,
    "records": deep(b")", b"\x85cposix\nsystem\n" + b"\x8c\x01a\x85R\x85", 50_000),
    "calls": b"cposix\nsystem\n" + b")R" * 200_000,
    "parameters": b"ctorch._utils\n_rebuild_parameter\n(" * 50_000 + b"N" + b"tR" * 50_000,
    "storages": b"ctorch.storage\n_load_from_bytes\n(" * 50_000 + b"N" + b"tR" * 50_000,
}


def refused(path: Path, pattern: str) -> None:
    with little_memory(), pytest.raises(UserError, match=pattern) as caught:
        read_generator(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("nested", DEEP.values(), ids=DEEP.keys())
def test_nesting_has_no_end(nested: bytes, tmp_path: Path) -> None:
    path = foreign_nvidia.write_snapshot(tmp_path / "a.pkl", foreign_nvidia.make_network(8), 4)
    whole = path.read_bytes()
    assert whole.endswith(b"u.")
    path.write_bytes(whole[:-2] + b"\x8c\x01d" + nested + b"u.")
    with little_memory():
        assert read_generator(path).resolution == 8


def change(part: str, name: str, value: Any) -> Callable[[nn.Module], None]:
    return lambda network: setattr(network.get_submodule(part), name, value)


HUGE = 10**1_000_000
SETTINGS: tuple[tuple[Callable[[nn.Module], None], str], ...] = (
    (change("mapping.fc0", "activation", doubled()), "has the activation a tuple, not lrelu"),
    (change("synthesis.b4", "architecture", doubled()), "architecture 'a tuple' is not one"),
    (change("", "img_resolution", doubled()), "G_ema does not state its img_resolution"),
    (change("", "img_resolution", HUGE), "G_ema does not state its img_resolution"),
    (change("", "img_resolution", float("nan")), "G_ema does not state its img_resolution"),
    (change("", "img_resolution", True), "G_ema does not state its img_resolution"),
    (change("", "img_resolution", 16.5), "states a img_resolution of 16.5, which is no whole number"),
    (change("", "z_dim", 10**9), "z_dim 1000000000: must be a whole number from 1 to 8,192"),
    (change("", "img_channels", 10**9), "channels 1000000000: must be"),
    (change("", "w_dim", 10**9), "style_dim 1000000000: must be"),
    (change("mapping", "num_layers", 10**9), "a mapping network of 1,000,000,000 layers; 1 to 64 are possible"),
    (change("mapping", "c_dim", HUGE), "does not state its c_dim"),
    (change("mapping.fc0", "weight_gain", "1"), "G_ema.mapping.fc0 does not state its weight_gain"),
    (change("synthesis.b8.conv0", "conv_clamp", [1]), "G_ema.synthesis.b8.conv0 does not state its conv_clamp"),
)


@pytest.mark.parametrize(("change", "pattern"), SETTINGS, ids=range(len(SETTINGS)))
def test_settings_are_checked_before_they_are_used(
    change: Callable[[nn.Module], None], pattern: str, tmp_path: Path
) -> None:
    network = foreign_nvidia.make_network().requires_grad_(False)
    change(network)
    refused(foreign_nvidia.write_snapshot(tmp_path / "a.pkl", network), pattern)


def test_noise_that_is_none_is_of_the_networks_size(tmp_path: Path) -> None:
    network = foreign_nvidia.make_network(8, use_noise=False)
    change("synthesis.b4.conv1", "resolution", 10**9)(network)
    refused(foreign_nvidia.write_snapshot(tmp_path / "a.pkl", network), "what becomes convs.0.noise is")


def test_long_filters_are_not_multiplied_out(tmp_path: Path) -> None:
    network = foreign_nvidia.make_network(8)
    for module in (network.get_submodule("synthesis.b8"), network.get_submodule("synthesis.b8.conv0")):
        module.resample_filter = torch.ones(9000)
    refused(foreign_nvidia.write_snapshot(tmp_path / "a.pkl", network), "has a filter of 9,000 taps; 64 are possible")


def test_wide_layers_are_refused_and_long_means_drawn_bit_by_bit(tmp_path: Path) -> None:
    for width in (20_000, 8_000):
        network = foreign_nvidia.make_network(8, mapping={"layer_features": width, "w_avg_beta": None})
        path = foreign_nvidia.write_snapshot(tmp_path / "a.pkl", network)
        if width > 8192:
            refused(path, "mapping 20000: must be a whole number from 1 to 8,192")
        else:
            with little_memory(2**29):  # all draws at once would take 10,000 * 8,000 numbers, several times
                assert read_generator(path).mean_style.isfinite().all()


def test_one_storage_for_many_tensors_is_not_taken_many_times(tmp_path: Path) -> None:
    shared = torch.randn(1_000_000)
    layers = {f"style.{index}.weight": shared.view(1000, 1000) for index in range(1, 61)}
    layers |= {f"style.{index}.bias": shared[:1000] for index in range(1, 61)}
    state = {**foreign_rosinality.make_network().state_dict(), **layers}
    torch.save({"g_ema": state}, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "its tensors are together more than 2 times what the file holds")
    network = foreign_nvidia.make_network(8, mapping={"num_layers": 60})
    for index in range(60):
        network.get_submodule(f"mapping.fc{index}").weight = nn.Parameter(shared.view(1000, 1000)[:, :6])
    with foreign_nvidia.foreign_modules():
        torch.save(network, tmp_path / "a.pt")
    refused(tmp_path / "a.pt", "its tensors are together more than 2 times what the file holds")


def test_one_storage_may_be_named_many_times(tmp_path: Path) -> None:
    state, shared = foreign_rosinality.make_network().state_dict(), torch.zeros(100_000)
    more = {f"other.{index}": shared.expand(4, -1) for index in range(5000)}
    torch.save({"g_ema": {**state, **more}}, tmp_path / "a.pt")
    with little_memory():
        assert read_generator(tmp_path / "a.pt").resolution == 16


def test_steps_are_counted_whatever_they_are(tmp_path: Path) -> None:
    memorised = b"\x80\x04](" + b"N" * 300_000 + b"e\x85\x94cbuiltins\nset\n\x94"
    long = memorised + b"(" + b"h\x01h\x00R" * 100_000 + b"t."
    text = b"\x80\x02X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"\x8c\x06latin1\x86q\x00c_codecs\nencode\nq\x01"
    for content, pattern in (
        (long, "more than 1,000,000 steps in it"),
        (text + b"(" + b"h\x01h\x00R" * 100_000 + b"t.", "holds no G_ema"),
        (b"\x80\x04\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b".", "holds no G_ema"),
        (
            b"\x80\x04}(" + b"".join(b"\x8a\x08" + struct.pack("<q", n << 40) + b"N" for n in range(9_000)) + b"u.",
            "no G_",
        ),
    ):
        (tmp_path / "a.pkl").write_bytes(content)
        refused(tmp_path / "a.pkl", pattern)


@pytest.mark.parametrize(
    "value", [doubled(), HUGE, [doubled()], {"a": doubled()}], ids=["tuples", "number", "list", "dict"]
)
def test_options_of_the_training_are_not_written_out(value: Any, tmp_path: Path) -> None:
    path, network = tmp_path / "a.pt", foreign_rosinality.make_network()
    foreign_rosinality.write_checkpoint(path, network, args=argparse.Namespace(lr_mlp=value))
    refused(path, "its args state an lr_mlp of a .*, which is no number above 0")
    foreign_rosinality.write_checkpoint(path, network, latent_avg=value)
    refused(path, "latent_avg is not a tensor of numbers, but a ")
    torch.save({"g_ema": value}, path)
    refused(path, "holds no g_ema|g_ema has no tensor|and no g_ema")


class TestArchives:
    def test_compressed_members_are_not_unpacked(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        foreign_rosinality.write_checkpoint(path, foreign_rosinality.make_network())
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data/1000", bytes(210_000_000))
        assert path.stat().st_size < 1_000_000
        with little_memory():
            assert read_generator(path).resolution == 16
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", bytes(210_000_000))
        refused(path, "a compressed or encrypted archive, which torch.save never writes")

    def test_members_do_not_overlap(self, tmp_path: Path) -> None:
        path = tmp_path / "a.pt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a/data.pkl", pickle.dumps({}))
            archive.writestr("a/data/0", bytes(1000))
            for index in range(1, 1000):
                archive.filelist.append(archive.getinfo("a/data/0"))
                archive.NameToInfo[f"a/data/{index}"] = archive.filelist[-1]
        refused(path, "damaged: an archive with a name twice, or whose members overlap")


@pytest.mark.parametrize("count", [2**40, 2**61, 0])
def test_storages_are_no_larger_than_the_file(count: int, tmp_path: Path) -> None:
    path, network = tmp_path / "a.pt", foreign_rosinality.make_network()
    whole = foreign_rosinality.write_checkpoint(path, network, zipped=False).read_bytes()
    mean = struct.pack("<q", network.input.input.numel())
    assert whole.count(mean) > 0
    path.write_bytes(whole.replace(mean, struct.pack("<q", count)))
    refused(path, "a storage that should hold")
