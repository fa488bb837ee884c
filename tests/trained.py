"""What the commands write on a few images, made once in a run of the tests, by whichever process asks first.

Folders are shared: a test that changes one copies it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from advmix.cli import main
from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig
from advmix.training import reference
from advmix.training.classify import TrainOptions
from tiny import last_of_each

CPU = ("--device", "cpu")
FEW = ("--train-images", "200", "--test-images", "80", "--seed", "1", *CPU)
"""These are `images`."""
BRIEF = ("--epochs", "8", "--batch", "32")

root = Path()
"""Where everything is kept, one for all processes of a run; `conftest` sets it."""


def made(*words: object) -> Path:
    """The folder that a command writes, which is named here without `--out`."""
    line = last_of_each([str(word) for word in words])

    def make(folder: Path) -> None:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main([*line, "--out", str(folder)])
        assert code == 0, said.getvalue()

    return once(_name(line[0], line), make)


def shared(make: Callable[[Path], None]) -> Any:
    """The fixture of a folder that this function fills."""
    return pytest.fixture(scope="module", name=make.__name__)(lambda: once(f"{make.__module__}-{make.__name__}", make))


def hasten_reference(patch: pytest.MonkeyPatch) -> None:
    """Where no epochs are named there is one, and references that audits train for themselves have ten steps."""
    patch.setattr(TrainOptions, "_epochs", lambda self, images: self.epochs or 1)
    patch.setattr(reference, "FOLD_STEPS", 10)


def images() -> ColoredDigits:
    """Digits of all tests that do not need others."""
    return ColoredDigits(DataConfig(train_images=200, test_images=80), seed=1)


def fitted() -> Path:
    """A generator of biased digits that shows something, and its encoder."""
    return made("fit", *FEW, "--fit-steps", "60", "--fit-batch", "32")


def latents() -> Path:
    """Of the images that `fitted` was trained on."""
    return made("encode", "--generator", fitted(), *CPU)


def classifier(method: str = "nominal") -> Path:
    """`nominal` reads the colour of these digits, `ceiling` does not."""
    return made("train", "--method", method, *mixing(), *BRIEF, "--seed", "1")


BIASED = ("--color-std", "0.02", "--train-images", "600", "--test-images", "200", *CPU)
"""Enough digits for the main job to succeed, under the strongest bias."""


def good_fitted() -> Path:
    """A generator of `BIASED` that draws them well."""
    return made("fit", *BIASED, "--fit-steps", "400", "--fit-batch", "16")


def good_mixing() -> list[str]:
    """Flags of what mixes them."""
    generator = good_fitted()
    return ["--generator", str(generator), "--latents", str(made("encode", "--generator", generator, *CPU)), *CPU]


def good_classifier(method: str, *flags: str) -> Path:
    """Trained on them."""
    return made("train", "--method", method, *(flags or good_mixing()), "--epochs", "8", "--batch", "32")


def mixing() -> list[str]:
    """Flags of what mixes."""
    return ["--generator", str(fitted()), "--latents", str(latents()), *CPU]


def _name(kind: str, key: list[str]) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]}"


def once(name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name, which is made where it is not there yet."""
    folder = root / name
    root.mkdir(parents=True, exist_ok=True)
    seal = folder.with_suffix(".json")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not seal.exists():
            make(folder)
            seal.write_text(json.dumps(_state(folder)))
        assert json.loads(seal.read_text()) == _state(folder), f"{folder}: a test has changed it; let it take a copy"
    return folder


def _state(folder: Path) -> dict[str, list[int]]:
    found = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*")) if path.is_file()}
    return {name: [state.st_size, state.st_mtime_ns] for name, state in found.items()}
