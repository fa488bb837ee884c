from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings
from torch import nn

import trained
from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig

settings.register_profile("steady", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("steady")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["ADVMIX_CACHE"] = "none"  # nothing is written into anybody's home; tests of the cache name a folder
torch.set_num_threads(1)  # many small operations, and other processes may run beside the tests
torch.set_flush_denormal(True)  # as `make_fabric` does, so that the order of the tests does not matter


@pytest.fixture(scope="session", autouse=True)
def _one_folder_for_all_processes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where `trained` keeps what it makes: of one run of the tests, so that changed code is never hidden."""
    own = tmp_path_factory.getbasetemp()
    trained.root = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "made"


LONGEST = (
    "test_promise.py",
    "test_faults.py",
    "test_pages.py",
    "test_fit_gan.py",
    "test_pipeline.py",
    "test_celeba.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that no process works on one alone at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """What is imported by now stays: the garbage collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def digits() -> ColoredDigits:
    """Small and real: 96 training and 60 test images of scikit-learn's digits."""
    return ColoredDigits(DataConfig(train_images=96, test_images=60), seed=1)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[nn.Module], str]:
    """Gives a network a name."""
    monkeypatch.chdir(tmp_path)

    def give(network: nn.Module) -> str:
        monkeypatch.setattr("__main__.tested", network, raising=False)
        return "__main__:tested"

    return give
