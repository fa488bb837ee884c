"""What `advmix inspect` writes into results.json, as plain values."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from advmix.classifiers.open import OpenClassifier
from advmix.commands.evaluate import generator_summary
from advmix.commands.train import TrainConfig, run_train
from advmix.data.datasets import Data, open_data
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR, is_ready_made
from advmix.encoders.network import encoded
from advmix.encoders.store import PoolOptions
from advmix.generators.base import Generator
from advmix.generators.style import NetworkConfig
from advmix.inspect.figures import (
    GridRow,
    dimension_maps,
    headline,
    layer_bars,
    layer_table,
    mixing_by_layer,
    row_name,
    sentences,
)
from advmix.inspect.scores import (
    DimensionScores,
    LayerScores,
    Proposal,
    SwapScore,
    dimension_scores,
    layer_scores,
    other_label,
    propose_split,
    verdict,
)
from advmix.intervals import Interval
from advmix.latents import (
    Latents,
    Split,
    complement_split,
    join_splits,
    single_splits,
    split_name,
    split_parts,
)
from advmix.pools import FittedModel, check_size, load, open_generator
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.training.classify import TrainOptions
from advmix.training.reference import (
    UNBIASED,
    Reference,
    judge_reference,
    open_reference,
    unbiased_config,
    unbiased_test,
)
from advmix.utils.config import Settings, check_values
from advmix.utils.device import open_device
from advmix.utils.errors import UserError
from advmix.utils.files import read_json, write_json
from advmix.utils.progress import console
from advmix.utils.runs import open_run
from advmix.utils.torch_tools import eval_mode, generator

TOP = 3


def flags(split: Split) -> str:
    """A split as the commands take it: `--perp 4 5`, `--perp 0 1 --perp-grid`."""
    layers = " ".join(["--perp", *map(str, split.perp)])
    return f"{layers} --perp-grid" if split.grid else layers


def reference_entry(reference: Reference, scores: LayerScores) -> dict[str, Any]:
    """Which classifier was asked, how good it is, and whether it reads the bias."""
    known = {key: value for key, value in vars(reference).items() if key != "network"}
    return {**known, "accuracy_reconstruction": float(scores.right.double().mean())}


def swap_entry(scores: LayerScores, proposal: Proposal, split: Split) -> dict[str, Any]:
    """One swap: its layers, what it does, what they are found to be."""
    found = {"layers": list(split.perp), "grid": split.grid, **_numbers(scores.of(split))}
    return {**found, "verdict": verdict(scores, proposal, split)}


def _numbers(score: SwapScore) -> dict[str, Any]:
    return {
        "image_change": score.image_change,
        "image_share": score.image_share,
        **_share("label_changes", score.label_changes),
        **_share("takes_donor", score.takes_donor),
    }


def _share(name: str, share: Interval) -> dict[str, Any]:
    return {name: share.value, f"{name}_interval": [share.low, share.high]}


def layer_entries(
    scores: LayerScores, proposal: Proposal, added: Mapping[str, SwapScore], network: NetworkConfig
) -> list[dict[str, Any]]:
    """A row per layer, coarse to fine: swapped alone, with all finer ones, with all coarser ones.

    The verdict `either` is that of a layer that is not proposed, but could join those that are.
    """
    either = could_join(proposal, added)
    rows = []
    for unit, support in zip(scores.units, proposal.support, strict=True):
        level = 0 if unit.grid else unit.perp[0] // 2
        swaps = {"alone": unit, "with_finer": scores.starting(unit), "with_coarser": scores.ending(unit)}
        row = {"name": split_name(unit), "resolution": network.start * 2**level}
        row |= {name: swap_entry(scores, proposal, split) for name, split in swaps.items()}
        row["alone"]["verdict"] = "either" if split_name(unit) in either else row["alone"]["verdict"]
        rows.append(row | {"verdict": row["alone"]["verdict"], "support": support})
    return rows


def could_join(proposal: Proposal, added: Mapping[str, SwapScore]) -> list[str]:
    """The layers with any one of which the proposal would still keep the label, by their whole interval."""
    return [name for name, score in added.items() if score.label_changes.rest.low >= proposal.threshold]


def proposal_entry(
    scores: LayerScores, proposal: Proposal, left: SwapScore | None, added: Mapping[str, SwapScore]
) -> dict[str, Any]:
    """The split with its flags, and how sure it is; `split` is null where no swap keeps the label."""
    split, larger = proposal.split, proposal.next_larger
    return {
        "split": None if split is None else swap_entry(scores, proposal, split),
        "flags": None if split is None else flags(split),
        "rest": None if left is None else {"layers": list(left.split.perp), "grid": left.split.grid, **_numbers(left)},
        "next_larger": None if larger is None else swap_entry(scores, proposal, larger),
        "added": {name: _numbers(score) for name, score in added.items()},
        "could_join": could_join(proposal, added),
        "idle": [split_name(unit) for unit in scores.idle],
        "threshold": proposal.threshold,
        "resamples": proposal.resamples,
        "agreement": proposal.agreement,
        "other_proposals": [
            {"flags": None if other is None else flags(other), "share": share} for other, share in proposal.others
        ],
        "sure": proposal.sure,
    }


def dimensions_entry(numbers: DimensionScores, images: int) -> dict[str, Any]:
    """Every single latent number, `[layer][number]`, and the few of each layer that change the image most."""
    tables = {
        "image_change": numbers.change,
        "label_changes": numbers.label_changes,
        "probability_change": numbers.probability_change,
    }
    plain = {name: table.round(decimals=6).tolist() for name, table in tables.items()}
    top = [
        [{"number": number, **{name: table[layer][number] for name, table in plain.items()}} for number in row[:TOP]]
        for layer, row in enumerate(numbers.change.argsort(dim=1, descending=True).tolist())
    ]
    return {"images": images, **plain, "top": top}


GROUPINGS = ("resolution", "layer")

GRID_DONORS = 10


@dataclass(frozen=True)
class InspectConfig(Settings):
    """Measure which layers of a generator carry the label, and propose a split.

    Gives each image the styles of another one with another label, layers by layers, and asks a reference classifier:
    z⊥ are the layers whose joint swap changes the image and keeps the label. Writes results.json and figures/.

    Args:
        generator: a ready-made generator (`statistics`, `statistics:KIND`, `photo`), or a folder that fit wrote.
        latents: folder that encode wrote, of a generator that fit wrote: the images that are swapped.
        data: the images that are swapped, for a ready-made generator.
        reference: the classifier whose answers count: a folder that train wrote, or another's, as --classifier of
            evaluate names one. Where the images are biased, it must not share the bias (`--method ceiling`, or another
            trained on unbiased images). Without it, one is trained.
        unbiased: images on which the bias says nothing. Of painted digits `train` (the training digits, painted at
            random) or `test` (the shuffled test); or your own, named as --data does. A reference that was named is
            tested on them; otherwise one is trained on `train`, or on the training images of your own.
        train: how a reference is trained where none is named.
        images: how many of the images are swapped, the first ones.
        dimension_images: how many for the swaps of single latent numbers; 0 leaves these out.
        by: what is proposed: `resolution` (the layers of one resolution go together) or `layer`.
        threshold: share of labels that a joint swap must keep, in [0, 1].
        resamples: how often the pairs are resampled to say how sure the proposal is.
        trust_code: whether a function that a file names (a .json, a saved config) may be called, too.
        seed: fixes the pairs, the resamples and a reference's training.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped.
    """

    generator: Path = DEFAULT_GENERATOR
    latents: Path | None = None
    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    reference: str | None = None
    unbiased: str | None = None
    train: TrainOptions = field(default_factory=TrainOptions)
    images: int = 1000
    dimension_images: int = 64
    by: str = "resolution"
    threshold: float = 0.95
    resamples: int = 200
    trust_code: bool = False
    seed: int = 0
    out: Path = Path("runs/inspect")
    device: str = "auto"
    resume: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unbiased == "test" and self.reference is None:
            raise UserError("--unbiased test: no reference is trained on a test; name one, or use --unbiased train")
        if self.by not in GROUPINGS:
            raise UserError(f"--by {self.by}: unknown; choose from {' '.join(GROUPINGS)}")
        check_values(self, "images resamples", least=1)
        check_values(self, "dimension_images", least=0)
        check_values(self, "threshold", within=(0, 1))
        if is_ready_made(self.generator) != (self.latents is None):
            raise UserError("--latents: go together with a --generator that fit wrote, and with no ready-made one")
        if self.latents is not None and self.data.data:
            raise UserError(f"--data {self.data.data}: the images are those of --latents; leave it out")


def run_inspect(config: InspectConfig) -> dict[str, Any]:
    """Measure, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input, or nothing to measure.
    """
    device = open_device(config.device)
    mixable, data = _open(config, device)
    unbiased = None if config.unbiased is None else unbiased_test(config.unbiased, data)
    named = None if config.reference is None else open_reference(config.reference, data.train, config.trust_code)
    inputs = {
        **mixable.fingerprints,
        "images": data.train.fingerprint,
        "unbiased": None if unbiased is None else unbiased.fingerprint,
        "reference": None if named is None else named.fingerprint,
    }
    with open_run(config.out, "inspect", config, config.resume, inputs):
        if (config.out / RESULTS).is_file():
            results: dict[str, Any] = read_json(config.out / RESULTS)
        else:
            results = _inspect(config, mixable, data, unbiased, named, device)
            write_json(config.out / RESULTS, results)
        console.print(layer_table(results["layers"], results["proposal"]["added"]))
        for sentence in sentences(results):
            console.print(sentence)
        console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
        return results


def _open(config: InspectConfig, device: torch.device) -> tuple[FittedModel, Data]:
    """Generator, codes of training images with all that belongs to them, and their data."""
    if config.latents is not None:
        mixable = load(config.generator, config.latents, device)
        return mixable, mixable.data
    data = open_data(config.data, config.seed)
    model, metadata = open_generator(config.generator, config.data, PoolOptions(), data)
    check_size(data.train, model.generator)
    pool = encoded(data.train[: max(config.images, config.dimension_images, DONORS)], model.to(device).encoder)
    return FittedModel(model, pool, metadata, config.generator), data


DONORS = 2000
"""Training images that a ready-made generator encodes to be swapped; a stored pool is taken as a whole."""


def _inspect(
    config: InspectConfig,
    mixable: FittedModel,
    data: Data,
    unbiased: ImageSet | None,
    named: OpenClassifier | None,
    device: torch.device,
) -> dict[str, Any]:
    begun, honest = time.monotonic(), named is None and unbiased is not None
    reference = judge_reference(named or _trained(config, data), data, unbiased, device, honest)
    ready = time.monotonic()
    pairs = draw_pairs(mixable.pool, data.train.labels[: len(mixable.pool)], config.images, config.seed)
    groups = None if config.by == "layer" else resolutions(mixable.model.config)
    found = measure(config, mixable.model.generator, reference.network, pairs, groups)
    scores, proposal = found.scores, found.proposal
    results: dict[str, Any] = {
        **header("inspect", config),
        "phases": {"reference": round(ready - begun, 2), "measure": round(time.monotonic() - ready, 2)},
        "generator": generator_summary(mixable.metadata),
        "reference": reference_entry(reference, scores),
        "pairs": {"images": len(pairs.labels), "counted": int(scores.right.sum())},
        "layers": layer_entries(scores, proposal, found.added, mixable.model.config),
        "swaps": [swap_entry(scores, proposal, split) for split in scores.splits],
        "proposal": proposal_entry(scores, proposal, found.rest, found.added),
        "dimensions": None if found.numbers is None else dimensions_entry(found.numbers, config.dimension_images),
    }
    figures = {"layers": layer_bars(results["layers"], headline(results), config.threshold)}
    verdicts = [row["verdict"] for row in results["layers"]]
    figures["mixing-by-layer"] = _mixing(mixable, data, reference.network, found, verdicts)
    if found.numbers is not None:
        figures["dimensions"] = dimension_maps(found.numbers.change, found.numbers.probability_change)
    save_figures(figures, config.out / "figures")
    return results


def _trained(config: InspectConfig, data: Data) -> OpenClassifier:
    """A reference of our own, in a subfolder: trained on the unbiased images where they are named."""
    folder = config.out / "reference"
    if config.unbiased is None or config.unbiased in UNBIASED:
        method = "nominal" if config.unbiased is None else "ceiling"
        images: dict[str, Any] = {"method": method, "data": data.config}
        if config.latents is not None:
            images |= {"generator": config.generator, "latents": config.latents}
    else:
        images = {"method": "nominal", "data": unbiased_config(config.unbiased, data)}
    run_train(
        TrainConfig(
            **images,
            train=config.train,
            seed=config.seed,
            out=folder,
            device=config.device,
            resume=True,
        )
    )
    return open_reference(folder, data.train)


@dataclass(frozen=True, eq=False)
class Pairs:
    """N images of the pool and their donors, each of another label; labels `(N,)` are on the latents' device."""

    latents: Latents
    labels: Tensor
    donors: Latents
    donor_labels: Tensor

    def scores(self, dec: Generator, network: nn.Module, splits: Sequence[Split] | None = None) -> LayerScores:
        """All swaps, or the named ones."""
        return layer_scores(dec, network, self.latents, self.labels, self.donors, self.donor_labels, splits)


