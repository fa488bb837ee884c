"""Checks of the values in option dataclasses."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from advmix.errors import UserError


def require(
    options: Any,
    names: str,
    *,
    least: float | None = None,
    above: float | None = None,
    within: tuple[float, float] | None = None,
) -> None:
    """Refuse a field of `options` that is not finite, below `least`, not above `above`, or not `within` both ends; None
    passes.

    >>> require(self, "fit_batch fit_lr", above=0)
    >>> require(self, "clean_weight", within=(0, 1))

    Raises:
        UserError: naming the flag and its value.
    """
    for name in names.split():
        value = getattr(options, name)
        if value is None:
            continue
        flag = f"--{name.replace('_', '-')} {value}"
        if not math.isfinite(value):
            raise UserError(f"{flag}: must be a finite number")
        if least is not None and value < least:
            raise UserError(f"{flag}: must be at least {least}")
        if above is not None and value <= above:
            raise UserError(f"{flag}: must be more than {above}")
        if within is not None and not within[0] <= value <= within[1]:
            raise UserError(f"{flag}: must be between {within[0]} and {within[1]}")


def expanded(path: str | Path, flag: str) -> Path:
    """A path with `~` and `$NAME` filled in; a dollar sign may be part of a name that there is.

    Raises:
        UserError: the environment variable is not set, or there is no such user.
    """
    filled = os.path.expandvars(path)
    if "$" in filled and not os.path.lexists(filled):
        raise UserError(f"--{flag} {path}: the environment variable is not set")
    try:
        return Path(filled).expanduser()
    except RuntimeError as error:
        raise UserError(f"--{flag} {path}: there is no such user; write ./~ if a folder is called so") from error
