"""Commands of the package and experiments under one name, as tests of the experiments run them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from advmix.cli import PROGRAM as PACKAGE
from experiments.cli import PROGRAM as EXPERIMENTS
from tiny import last_of_each


def main(words: Sequence[str]) -> int:
    """Run a command, or with `study` before its name an experiment; the exit code."""
    return EXPERIMENTS.main(list(words[1:])) if words[0] == "study" else PACKAGE.main(list(words))


def cli(words: Sequence[str]) -> int:
    """The same, where later flags take the place of earlier ones."""
    return main(last_of_each(words))


def parse(words: Sequence[str]) -> Any:
    """Its settings."""
    return EXPERIMENTS.parse(list(words[1:])) if words[0] == "study" else PACKAGE.parse(list(words))