def draw_pairs(pool: Latents, labels: Tensor, count: int, seed: int) -> Pairs:
    """The first `count` of the pool (all, where it has fewer), each with a donor from the whole pool."""
    first = slice(0, min(count, len(pool)))
    rows = other_label(labels[first], labels, generator(seed, "inspect", "donors"))
    device = pool.styles.device
    return Pairs(pool[first], labels[first].to(device), pool[rows.to(device)], labels[rows].to(device))


@dataclass(frozen=True, eq=False)
class Measured:
    """All that is measured: `rest` is the swap of all that the proposal leaves out, `added` that of the proposal with
    one more layer, by the layer's name.
    """

    scores: LayerScores
    proposal: Proposal
    rest: SwapScore | None
    added: dict[str, SwapScore]
    numbers: DimensionScores | None


def resolutions(network: NetworkConfig) -> tuple[Split, ...]:
    """The grid, where there is one, and the two layers of every resolution; every layer where there is none."""
    if not network.start:
        return single_splits(network.layers, network.grid_shape is not None)
    levels = tuple(Split(network.layers, (layer, layer + 1)) for layer in range(0, network.layers, 2))
    return (Split(network.layers, (), grid=True), *levels) if network.grid_shape else levels


def measure(
    config: InspectConfig, dec: Generator, network: nn.Module, pairs: Pairs, groups: Sequence[Split] | None
) -> Measured:
    """Layers, proposal, single numbers."""
    scores, rng = pairs.scores(dec, network), generator(config.seed, "inspect", "resamples")
    proposal = propose_split(scores, config.threshold, config.resamples, rng, groups)
    left, added = _around(proposal.split, dec, network, pairs)
    few, numbers = slice(0, config.dimension_images), None
    if config.dimension_images:
        numbers = dimension_scores(dec, network, pairs.latents[few], pairs.labels[few], pairs.donors[few])
    return Measured(scores, proposal, left, added, numbers)


