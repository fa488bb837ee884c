from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch

from advmix.utils.device import (
    MachineOptions,
    anywhere,
    environment,
    give_back_memory,
    in_first_process,
    in_turns,
    make_fabric,
    mean_over,
    one_thread,
    open_device,
    open_processes,
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
        MachineOptions(devices)


def test_unknown_precision_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UserError, match="--precision 8: unknown; choose from auto 32 bf16"):
        make_fabric("cpu", precision="8")


STARTED = {
    "torchrun": {"TORCHELASTIC_RUN_ID": "a", "WORLD_SIZE": "4"},
    "srun": {"SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NAME": "train"},
}


@pytest.mark.parametrize("by", STARTED)
def test_another_number_of_processes_than_was_started_is_refused(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STARTED[by].items():
        monkeypatch.setenv(name, value)
    words = f"--devices 2 --num-nodes 1: 2 in all, but {by} started 4; give both the same numbers"
    with pytest.raises(UserError, match=words):
        open_processes("cpu", MachineOptions(devices=2))
    with pytest.raises(UserError, match=f"1 in all, but {by} started 4"):
        open_processes("cpu", MachineOptions())
    MachineOptions(devices=2, num_nodes=2).check_started()


def test_a_shell_on_a_node_of_slurm_is_a_machine_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**STARTED["srun"], "SLURM_JOB_NAME": "bash", "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}.items():
        monkeypatch.setenv(name, value)
    assert open_processes("cpu", MachineOptions()) == (torch.device("cpu"), None)
    assert make_fabric("cpu", MachineOptions()).world_size == 1


def test_machines_are_started_by_somebody_else() -> None:
    with pytest.raises(UserError, match="--num-nodes 2: start this command on each machine with torchrun or srun"):
        make_fabric("cpu", MachineOptions(num_nodes=2))


def test_alone_a_process_has_the_whole_batch_and_its_own_word() -> None:
    fabric = make_fabric("cpu")
    assert own_part(fabric, 6) == slice(0, 6)
    assert anywhere(fabric, True)
    assert not anywhere(fabric, False)
    number = torch.tensor(1.25)
    assert mean_over(fabric, number) == 1.25
    assert in_first_process(fabric, lambda: "done") == in_first_process(None, lambda: "done") == "done"
    assert in_turns(fabric, [1, 2, 3], float) == in_turns(None, [1, 2, 3], float) == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("count", [1, 5, 12])
def test_the_parts_of_a_batch_are_the_batch(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fabric, covered = make_fabric("cpu"), list[int]()
    monkeypatch.setattr(type(fabric), "world_size", 4)
    for rank in range(4):
        monkeypatch.setattr(type(fabric), "global_rank", rank)
        covered += range(*own_part(fabric, count).indices(count))
    assert covered == list(range(count))


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
