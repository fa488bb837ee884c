"""The machine under a job: device, processes and CPU settings, by lightning-fabric."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values
from advmix.utils.errors import ALONE, UserError, one_line

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Job = TypeVar("Job")
T = TypeVar("T")


@dataclass(frozen=True)
class MachineOptions:
    """How many processes share the work, one for each device.

    Args:
        devices: how many devices of each machine.
        num_nodes: how many machines, which share the folders that are read and written; on each of them torchrun or
            srun starts this command.
    """

    devices: int = 1
    num_nodes: int = 1

    def __post_init__(self) -> None:
        check_values(self, "devices num_nodes", least=1)

    @property
    def processes(self) -> int:
        """How many there are in all."""
        return self.devices * self.num_nodes

    def check_started(self) -> None:
        """Refuse another number of processes than torchrun or srun started: each of them would think that it is alone.

        Raises:
            UserError: saying both numbers.
        """
        by, count = _started_by()
        if count not in (0, self.processes):
            raise UserError(
                f"--devices {self.devices} --num-nodes {self.num_nodes}: {self.processes} in all, but {by} started "
                f"{count}; give both the same numbers"
            )


def _started_by() -> tuple[str, int]:
    """What started this process and its like, and how many of them; 0 where a person did."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return "torchrun", int(os.environ["WORLD_SIZE"])
    if "SLURM_STEP_NUM_TASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        return "srun", int(os.environ["SLURM_STEP_NUM_TASKS"])
    return "", 0


def open_processes(device: str, machines: MachineOptions) -> tuple[torch.device, Fabric | None]:
    """The device of a job that trains nothing, and the processes that share it; None for one alone, which is spared the
    import of Fabric.

    Raises:
        UserError: as `make_fabric`.
    """
    machines.check_started()
    if machines.processes == 1:
        return open_device(device), None
    fabric = make_fabric(device, machines)
    return fabric.device, fabric


def open_device(name: str) -> torch.device:
    """The device of a job in one process, with the CPU tuned for it.

    Args:
        name: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        UserError: the device is unknown or not there.
    """
    kind, index = _check_device(name)
    tune_cpu()
    return torch.device("cpu") if kind == "cpu" else torch.device(kind, int(index or 0))


def make_fabric(device: str, machines: MachineOptions | None = None, precision: str = "32") -> Fabric:
    """The machine as a Fabric, launched: with several devices this program is started once more for each other one,
    unless torchrun or srun has started all of them.

    Only for what trains, or runs in several processes: importing Fabric takes as long as torch itself.

    Args:
        device: as `open_device` takes it.
        machines: how many processes; by default this one alone, whatever started it.
        precision: as `ArithmeticOptions` has it; weights stay in 32 bits.

    Raises:
        UserError: the device is unknown or not there, or so many of it, or an unknown precision.
    """
    kind, index = _check_device(device)
    if machines is not None:
        machines.check_started()
        _check_devices(kind, index, machines)
    reduced = ArithmeticOptions(precision).on(torch.device(kind)).is_reduced
    tune_cpu()
    with _hidden("torchmetrics"):
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.lightning import LightningEnvironment

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # hints on programming, amid our output
    machines = machines or MachineOptions()
    in_a_job = "SLURM_JOB_ID" in os.environ and not _started_by()[1]  # Fabric would wait for what srun did not start
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=[int(index)] if index else machines.devices,
            num_nodes=machines.num_nodes,
            plugins=LightningEnvironment() if in_a_job else None,
            precision="bf16-mixed" if reduced else "32-true",
        )
        fabric.launch()
    except ValueError as error:  # srun started others on each machine
        raise UserError(f"--devices {machines.devices} --num-nodes {machines.num_nodes}: {one_line(error)}") from error
    if fabric.world_size > 1:
        _end_together(fabric)
    return fabric


@contextmanager
def _hidden(module: str) -> Iterator[None]:
    """A module that is not found while others are imported: Fabric imports torchmetrics where it is installed, only to
    read its version, and torchmetrics imports torchvision, transformers and more, for seconds.
    """
    loaded = sys.modules.get(module)
    sys.modules[module] = None  # type: ignore[assignment]  # how Python marks a module that is not to be found
    try:
        yield
    finally:
        del sys.modules[module]
        if loaded is not None:
            sys.modules[module] = loaded


def _check_device(name: str) -> tuple[str, str]:
    """What kind of device, and which of them, empty if any."""
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdigit())):
        raise UserError(f"--device {name}: unknown; use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {name}: not on this machine; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {name}: not on this machine; use --device cpu")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return kind, index


def _end_together(fabric: Fabric) -> None:
    """A process of a run does not go on alone, for hours perhaps, where another one has died."""
    if (fabric.local_rank > 0 or _started_by()[1]) and sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: the one that started it has ended
    started = getattr(fabric.strategy.launcher, "procs", [])  # none where torchrun starts and watches them all
    if started:
        threading.Thread(target=_watch, args=(started,), daemon=True).start()


