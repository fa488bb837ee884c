"""What every part of the work costs, in 32 and 16 bits, compiled or not, with and without channels_last.

python benchmarks/parts.py --out results/benchmarks

One table: seconds of each part as a multiple of a nominal training step of the classifier, all timed in turn in one
run; and the floor, the convolutions and matrix products alone. Compiling itself is not counted. A step of AdvMix, steps
of StyleGAN and Algorithm 2 run as advmix runs them, the last two not compiled, and all but the last in channels_last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import tyro
from rich.table import Table
from script import run, write_rows
from timing import Layer, Work, full_products, in_turn, layers_of, measure
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.optimize import OptimizeEncoder, OptimizeOptions
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Search, cross_entropy
from advmix.training.autoencode import FitOptions, style_config
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.gan import GanOptions, GanTrainee
from advmix.training.objectives import Mixing
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.progress import console
from advmix.utils.torch_tools import frozen

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Network = TypeVar("Network", bound=nn.Module)
Call = Callable[..., Any]
ALGORITHM_2_STEPS = 5
NOMINAL, CANDIDATE, AUTOENCODER_STEP = "classifier step", "search candidate", "autoencoder step"
ADVMIX_STEP = "AdvMix step, K = 2"
SEARCH, LITERAL = "search, K = 2", "search, K = 2, image by image"
MANY_EPOCHS = 10**6
PLAIN, WORDS = "plain", ("contiguous", "tf32", "bf16", "compiled", "graphs")


@dataclass(frozen=True)
class PartsConfig:
    """Time the parts under every setting.

    Args:
        resolutions: image sizes in pixels; 64 has a spatial grid as photographs do.
        batch: images per step; 64 are those of `train`.
        rounds: how often everything is timed; the median counts.
        settings: which to time: plain, or words of contiguous, tf32 and graphs (both of a GPU alone), bf16, compiled,
            joined by hyphens.
        parts: which parts to time, by their names in the table; by default all.
        device: auto, cpu, cuda, cuda:N or mps.
        out: folder for parts.json.
    """

    resolutions: tuple[int, ...] = (16, 64)
    batch: int = 64
    rounds: int = 9
    settings: tuple[str, ...] = ("plain", "contiguous", "bf16", "compiled", "bf16-compiled")
    parts: tuple[str, ...] = ()
    device: str = "auto"
    out: Path = Path("results/benchmarks")

    def __post_init__(self) -> None:
        check_values(self, "batch rounds", least=1)
        for name in self.settings:
            if name != PLAIN and not set(name.split("-")) <= set(WORDS):
                raise UserError(f"--settings {name}: unknown; plain, or words of {' '.join(WORDS)}, joined by hyphens")


@dataclass(frozen=True)
class Setting:
    """How networks are run.

    Args:
        name: `plain` is 32 bits, on a GPU too, channels_last, not compiled; every word changes one of these.
            `graphs` is compiled and recorded as CUDA graphs.
        device: of the networks.
    """

    name: str
    device: torch.device

    @property
    def memory_format(self) -> torch.memory_format:
        """Of weights and images."""
        return torch.contiguous_format if "contiguous" in self.name else torch.channels_last

    @property
    def arithmetic(self) -> ArithmeticOptions:
        """Bits, and whether compiled."""
        return ArithmeticOptions("bf16" if "bf16" in self.name else "32", "compiled" in self.name)

    def exactly(self, work: Work) -> Work:
        """The same in products of 32 bits, or of TF32."""

        def run() -> None:
            with full_products(self.device, full="tf32" not in self.name):
                work()

        return run

    def precision(self) -> AbstractContextManager[object]:
        """In which forward passes are made."""
        return self.arithmetic.reduced(self.device)

    @property
    def as_advmix_runs(self) -> bool:
        """Whether the whole of StyleGAN's training and of Algorithm 2 can be run so: they are not compiled."""
        return not {"compiled", "graphs"} & set(self.name.split("-"))

    def fabric(self) -> Fabric:
        """The machine in this precision."""
        return make_fabric(str(self.device), precision=self.arithmetic.precision)

    def ready(self, call: Call) -> Call:
        """A forward pass, compiled where the setting says so."""
        if "graphs" in self.name:
            return torch.compile(call, dynamic=False, mode="reduce-overhead")
        return self.arithmetic.ready(call)

    def place(self, tensor: Tensor) -> Tensor:
        """Images on the device, in the memory format."""
        return tensor.to(self.device).contiguous(memory_format=self.memory_format)


