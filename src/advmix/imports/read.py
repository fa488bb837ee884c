"""A file of somebody else's to a `StyleGan2` of ours."""

from __future__ import annotations

import mmap
import zipfile
from pathlib import Path
from typing import BinaryIO, cast

import torch
from torch import Tensor

from advmix.errors import UserError
from advmix.generators import StyleGan2
from advmix.imports.nvidia import Found, read_nvidia
from advmix.imports.pickles import RefusedError, first_line
from advmix.imports.rosinality import read_rosinality
from advmix.imports.storages import MAGIC, MAX_FILE
from advmix.seeds import generator

TORCH = b"\x80\x02\x8a\x0a" + MAGIC.to_bytes(10, "little")
"""How a file begins that `torch.save` wrote before it wrote zip archives."""
DRAWS = 10_000
"""Styles whose mean is the mean style, where a file has none."""

NVIDIA, ROSINALITY = "stylegan2-ada", "rosinality"


def format_of(path: Path) -> str:
    """Which of the formats a file has, by its content.

    Raises:
        UserError: none, or no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not 0 < path.stat().st_size <= MAX_FILE:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes; a generator has more than 0 and at most {MAX_FILE:,}")
    with path.open("rb") as file:
        head = file.read(len(TORCH))
    if head == TORCH or zipfile.is_zipfile(path):
        return ROSINALITY
    if head[:1] == b"\x80":
        return NVIDIA
    raise UserError(f"{path}: neither a pickle of stylegan2-ada-pytorch nor a checkpoint of stylegan2-pytorch")


def read_generator(path: Path, label: int | None = None) -> StyleGan2:
    """A StyleGAN2 generator, frozen and in eval mode. Nothing in the file is executed.

    >>> dec = read_generator(Path("network-snapshot-025000.pkl"))
    >>> dec(dec.sample(4, truncation=0.7))                      # images (4, 3, H, W) in [0, 1]

    Args:
        path: a pickle of stylegan2-ada-pytorch or stylegan3 (StyleGAN2 configurations), or a checkpoint of rosinality's
            stylegan2-pytorch.
        label: the class whose images are wanted, where the generator is conditional.

    Raises:
        UserError: another file, a damaged or hostile one, or a label that does not fit.
    """
    kind = format_of(path)
    try:
        if kind == ROSINALITY and label is not None:
            raise RefusedError(f"knows no classes, so that --label {label} has no meaning; leave it out")
        return build(_read_pickle(path, label) if kind == NVIDIA else read_rosinality(path))
    except (RefusedError, UserError) as error:
        raise UserError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise UserError(f"{path}: its tensors do not make a StyleGAN2 ({first_line(error)})") from error


def _read_pickle(path: Path, label: int | None) -> Found:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        return read_nvidia(cast(BinaryIO, mapped), label)  # a map reads no more than there is, whatever a length says


def build(found: Found) -> StyleGan2:
    """The network with these tensors, in float32, frozen and in eval mode.

    Raises:
        RefusedError: tensors that do not fit, or are not finite.
    """
    config, tensors = found
    if config.channels not in (1, 3):
        raise RefusedError(f"images of {config.channels} channels; 1 or 3 can be read")
    with torch.device("meta"):  # takes no memory: the file's tensors say the sizes, and may lie
        network = StyleGan2(config)
    has_mean = "mean_style" in tensors
    complete = tensors if has_mean else {**tensors, "mean_style": torch.zeros(config.style_dim)}
    _check_fit(network, complete)
    network.load_state_dict({name: tensor.float() for name, tensor in complete.items()}, assign=True)
    network.requires_grad_(False).eval()
    if not has_mean:
        z = torch.randn(DRAWS, config.z_dim, generator=generator(0, "mean style"))
        network.mean_style.copy_(network.mapping(z).mean(dim=0))
    return network


def _check_fit(network: StyleGan2, tensors: dict[str, Tensor]) -> None:
    wanted = network.state_dict()
    for name in sorted(wanted.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        expected = tuple(wanted[name].shape) if name in wanted else "absent"
        if found != expected:
            raise RefusedError(f"what becomes {name} is {found}; in a StyleGAN2 of these settings it is {expected}")
        if not torch.isfinite(tensors[name]).all():
            raise RefusedError(f"numbers that are not finite, in what becomes {name}")
