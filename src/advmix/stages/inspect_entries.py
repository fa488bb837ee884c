"""What `advmix inspect` writes into results.json, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advmix.audit.layers import DimensionScores, LayerScores, Share, SwapScore, unit_name
from advmix.audit.proposal import Proposal, verdict
from advmix.generators import NetworkConfig
from advmix.latents import Split
from advmix.stages.reference import Reference

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


def _share(name: str, share: Share) -> dict[str, Any]:
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
        row = {"name": unit_name(unit), "resolution": network.start * 2**level}
        row |= {name: swap_entry(scores, proposal, split) for name, split in swaps.items()}
        row["alone"]["verdict"] = "either" if unit_name(unit) in either else row["alone"]["verdict"]
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
        "idle": [unit_name(unit) for unit in scores.idle],
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
