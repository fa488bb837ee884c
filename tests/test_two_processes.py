from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from forked import in_two_processes
from two_processes import OBJECTIVES, train_once, train_rank

NAMES = (*OBJECTIVES, "fit")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What every rank of two has after twenty steps of each training."""
    folder = tmp_path_factory.mktemp("ranks")
    in_two_processes(train_rank, NAMES, folder)
    return folder


def distance(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in a)


@pytest.mark.parametrize("name", NAMES)
def test_two_processes_learn_what_one_learns(ranks: Path, name: str) -> None:
    network, loop, _ = train_once(name, None)
    first, second = (torch.load(ranks / f"{name}{rank}.pt") for rank in (0, 1))
    assert distance(first["weights"], second["weights"]) == 0
    assert distance(network.state_dict(), first["weights"]) < 1e-5
    losses = [[line["loss"] for line in history] for history in (loop.history, first["history"])]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
