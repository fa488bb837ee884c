from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from advmix.latents import Split
from advmix.mixing import AdvMix
from advmix.utils.device import make_fabric
from advmix.utils.torch_tools import eval_mode, unwrap
from advmix.utils.torch_tools import generator as seeded
from tiny import VECTOR, make_classifier, make_generator, make_latents


@pytest.fixture
def single_process(tmp_path: Path) -> Iterator[None]:
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'rendezvous'}", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("single_process")
def test_distributed_wrapper_is_taken_off() -> None:
    network = make_classifier()
    wrapped = DistributedDataParallel(network)
    assert unwrap(wrapped) is network
    with eval_mode(wrapped) as (inner,):
        assert inner is network


def test_fabric_wrapper_is_taken_off() -> None:
    network = make_classifier()
    assert unwrap(make_fabric("cpu").setup_module(network)) is network


def test_plain_network_with_a_module_attribute_is_left_alone() -> None:
    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(1, 1)

    holder = Holder()
    assert unwrap(holder) is holder


@pytest.mark.usefixtures("single_process")
def test_search_through_wrappers_equals_the_plain_search() -> None:
    network, labels = make_classifier(), torch.tensor([0, 1, 2])
    search = AdvMix(make_generator(), Split.fine(6, 2), restarts=2, steps=2)
    wrapped = DistributedDataParallel(network)
    mixes = [
        search(model, make_latents(VECTOR, 3, 1), labels, make_latents(VECTOR, 6, 2), rng=seeded(0))
        for model in (network, wrapped, make_fabric("cpu").setup_module(network))
    ]
    assert torch.equal(mixes[0].images, mixes[1].images)
    assert torch.equal(mixes[0].images, mixes[2].images)
    assert wrapped.training
    assert network.training


def test_every_submodule_gets_its_own_mode_back() -> None:
    network = make_classifier()
    network[1].eval()
    with eval_mode(network) as (inner,):
        assert not any(part.training for part in inner.modules())
    assert [part.training for part in network] == [True, False, True, True, True]


def test_modes_come_back_after_an_interruption() -> None:
    network = make_classifier()
    with pytest.raises(KeyboardInterrupt), eval_mode(network):
        raise KeyboardInterrupt
    assert all(part.training for part in network.modules())


def test_shared_module_gets_its_mode_back() -> None:
    shared = nn.Sequential(nn.Dropout())
    with eval_mode(shared, shared):
        assert not shared.training
    assert shared.training
    assert shared[0].training