class Parts:
    """Networks and images of one resolution under one setting."""

    def __init__(self, resolution: int, batch: int, setting: Setting) -> None:
        torch.manual_seed(0)
        pixels = torch.randint(256, (batch, 3, resolution, resolution), dtype=torch.uint8)
        labels = torch.randint(10, (batch,))
        self.setting = setting
        self.set = ImageSet(pixels, labels, tuple(map(str, range(10))))
        self.images, self.labels = setting.place(pixels / 255), labels.to(setting.device)
        shape = style_config(self.set, FitOptions())
        self.model = self._own(Autoencoder(shape))
        self.frozen = self._own(Autoencoder(shape)).requires_grad_(False).eval()
        self.classifier = self._own(conv_net(10))
        self.split = Split.fine(shape.layers, shape.layers if shape.grid_channels else 2)
        with torch.no_grad():
            self.latents: Latents = self.frozen.encoder(self.images)
            self.state = self.frozen.generator.prefix(self.latents, self.split)
        self.perp = self.split.perp_of(self.latents)

    def _own(self, network: Network) -> Network:
        return network.to(self.setting.device).to(memory_format=self.setting.memory_format)

    def works(self) -> Iterator[tuple[str, Work]]:
        """Everything that is timed under every setting, by name."""
        yield NOMINAL, self._step(self.classifier, self.setting.ready(self._nominal))
        yield CANDIDATE, self._candidate(self.setting.ready(self._judge))
        yield "encode", self._forward(self.setting.ready(self.frozen.encoder.encode_signed), self.images)
        yield "decode", self._forward(self.setting.ready(self.frozen.generator.decode_signed), self.latents)
        yield AUTOENCODER_STEP, self._step(self.model, self.setting.ready(self._reconstruct))
        if self.setting.memory_format == torch.channels_last and "graphs" not in self.setting.name:
            yield ADVMIX_STEP, self._advmix()
            yield SEARCH, self._search(slice(None))
        if self.setting.name == PLAIN:
            yield LITERAL, in_turn([self._search(slice(place, place + 1)) for place in range(len(self.set))])

    def whole_works(self) -> Iterator[tuple[str, Work]]:
        """What is timed as advmix runs it: Algorithm 2, and steps of StyleGAN."""
        encoder = OptimizeEncoder(
            self.frozen.generator, self.split, self.latents, options=OptimizeOptions(optimize_steps=ALGORITHM_2_STEPS)
        )
        yield f"Algorithm 2, {ALGORITHM_2_STEPS} steps", self._forward(encoder.encode_signed, self.images)
        if self.setting.memory_format == torch.channels_last:
            gan = GanTrainee(self.set, GanOptions(gan_batch=len(self.set)), 0, self.setting.fabric())
            yield "GAN step", lambda: gan.update(gan.loss(1))
            yield "GAN step with R1", lambda: gan.update(gan.loss(0))

    def _mixer(self) -> AdvMix:
        how = self.setting.arithmetic
        return AdvMix(self.frozen.generator, self.split, Search(), arithmetic=how, verdicts=False)

    def _search(self, rows: slice) -> Work:
        """Algorithm 1 for some images."""
        mixer, own, labels = self._mixer(), self.latents[rows], self.labels[rows]
        return lambda: mixer(self.classifier, own, labels, self.latents)

    def _advmix(self) -> Work:
        """A step of `train --method advmix`, reading its batch included."""
        network, options = self._own(conv_net(10)), TrainOptions(epochs=MANY_EPOCHS, batch=len(self.set))
        parts = network, Mixing(self._mixer(), self.latents), self.set, options, 0, self.setting.fabric()
        trainee = ClassifierTrainee(*parts, compiled=self.setting.arithmetic.compile)
        return lambda: trainee.update(trainee.loss(0))

    def _nominal(self) -> Tensor:
        return F.cross_entropy(self.classifier(self.images), self.labels)

    def _judge(self, perp: Tensor) -> Tensor:
        logits = self.classifier(self.frozen.generator.render(self.state, perp))
        return cross_entropy(logits, self.labels).sum()

    def _reconstruct(self) -> Tensor:
        signed = self.images * 2 - 1
        return F.mse_loss(self.model.generator.decode_signed(self.model.encoder.encode_signed(signed)), signed)

    def _step(self, network: nn.Module, loss_of: Call) -> Work:
        optimizer = torch.optim.Adam(network.parameters())

        def step() -> None:
            network.train()
            optimizer.zero_grad()
            with self.setting.precision():
                loss = loss_of()
            loss.backward()
            optimizer.step()

        return step

    def _candidate(self, judge: Call) -> Work:
        def candidate() -> None:
            self.classifier.eval()
            perp = self.perp.detach().requires_grad_()
            with frozen(self.classifier), self.setting.precision():
                loss = judge(perp)
            torch.autograd.grad(loss, perp)

        return candidate

    def _forward(self, call: Call, argument: object) -> Work:
        def forward() -> None:
            with torch.no_grad(), self.setting.precision():
                call(argument)

        return forward

    def floors(self) -> dict[str, Work]:
        """The products of each part alone, for those that have been counted."""
        dec, enc, judge = self.frozen.generator, self.frozen.encoder, self.classifier.eval()
        render = layers_of(dec, lambda: dec.render(self.state, self.perp))
        classify = layers_of(judge, lambda: judge(self.images))
        encode, decode = layers_of(enc, lambda: enc(self.images)), layers_of(dec, lambda: dec(self.latents))
        return {
            NOMINAL: _products(classify, trained=True),
            CANDIDATE: in_turn([_products(render), _products(classify)]),
            "encode": in_turn([layer.forward for layer in encode]),
            "decode": in_turn([layer.forward for layer in decode]),
            AUTOENCODER_STEP: in_turn([_products(encode, trained=True), _products(decode, trained=True, first=True)]),
        }


