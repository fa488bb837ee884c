"""One seed fixes everything: every random draw comes from a generator named by the seed and the place of use.

Nothing carries a random state from step to step, so a run that was stopped goes on as if it had not been.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from advmix.errors import UserError


def derive(seed: int, *path: str | int) -> int:
    """A number that depends on the seed and on every part of the path, `derive(0, "train", 17)`.

    Raises:
        UserError: a negative seed, or one of more than 63 bits.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"--seed {seed}: must be between 0 and 2^63 - 1")
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in path]
    sequence = [seed, *words, len(words) + 1]  # without the length, a last 0 would make no difference
    return int(np.random.SeedSequence(sequence).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, *path: str | int) -> torch.Generator:
    """A fresh CPU random generator for one place of use."""
    return torch.Generator().manual_seed(derive(seed, *path))


def draw_seed(rng: torch.Generator | None) -> int:
    """A seed drawn from `rng` (torch's global generator when None)."""
    return int(torch.randint(2**62, (), generator=rng))


@contextmanager
def global_seed(seed: int) -> Iterator[None]:
    """Run library code that draws from torch's global generator under `seed`, and put the global state back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
