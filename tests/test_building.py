"""Our own files, when somebody else has written them: sizes are not believed, and numbers must be numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from advmix.audit.records import AuditRecords
from advmix.classifiers.networks import build_network, load_classifier
from advmix.data.colored import ColoredDigits
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.encoders.store import LatentStore, open_latents, write_store
from advmix.generators.style import NetworkConfig, StyleConfig
from advmix.generators.stylegan import StyleGanConfig
from advmix.generators.stylegan2 import StyleGan2Config
from advmix.latents import Latents
from advmix.training.discriminator import Discriminator, load_discriminator, save_discriminator
from advmix.training.reference import own_reference
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, read_tensors, write_json, write_tensors
from advmix.utils.torch_tools import misfit, outline
from bounded import little_memory

CONFIGS: dict[str, NetworkConfig] = {
    "style": StyleConfig(resolution=16, style_dim=4, widths=(6, 6, 5)),
    "stylegan": StyleGanConfig(resolution=16, style_dim=4, mapping_layers=2, widths=(6, 6, 5)),
    "stylegan2": StyleGan2Config(resolution=16, style_dim=4, z_dim=4, mapping=(4, 4), widths=(6, 6, 5)),
}
HUGE = (2**30, 10**9, 10**30, -1, 0, 4.0, 1.5, "4", True, None, [4], [[4, 4]], {"a": 4}, float("nan"), float("inf"))


def refused(read: Callable[[], Any], pattern: str) -> None:
    with little_memory(), pytest.raises(UserError, match=pattern) as caught:
        read()
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def change(path: Path, kind: str, **entries: Any) -> None:
    """Other metadata, sealed as ours are."""
    tensors, metadata = read_tensors(path, kind)
    write_tensors(path, kind, tensors, {**metadata, **entries})


def spoil(path: Path, kind: str, name: str, value: float) -> None:
    """A number in a tensor becomes another one."""
    tensors, metadata = read_tensors(path, kind)
    tensors[name].view(-1)[-1] = value
    write_tensors(path, kind, tensors, metadata)


@pytest.fixture(params=list(CONFIGS.values()), ids=list(CONFIGS))
def generator(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    save_autoencoder(tmp_path, Autoencoder(request.param), {"made": "by a test"})
    return tmp_path / "generator.safetensors"


def test_an_outline_takes_no_memory() -> None:
    with little_memory():
        network = outline(lambda: torch.nn.Linear(2**20, 2**20))
    assert misfit(network, {"weight": torch.zeros(2, 2)}) == ("bias", "missing", "(1048576,)")


def test_sizes_of_a_generator_are_not_believed(generator: Path) -> None:
    _, metadata = read_tensors(generator, "autoencoder")
    for name, right in metadata["network"].items():
        for value in (*HUGE, [*[6] * 100_000]):
            if json.dumps(value) != json.dumps(right) and (name, value) not in (("grid_channels", 0), ("clamp", None)):
                change(generator, "autoencoder", network={**metadata["network"], name: value})
                refused(lambda: load_autoencoder(generator.parent), rf"{generator}: ")


def test_widths_that_the_tensors_do_not_bear_out(generator: Path) -> None:
    _, metadata = read_tensors(generator, "autoencoder")
    for widths, side in (([6000, 6000, 5], 16), ([8192] * 11, 4096), ([6] * 11, 4096)):
        change(generator, "autoencoder", network={**metadata["network"], "widths": widths, "resolution": side})
        refused(lambda: load_autoencoder(generator.parent), r"the weights do not fit the network that it names \(")


@pytest.mark.parametrize(
    ("entries", "pattern"),
    [
        ({"architecture": "none"}, "holds a 'none' generator"),
        ({"architecture": ["style"]}, "this advmix knows style"),
        ({"architecture": "a" * 10**6}, "this advmix knows style"),
        ({"network": None}, "network: the whole file must be a JSON object"),
        ({"network": []}, "must be a JSON object"),
        ({"network": {}}, "missing keys"),
        ({"fingerprint": None}, "its metadata have no fingerprint"),
        ({"fingerprint": ["a"]}, "its metadata have no fingerprint, or one of another type"),
        ({"fingerprint": "a"}, "the weights do not match their fingerprint"),
    ],
)
def test_other_metadata_are_refused(entries: dict[str, Any], pattern: str, generator: Path) -> None:
    change(generator, "autoencoder", **entries)
    refused(lambda: load_autoencoder(generator.parent), pattern)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, generator: Path) -> None:
    name = next(name for name in read_tensors(generator, "autoencoder")[0] if name.startswith("encoder."))
    spoil(generator, "autoencoder", name, value)
    refused(lambda: load_autoencoder(generator.parent), rf"{generator}: not all numbers in {name} are finite")


def test_weights_of_another_type_are_refused(generator: Path) -> None:
    tensors, metadata = read_tensors(generator, "autoencoder")
    halves = {name: tensor.half() for name, tensor in tensors.items()}
    write_tensors(generator, "autoencoder", halves, metadata)
    refused(lambda: load_autoencoder(generator.parent), r"is \(.*\) torch.float16, not \(.*\) torch.float32")


def test_a_discriminators_widths_are_not_believed(tmp_path: Path) -> None:
    save_discriminator(tmp_path, Discriminator(3, (6, 5, 4)))
    path = tmp_path / "discriminator.safetensors"
    changes: list[tuple[dict[str, Any], str]] = [
        *(({"channels": value}, "") for value in HUGE),
        *(({"widths": value}, "") for value in (*HUGE, [6000, 6000, 4], [], [6] * 100_000, [6, "5", 4], [6, 5, -4])),
        ({"widths": [6, 5, 4, 4]}, "the weights do not fit a discriminator of these widths"),
    ]
    for entries, pattern in changes:
        save_discriminator(tmp_path, Discriminator(3, (6, 5, 4)))
        change(path, "discriminator", **entries)
        refused(lambda: load_discriminator(tmp_path), rf"{path}: .*{pattern}")
    save_discriminator(tmp_path, Discriminator(3, (6, 5, 4)))
    spoil(path, "discriminator", "out.bias", float("nan"))
    refused(lambda: load_discriminator(tmp_path), "not all numbers in out.bias are finite")


def test_a_classifiers_metadata_are_not_believed(tmp_path: Path) -> None:
    path, network = tmp_path / "classifier.safetensors", build_network("nominal", 3, 3, 0)
    usual = {"method": "nominal", "classes": ["a", "b", "c"], "image": [3, 16, 16]}
    changes: list[tuple[dict[str, Any], str]] = [
        *(({"classes": value}, "") for value in list[Any]((10**9, "abc", None, {}, [1, 2, 3], ["a"], ["a"] * 100_000))),
        *(({"image": value}, "") for value in (*HUGE, [], [3], [10**9, 16, 16], [3, 10**9, 16], ["3", 16, 16])),
        *(({"image": [value, 16, 16]}, "") for value in HUGE),
        *(({"method": value}, "its metadata have no method") for value in (None, 3, ["nominal"])),
        ({"classes": ["a", "b"]}, "the weights do not fit the classifier of nominal"),
    ]
    for entries, pattern in changes:
        write_tensors(path, "classifier", network.state_dict(), {**usual, **entries})
        refused(lambda: load_classifier(tmp_path), rf"{path}: .*{pattern}")
    write_tensors(path, "classifier", network.state_dict(), usual)
    assert load_classifier(tmp_path)[1]["classes"] == ["a", "b", "c"]
    spoil(path, "classifier", "11.weight", float("inf"))
    refused(lambda: load_classifier(tmp_path), "not all numbers in 11.weight are finite")


class TestLatents:
    @pytest.fixture
    def folder(self, tmp_path: Path, digits: ColoredDigits) -> Path:
        model = Autoencoder(CONFIGS["style"])
        write_store(tmp_path / "latents", model.encoder, digits.train[:50], generator="good", shard_size=16)
        return tmp_path / "latents"

    def shard(self, folder: Path, number: int, **tensors: Tensor) -> None:
        path = folder / f"latents-{number:05}.safetensors"
        write_tensors(path, "latents", tensors, read_tensors(path, "latents")[1])

    @pytest.mark.parametrize("value", [2**40, 2**62, 10**30, -1, 0, 4.0, "4", True, None, [4]])
    @pytest.mark.parametrize("name", ["count", "shard_size"])
    def test_counts_are_not_believed(self, name: str, value: Any, folder: Path) -> None:
        write_json(folder / "store.json", {**read_json(folder / "store.json"), name: value})
        refused(lambda: LatentStore.open(folder).latents, "store|shards are missing|shard of another store")

    def test_shards_are_compared_with_the_count(self, folder: Path) -> None:
        for tensors in (
            {"styles": torch.zeros(15, 6, 4)},
            {"styles": torch.zeros(16, 6, 5)},
            {"styles": torch.zeros(16, 6, 4), "grid": torch.zeros(16, 1, 2, 2)},
            {"styles": torch.zeros(0, 2**30, 2**30)},
        ):
            self.shard(folder, 1, **tensors)
            refused(
                lambda: LatentStore.open(folder).latents, r"latents-00001.safetensors: Latents\(.*16 latents like those"
            )

    def test_other_tensors_are_no_latents(self, folder: Path) -> None:
        for tensors in (
            {"other": torch.zeros(16, 6, 4)},
            {"styles": torch.zeros(16, 24)},
            {"styles": torch.zeros(16, 6, 4), "grid": torch.zeros(15, 1, 2, 2)},
            {"styles": torch.zeros(16, 6, 4).int()},
        ):
            self.shard(folder, 1, **tensors)
            refused(lambda: LatentStore.open(folder).latents, "latents-00001.safetensors: not latents, or damaged")

    def test_numbers_that_are_none_are_refused_with_their_place(self, folder: Path) -> None:
        styles = LatentStore.open(folder).latents.styles[16:32].clone()
        styles[[3, 7], 2, 1] = torch.tensor([float("nan"), float("inf")])
        self.shard(folder, 1, styles=styles)
        refused(
            lambda: LatentStore.open(folder).latents, "2 of 16 latents hold numbers that are not finite, .* place 3;"
        )
        Latents(styles).save(folder / "mine")
        refused(lambda: Latents.load(folder / "mine"), "mine: 2 of 16 latents hold numbers that are not finite")

    def test_latents_of_another_shape_than_the_generators_are_refused(self, folder: Path) -> None:
        model = Autoencoder(StyleConfig(resolution=16, style_dim=5, widths=(6, 6, 5)))
        index = {**read_json(folder / "store.json"), "encoder_network": model.network_fingerprint}
        write_json(folder / "store.json", index)
        for path in folder.glob("*.safetensors"):
            change(path, "latents", encoder_network=model.network_fingerprint)
        refused(lambda: open_latents(folder, model, {"fingerprint": "good"}), r"latents: .* but this generator wants ")


def test_what_an_audit_found_is_of_as_many_images(tmp_path: Path) -> None:
    path = tmp_path / "found.safetensors"
    for tensors in (
        {},
        {"rows": torch.zeros(0, 2**30, 2**30)},
        {"perp": torch.zeros(0, 2**40)},
        {"rows": torch.tensor(1)},
    ):
        write_tensors(path, "found", tensors, {})
        refused(lambda: AuditRecords.load(path), f"{path}: not what an audit found, or damaged")


def test_a_reference_of_other_images_or_not_finite_is_refused(tmp_path: Path, digits: ColoredDigits) -> None:
    write_tensors(tmp_path / "reference.safetensors", "reference", {"weight": torch.zeros(2)}, {"images": 3})
    refused(lambda: own_reference(tmp_path, digits.train, torch.device("cpu")), "not trained on images like these")
