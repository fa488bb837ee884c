from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from advmix.utils.device import (
    anywhere,
    environment,
    give_back_memory,
    in_first_process,
    make_fabric,
    mean_over,
    one_thread,
    open_device,
    own_part,
    tune_cpu,
)
from advmix.utils.errors import UserError

STATM = Path("/proc/self/statm")


@pytest.mark.parametrize("device", ["gpu", "", "cpu:x", "cuda:one"])
def test_unknown_device_is_refused_with_those_that_exist(device: str) -> None:
    with pytest.raises(UserError, match=rf"--device {device}: unknown; use auto, cpu"):
        open_device(device)


def test_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="--device cuda:99: not on this machine; use --device cpu"):
        open_device("cuda:99")


def test_cpu_is_always_there() -> None:
    assert open_device("cpu") == make_fabric("cpu").device == torch.device("cpu")


def test_environment_names_the_versions() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert found["cpu_threads"] == torch.get_num_threads()
    assert set(found) == {"advmix", "torch", "python", "platform", "cpu_threads", "gpu"}


@pytest.mark.parametrize("devices", [0, -1])
def test_number_of_devices_is_checked(devices: int) -> None:
    with pytest.raises(UserError, match=f"--devices {devices}: must be at least 1"):
        make_fabric("cpu", devices=devices)


def test_unknown_precision_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="--precision 8: unknown; choose from auto 32 bf16"):
        make_fabric("cpu", precision="8")


def test_alone_a_process_has_the_whole_batch_and_its_own_word() -> None:
    fabric = make_fabric("cpu")
    assert own_part(fabric, 6) == slice(0, 6)
    assert anywhere(fabric, True)
    assert not anywhere(fabric, False)
    number = torch.tensor(1.25)
    assert mean_over(fabric, number) == 1.25
    assert in_first_process(fabric, lambda: "done") == "done"


def test_trouble_in_the_first_process_is_told() -> None:
    def trouble() -> None:
        raise UserError("the first says no")

    with pytest.raises(UserError, match="the first says no"):
        in_first_process(make_fabric("cpu"), trouble)


def test_memory_goes_back_when_it_is_asked_to() -> None:
    """`tune_cpu` keeps freed blocks for the next step; between the parts of a long job they are nobody's."""
    tune_cpu()
    give_back_memory()
    before = _resident()
    blocks = [torch.ones(25 << 18) for _ in range(20)]  # 500 MiB
    held = _resident()
    del blocks
    give_back_memory()
    if STATM.is_file():
        assert held - before > 400
        assert _resident() - before < 100


def _resident() -> int:
    """MiB of this process in memory, where Linux tells."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize() >> 20 if STATM.is_file() else 0


def test_one_thread_is_for_as_long_as_it_is_asked_for() -> None:
    threads = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == threads
