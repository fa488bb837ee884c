"""Fingerprints change with every number, and are those of the bytes."""

from __future__ import annotations

import hashlib

import torch

from advmix.latents import Latents
from advmix.utils.files import hexdigest


def test_it_is_the_hash_of_the_bytes_in_order() -> None:
    tensor = torch.arange(6, dtype=torch.uint8).view(2, 3)
    assert hexdigest("a", tensor) == hashlib.sha256(b"a" + bytes(range(6))).hexdigest()[:16]
    assert hexdigest(tensor.T) != hexdigest(tensor)
    assert hexdigest(torch.empty(0)) == hexdigest("")


def test_a_single_number_out_of_a_row_is_hashed() -> None:
    row = torch.arange(8)
    assert hexdigest(row[3::8]) == hexdigest(torch.tensor([3]))


def test_latents_change_theirs_with_any_number() -> None:
    latents = Latents(torch.zeros(2, 3, 4), torch.zeros(2, 1, 2, 2))
    marks = {latents.fingerprint}
    for part in (latents.styles, latents.grid):
        assert part is not None
        part.flatten()[-1] = 1e-30
        marks.add(latents.fingerprint)
    assert len(marks) == 3
