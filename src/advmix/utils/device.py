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
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor

from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.errors import ALONE, UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

T = TypeVar("T")


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


def make_fabric(device: str, devices: int = 1, precision: str = "32") -> Fabric:
    """The machine as a Fabric, launched: with several devices this program is started once more for each other one.

    Only for what trains, or runs in several processes: importing Fabric takes as long as torch itself.

    Args:
        device: as `open_device` takes it.
        devices: how many of them, a process each.
        precision: as `ArithmeticOptions` has it; weights stay in 32 bits.

    Raises:
        UserError: the device is unknown or not there, or so many of it, or an unknown precision.
    """
    kind, index = _check_device(device)
    _check_devices(kind, index, devices)
    reduced = ArithmeticOptions(precision).on(torch.device(kind)).is_reduced
    tune_cpu()
    with _hidden("torchmetrics"):
        from lightning_fabric import Fabric

    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # hints on programming, amid our output
    own = [int(index)] if index else devices
    fabric = Fabric(accelerator=kind, devices=own, precision="bf16-mixed" if reduced else "32-true")
    fabric.launch()
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
    if not fabric.is_global_zero:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: the one that started it has ended
        return
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


def _check_devices(kind: str, index: str, devices: int) -> None:
    if devices < 1:
        raise UserError(f"--devices {devices}: must be at least 1")
    if devices > 1 and (index or kind == "mps"):
        raise UserError(f"--devices {devices}: --device names a single one; use auto, cpu or cuda")
    if kind == "cuda" and devices > torch.cuda.device_count():
        raise UserError(f"--devices {devices}: this machine has {torch.cuda.device_count()}")


def mean_over(fabric: Fabric, number: Tensor) -> float:
    """The mean of a number `()` over all processes; all of them must ask."""
    mean = fabric.all_reduce(number.detach().clone())
    assert isinstance(mean, Tensor)
    return float(mean)


def anywhere(fabric: Fabric, flag: bool) -> bool:
    """Whether the flag is up in any of the processes; all of them must ask."""
    return mean_over(fabric, torch.tensor(float(flag))) > 0


def in_first_process(fabric: Fabric, job: Callable[[], T]) -> T:
    """What `job` returns, or the `UserError` that it raises, in all processes; it runs in the first one alone."""
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


def own_part(fabric: Fabric, count: int) -> slice:
    """This process's part of a batch that all processes draw alike; `count` is a multiple of their number."""
    size = count // fabric.world_size
    return slice(fabric.global_rank * size, (fabric.global_rank + 1) * size)


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
