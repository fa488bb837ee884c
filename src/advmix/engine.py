"""The machine under a job: device, processes and CPU settings, by lightning-fabric."""

from __future__ import annotations

import ctypes
import platform
from typing import Any

import torch
from lightning_fabric import Fabric

from advmix.errors import UserError


def make_fabric(device: str) -> Fabric:
    """One device as a Fabric: `auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1`, `mps`.

    Raises:
        UserError: the device is unknown or not there.
    """
    kind, _, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdigit())):
        raise UserError(f"--device {device}: unknown; use auto, cpu, cuda, cuda:N or mps")
    if kind == "cuda" and (not torch.cuda.is_available() or int(index or 0) >= torch.cuda.device_count()):
        raise UserError(f"--device {device}: not on this machine; use --device cpu")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError(f"--device {device}: not on this machine; use --device cpu")
    if kind == "auto":
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    tune_cpu()
    fabric = Fabric(accelerator=kind, devices=[int(index)] if index else 1)
    fabric.launch()
    return fabric


def tune_cpu() -> None:
    """Two settings that make CPU training up to several times faster.

    Numbers below 1e-38 count as zero. On glibc, freed blocks of up to 32 MiB are kept for the next step instead of
    going back to the system, which would hand them out again page by page, each one zeroed first.
    """
    torch.set_flush_denormal(True)
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, 32 MiB is glibc's limit
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


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