def _products(layers: list[Layer], trained: bool = False, first: bool = False) -> Work:
    """Forward and backward: into the input, of a trained network into the weights; into the first input only of a
    network that is not trained or has trained ones before it.
    """
    backward = [layer.backward(not trained or first or place > 0, trained) for place, layer in enumerate(layers)]
    return in_turn([*(layer.forward for layer in layers), *backward])


def rows_of(resolution: int, batch: int, seconds: dict[tuple[str, str], float]) -> list[dict[str, Any]]:
    """One row for each part and setting: images a second; multiples of the plain nominal step, of the part in plain, of
    its floor.
    """
    nominal = seconds["plain", NOMINAL]
    rows = []
    for (setting, part), value in seconds.items():
        if setting != "floor":
            least = seconds.get(("floor", part))
            rows.append(
                {
                    "resolution": resolution,
                    "part": part,
                    "setting": setting,
                    "milliseconds": 1000 * value,
                    "images_per_second": batch / value,
                    "times_nominal": value / nominal,
                    "times_plain": value / seconds["plain", part],
                    "times_floor": None if least is None else value / least,
                }
            )
    return sorted(rows, key=lambda row: [part for _, part in seconds].index(row["part"]))


def time_parts(resolution: int, config: PartsConfig, device: torch.device) -> list[dict[str, Any]]:
    """All parts under all settings, in turn."""
    works: dict[tuple[str, str], Work] = {}
    for name in dict.fromkeys((PLAIN, *config.settings)):
        setting = Setting(name, device)
        parts = Parts(resolution, config.batch, setting)
        found = dict(parts.works())
        if setting.as_advmix_runs:
            found |= dict(parts.whole_works())
        wanted = (NOMINAL, *(config.parts or found))
        works |= {(name, part): setting.exactly(work) for part, work in found.items() if part in wanted}
        if unknown := [part for part in config.parts if name == PLAIN and part not in found]:
            raise UserError(f"--parts {unknown[0]!r}: unknown; choose from {', '.join(found)}")
        if name == PLAIN:
            works |= {("floor", part): setting.exactly(work) for part, work in parts.floors().items()}
    return rows_of(resolution, config.batch, measure(works, config.rounds, device))


def main() -> None:
    """Time, print, write."""
    config = tyro.cli(PartsConfig)
    device = make_fabric(config.device).device
    rows = [row for resolution in config.resolutions for row in time_parts(resolution, config, device)]
    settings = {"classifier": "conv_net", "batch": config.batch, "rounds": config.rounds}
    write_rows(config.out, "parts", rows, **settings)
    for resolution in config.resolutions:
        console.print(table_of([row for row in rows if row["resolution"] == resolution]))


def table_of(rows: list[dict[str, Any]]) -> Table:
    """Multiples of a nominal step, a column for each setting; of one resolution."""
    found = {(row["part"], row["setting"]): row for row in rows}
    settings = list(dict.fromkeys(row["setting"] for row in rows))
    table = Table("nominal steps", "floor", *settings, title=f"{rows[0]['resolution']} pixels")
    for part in dict.fromkeys(row["part"] for row in rows):
        plain = found[part, "plain"]
        floor = plain["times_floor"] and plain["times_nominal"] / plain["times_floor"]
        cells = [floor, *(found.get((part, name), {}).get("times_nominal") for name in settings)]
        table.add_row(part, *("–" if cell is None else f"{cell:.2f}" for cell in cells))
    return table


if __name__ == "__main__":
    run(main)
