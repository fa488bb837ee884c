"""What a person says of pictures on the sheet of a page: whether the label is kept, saved there and read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from advmix.audit.records import AuditRecords
from advmix.audit.statistics import LabelCheck
from advmix.utils.errors import UserError, printable
from advmix.utils.files import hexdigest, read_json

KEPT, LOST = "kept", "lost"


def audit_digest(found: AuditRecords) -> str:
    """Sixteen hex digits of what was found: votes are about these pictures, and no others."""
    flips = [part for one in found.classifiers for part in (one.flip_perp, one.flip_strength)]
    return hexdigest(found.images.rows, *flips)


def read_votes(path: Path) -> dict[str, Any]:
    """What the page saved: `audit`, a digest, and `votes`, by classifier and place `kept` or `lost`.

    Raises:
        UserError: it cannot be read, or is something else.
    """
    said = read_json(path, edited=True)
    try:
        votes = {
            str(name): {_place(place): str(vote) for place, vote in places.items()}
            for name, places in said["votes"].items()
        }
        digest = str(said["audit"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: no votes; save them from the sheet in the report of an audit") from error
    for places in votes.values():
        for place, vote in places.items():
            if vote not in (KEPT, LOST):
                raise UserError(f"{path}: {printable(vote)} of image {place}; must be {KEPT} or {LOST}")
    return {"audit": digest, "votes": votes}


def _place(text: str) -> int:
    """As the page writes it; of two spellings of one place, one vote would be lost."""
    place = int(text)
    if str(place) != text:
        raise ValueError(text)
    return place


def with_votes(found: AuditRecords, names: Sequence[str], said: Mapping[str, Any], path: Path) -> AuditRecords:
    """The records with a person's votes.

    Args:
        found: of the audit.
        names: of its classifiers.
        said: what `read_votes` read.
        path: of the file, for messages.

    Raises:
        UserError: votes about another audit, a classifier or image that is not there, or an answer that does not flip.
    """
    if said["audit"] != audit_digest(found):
        raise UserError(f"{path}: about the pictures of another audit; answer on the sheet of this one")
    records = []
    for name, one in zip(names, found.classifiers, strict=True):
        votes, flipped = torch.full_like(found.images.labels, -1), LabelCheck(found.images, one).flipped
        for place, vote in said["votes"].get(name, {}).items():
            if not 0 <= place < len(votes):
                raise UserError(f"{path}: image {place} of {len(votes):,}; answer on the sheet of this audit")
            if not flipped[place]:
                raise UserError(f"{path}: image {place}, whose answer does not flip; answer on the sheet of this audit")
            votes[place] = int(vote == KEPT)
        records.append(replace(one, label_votes=votes))
    unknown = said["votes"].keys() - set(names)
    if unknown:
        raise UserError(f"{path}: about {printable(min(unknown))}, which was not audited; there are {', '.join(names)}")
    return replace(found, classifiers=tuple(records))
