"""An audit in chunks: each on disk as soon as it is done, by any number of processes, to the same result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advmix.audit.found import FILE, Found
from advmix.audit.judge import Batch, Bench, Subject, ask, judge
from advmix.data import slices
from advmix.engine import in_first_process
from advmix.errors import UserError
from advmix.files import make_folder
from advmix.progress import Advance, track
from advmix.runs import CHUNKS
from advmix.stages.audit_case import Batches

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def search_all(
    out: Path,
    fabric: Fabric,
    bench: Bench,
    subjects: Sequence[Subject],
    images: Batches,
    rows: Tensor,
    metadata: dict[str, Any],
    chunk: int,
) -> Found:
    """Everything that is asked of every image; what is on disk already is not asked again.

    Args:
        out: the audit's folder.
        fabric: the machine; its processes take turns with the chunks.
        bench: what stays the same.
        subjects: the classifiers.
        images: the test images.
        rows: `(N,)`, those that are audited.
        metadata: of the file.
        chunk: images between two savings.
    """
    if not (out / FILE).is_file():
        places = list(slices(len(rows), chunk))
        folder = in_first_process(fabric, lambda: make_folder(out / CHUNKS))
        paths = [folder / f"{place.start:08d}.safetensors" for place in places]
        turns = range(fabric.global_rank, len(places), fabric.world_size)
        mine = [i for i in turns if not _is_done(paths[i], metadata)]
        with track("audit", sum(places[i].stop - places[i].start for i in mine)) as advance:
            for i in mine:
                batch = images.read(places[i].start, rows[places[i]])
                _found(bench, subjects, batch, metadata, advance).save(paths[i])
        fabric.barrier()
        in_first_process(fabric, lambda: _join(out, paths))
    return Found.load(out)


def _found(
    bench: Bench, subjects: Sequence[Subject], batch: Batch, metadata: dict[str, Any], advance: Advance
) -> Found:
    parts = []
    for part in batch.parts(bench.batch_size(subjects)):
        parts.append(Found(ask(bench, part), tuple(judge(bench, subject, part) for subject in subjects), metadata))
        advance(len(part.labels), "")
    return Found.cat(parts)


def _is_done(path: Path, metadata: dict[str, Any]) -> bool:
    """Whether a chunk is there, whole, and of this audit."""
    try:
        return path.is_file() and Found.load(path).metadata == metadata
    except UserError:
        return False


def _join(out: Path, paths: Sequence[Path]) -> None:
    Found.cat([Found.load(path) for path in paths]).save(out / FILE)


def chosen_rows(count: int, images: int, rng: torch.Generator) -> Tensor:
    """At most `images` of `count` test images, drawn at random, in order: `(N,)`."""
    return torch.randperm(count, generator=rng)[:images].sort().values