def _around(
    split: Split | None, dec: Generator, network: nn.Module, pairs: Pairs
) -> tuple[SwapScore | None, dict[str, SwapScore]]:
    """What the proposal leaves out, swapped together; and the proposal with one more layer of it."""
    others = None if split is None else complement_split(split, pairs.latents.grid is not None)
    if split is None or others is None:
        return None, {}
    larger = {split_name(unit): join_splits([split, unit]) for unit in split_parts(others)}
    scores = pairs.scores(dec, network, [others, *larger.values()])
    return scores.of(others), {name: scores.of(joint) for name, joint in larger.items()}


@torch.no_grad()
def _mixing(mixable: FittedModel, data: Data, network: nn.Module, found: Measured, verdicts: Sequence[str]) -> Figure:
    """The first image with layers of the first images that have another label."""
    dec, pool = mixable.model.generator, mixable.pool
    labels = data.train.labels[: len(pool)]
    donors = pool[(labels != labels[0]).nonzero()[:GRID_DONORS, 0].to(pool.styles.device)]
    first = Latents.cat([pool[:1]] * len(donors))

    def row(name: str, split: Split, verdict: str) -> GridRow:
        with eval_mode(network) as (model,):
            images = dec.render(dec.prefix(first, split), split.perp_of(donors))
            changed = model(images).argmax(dim=1).cpu() != labels[0]
        return GridRow(name, _rgb(images), changed, verdict)

    named = zip(found.scores.units, verdicts, strict=True)
    singles = [row(row_name(split_name(unit)), unit, verdict) for unit, verdict in named]
    groups = []
    if found.proposal.split is not None and found.rest is not None:
        groups = [row("proposed z⊥", found.proposal.split, "z⊥"), row("all others", found.rest.split, "z∥")]
    return mixing_by_layer(_rgb(dec(pool[:1]))[0], _rgb(dec(donors)), singles, groups)


def _rgb(images: Tensor) -> Tensor:
    return images.expand(-1, 3, -1, -1)
