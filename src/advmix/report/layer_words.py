"""What `advmix inspect` says: its table, its proposal, how sure it is, and what it depends on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table

Entry = Mapping[str, Any]
HEADS = (
    "image\nchange",
    "label\nchanges",
    "takes\ndonor's",
    "and all\nfiner",
    "and all\ncoarser",
    "added\nto z⊥",
    "chosen",
)
"""What a layer's swap changes alone, with others, beside the proposal; and how many resamples choose it."""
LITTLE = 0.25
"""A split that makes less than this share of the change of swapping everything leaves little to mix."""


def layer_table(rows: Sequence[Entry], added: Mapping[str, Entry]) -> Table:
    """A row per layer, shares in percent; `added` are the swaps of the proposal with one more layer."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    view.add_column("layer")
    for head in HEADS:
        view.add_column(head, justify="right")
    view.add_column("verdict")
    for row in rows:
        alone, finer, coarser = row["alone"], row["with_finer"], row["with_coarser"]
        shares = [alone["image_share"], alone["label_changes"], alone["takes_donor"]]
        shares += [finer["label_changes"], coarser["label_changes"]]
        shares += [added[row["name"]]["label_changes"] if row["name"] in added else None, row["support"]]
        cells = ["–" if share is None else f"{100 * share:.1f}" for share in shares]
        view.add_row(f"{row['name']} {row['resolution']}x{row['resolution']}", *cells, row["verdict"])
    return view


def headline(results: Entry) -> str:
    """The proposal in one line."""
    proposal, bias = results["proposal"], results["reference"]["bias"]
    if proposal["split"] is None:
        return "No split: every swap changes too many labels"
    doubt = {"no": "", "unknown": "; only if the reference is unbiased", "yes": "; but the reference reads the bias"}[
        bias
    ]
    return f"Proposal: {proposal['flags']} ({proposal['sure']}{doubt})"


def sentences(results: Entry) -> list[str]:
    """What was found, how sure it is, and the caveat, a paragraph each."""
    said = [f"[bold]{headline(results)}[/]", *_proposal(results), *_idle(results)]
    warn = "" if results["reference"]["bias"] == "no" else "[bold]Careful.[/] "
    return [*said, f"{warn}Reference: {results['reference']['caveat']}"]


def _proposal(results: Entry) -> list[str]:
    proposal, pairs = results["proposal"], results["pairs"]
    split, rest, larger = proposal["split"], proposal["rest"], proposal["next_larger"]
    if split is None:
        return [
            f"No layer, and no run of neighbouring ones, keeps {proposal['threshold']:.0%} of the labels when it is "
            f"swapped ({pairs['counted']} pairs); {proposal['agreement']:.0%} of the resamples agree."
        ]
    low, high = (1 - end for end in reversed(split["label_changes_interval"]))
    said = [
        f"Swapped together, {names(split)} keep the label in {1 - split['label_changes']:.1%} of {pairs['counted']} "
        f"pairs (95 % interval {low:.1%} to {high:.1%}) and make {split['image_share']:.0%} of the change that "
        f"swapping everything makes."
    ]
    if rest is not None:
        said[0] += f" The others together, {names(rest)}, carry the donor's label over in {rest['takes_donor']:.1%}."
    said.append(f"{proposal['agreement']:.0%} of {proposal['resamples']} resamples of the pairs propose the same.")
    if proposal["other_proposals"]:
        other = proposal["other_proposals"][0]
        said[-1] += f" The next most frequent is {other['flags'] or 'no split'} ({other['share']:.0%})."
    if larger is not None:
        said[-1] += f" Of larger swaps the best, {names(larger)}, keeps {1 - larger['label_changes']:.1%}."
    if split["image_share"] < LITTLE:
        said.append("[bold]Careful.[/] These layers change little: mixing them says little about a classifier.")
    if proposal["could_join"]:
        said.append(f"Layers that could join them one by one: {' '.join(proposal['could_join'])}.")
    return said


def names(swap: Entry) -> str:
    """`grid, layers 0 1 2`."""
    layers = swap["layers"]
    words = ["grid"] if swap["grid"] else []
    if layers:
        words.append(f"layer{'s' if len(layers) > 1 else ''} {' '.join(map(str, layers))}")
    return ", ".join(words)


def _idle(results: Entry) -> list[str]:
    idle = results["proposal"]["idle"]
    if not idle:
        return []
    return [f"Idle, hardly changing the image: {', '.join(idle)}. Whether they are z⊥ makes no difference."]