def _watch(started: Sequence[subprocess.Popen[bytes]]) -> None:
    """End this process when one of those that it started has failed; lightning-fabric would, but without a word."""
    while not any(process.poll() for process in started):
        time.sleep(0.5)
    time.sleep(1)  # whatever is wrong may be wrong here too, and is said better
    os.write(2, f"advmix: {ALONE}\n".encode())
    os._exit(2)


def _check_devices(kind: str, index: str, machines: MachineOptions) -> None:
    if machines.processes > 1 and (index or kind == "mps"):
        flags = f"--devices {machines.devices} --num-nodes {machines.num_nodes}"
        raise UserError(f"{flags}: --device names a single one; use auto, cpu or cuda")
    if kind == "cuda" and machines.devices > torch.cuda.device_count():
        raise UserError(f"--devices {machines.devices}: this machine has {torch.cuda.device_count()}")
    alone = machines.num_nodes > 1 and not _started_by()[1] and "NODE_RANK" not in os.environ
    if alone:
        raise UserError(f"--num-nodes {machines.num_nodes}: start this command on each machine with torchrun or srun")


def mean_over(fabric: Fabric, number: Tensor) -> float:
    """The mean of a number `()` over all processes; all of them must ask."""
    mean = fabric.all_reduce(number.detach().clone())
    assert isinstance(mean, Tensor)
    return float(mean)


def anywhere(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is up in any of the processes; all of them must ask."""
    return mean_over(fabric, torch.tensor(float(flag))) > 0


def in_first_process(fabric: Fabric | None, job: Callable[[], T]) -> T:
    """What `job` returns, or the `UserError` that it raises, in all processes; it runs in the first one alone."""
    if fabric is None:
        return job()
    answer: tuple[T | None, str | None] = (None, None)
    if fabric.is_global_zero:
        try:
            answer = (job(), None)
        except UserError as error:
            answer = (None, str(error))
    result, trouble = fabric.broadcast(answer)
    if trouble is not None:
        raise UserError(trouble)
    return cast(T, result)


def is_first(fabric: Fabric | None) -> bool:
    """Whether this is the first process, which alone writes and speaks."""
    return fabric is None or fabric.is_global_zero


def local_first(fabric: Fabric | None) -> AbstractContextManager[None]:
    """What is downloaded in it, one process of each machine downloads; the others find it there."""
    return nullcontext() if fabric is None else fabric.rank_zero_first(local=True)


def own_turns(fabric: Fabric | None, jobs: Sequence[Job]) -> Sequence[Job]:
    """The jobs of this process: all of them take turns."""
    return jobs if fabric is None else jobs[fabric.global_rank :: fabric.world_size]


def in_turns(fabric: Fabric | None, jobs: Sequence[Job], do: Callable[[Job], T]) -> list[T]:
    """What `do` returns for each job, in all processes, which take turns with the jobs; tensors on the CPU."""
    own = [do(job) for job in own_turns(fabric, jobs)]
    if fabric is None or fabric.world_size == 1:
        return own
    parts = [fabric.broadcast(own, source) for source in range(fabric.world_size)]
    return [parts[place % len(parts)][place // len(parts)] for place in range(len(jobs))]


def own_part(fabric: Fabric, count: int) -> slice:
    """This process's part of a batch of `count` that all processes draw alike."""
    rank, processes = fabric.global_rank, fabric.world_size
    return slice(rank * count // processes, (rank + 1) * count // processes)


def check_batch(fabric: Fabric, flag: str, batch: int) -> None:
    """Refuse a batch that cannot be divided equally among the processes.

    Raises:
        UserError: naming the flag.
    """
    if batch % fabric.world_size:
        raise UserError(f"{flag} {batch}: not a multiple of the {fabric.world_size} devices")


def tune_cpu() -> None:
    """Two settings that make CPU training up to several times faster.

    Numbers below 1e-38 count as zero. On glibc, freed blocks are kept for the next step, whatever their size, instead
    of going back to the system, which would hand them out again page by page, each one zeroed first.
    """
    torch.set_flush_denormal(True)
    if _has_glibc():
        libc = ctypes.CDLL(None)
        libc.mallopt(-4, 0)  # M_MMAP_MAX: no block is the system's own
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


@contextmanager
def one_thread() -> Iterator[None]:
    """Tensors of a few hundred numbers are computed in one thread: sharing them out takes longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def give_back_memory() -> None:
    """Freed blocks go back to the system, which would have to wait for the end of the process since `tune_cpu`."""
    gc.collect()
    if _has_glibc():
        ctypes.CDLL(None).malloc_trim(0)


def _has_glibc() -> bool:
    return platform.libc_ver()[0] == "glibc"


def environment() -> dict[str, Any]:
    """What a result was made with: versions, platform, cores, GPU."""
    from advmix import __version__

    return {
        "advmix": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpu_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
