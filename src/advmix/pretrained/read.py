"""A file of somebody else's to a `StyleGan2` of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from advmix.generators.stylegan2 import StyleGan2
from advmix.pretrained.nvidia import Found, generator_in, make_module, make_tensorflow, read_nvidia
from advmix.pretrained.rosinality import read_rosinality, state_in
from advmix.pretrained.safe_pickle import Maker, RefusedError, first_line
from advmix.pretrained.tensors import MAX_FILE, VALUES, read_file
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator, misfit, not_finite, outline

DRAWS, AT_ONCE = 10_000, 250
"""Styles whose mean is the mean style, where a file has none; and how many are made at once."""

NVIDIA, ROSINALITY = "stylegan2-ada", "rosinality"

NAMES: dict[str, Maker] = {
    **VALUES,
    "torch_utils.persistence _reconstruct_persistent_obj": make_module,
    "dnnlib.tflib.network Network": make_tensorflow,
}
"""The names of which more is made than a record; whatever else a file names does nothing."""


@dataclass(frozen=True, eq=False)
class Imported:
    """A generator, and where it came from.

    Attributes:
        generator: in float32, frozen and in eval mode.
        format: whose file it was, `stylegan2-ada` or `rosinality`.
        remarks: what a user should know about how it was read, a sentence each.
    """

    generator: StyleGan2
    format: str
    remarks: tuple[str, ...]


def read_generator(path: Path, label: int | None = None, mapping_lr: float | None = None) -> StyleGan2:
    """A StyleGAN2 generator, frozen and in eval mode. Nothing in the file is executed.

    >>> dec = read_generator(Path("network-snapshot-025000.pkl"))
    >>> dec(dec.sample(4, truncation=0.7))                      # images (4, 3, H, W) in [0, 1]

    Args:
        path: a pickle of stylegan2-ada-pytorch or stylegan3 (StyleGAN2 configurations), or a checkpoint of rosinality's
            stylegan2-pytorch.
        label: the class whose images are wanted, where the generator is conditional.
        mapping_lr: learning rate of the mapping network relative to the rest's, `lr_mlp`, where a checkpoint of
            stylegan2-pytorch does not state it.

    Raises:
        UserError: another file, a damaged or hostile one, or a label or learning rate that does not fit.
    """
    return import_generator(path, label, mapping_lr).generator


def import_generator(path: Path, label: int | None = None, mapping_lr: float | None = None) -> Imported:
    """As `read_generator`, with what is to be said about it.

    Raises:
        UserError: likewise.
    """
    _check_file(path)
    try:
        kind, found, remarks = read_found(path, label, mapping_lr)
        return Imported(build(found), kind, tuple(remarks))
    except (RefusedError, UserError) as error:
        raise UserError(f"{path}: {error}") from error
    except (RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        raise UserError(f"{path}: its tensors do not make a StyleGAN2 ({first_line(error)})") from error


def _check_file(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"{path}: a folder; name the file in it, a .pkl or .pt")
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not 0 < path.stat().st_size <= MAX_FILE:
        raise UserError(f"{path}: {path.stat().st_size:,} bytes; a generator has more than 0 and at most {MAX_FILE:,}")


def read_found(path: Path, label: int | None = None, mapping_lr: float | None = None) -> tuple[str, Found, list[str]]:
    """The format of a file, the network in it in float64, and remarks.

    Raises:
        RefusedError: no StyleGAN2, or a label or learning rate that does not fit it.
    """
    content, size = read_file(path, NAMES), path.stat().st_size
    snapshot = generator_in(content)
    if snapshot is not None:
        name, network = snapshot
        if mapping_lr is not None:
            raise RefusedError("states the learning rate of its mapping network; leave --mapping-lr out")
        return NVIDIA, read_nvidia(network, size, label), [] if name == "G_ema" else [f"the generator in it is {name}"]
    state = state_in(content, size)
    if label is not None:
        raise RefusedError(f"knows no classes, so that --label {label} has no meaning; leave it out")
    found, remarks = read_rosinality(state, mapping_lr)
    return ROSINALITY, found, remarks if state.place == "g_ema" else [f"the generator in it is {state.place}", *remarks]


def build(found: Found) -> StyleGan2:
    """The network with these tensors, in float32, frozen and in eval mode.

    Raises:
        RefusedError: tensors that do not fit, or are not finite.
    """
    config, tensors = found
    if config.channels not in (1, 3):
        raise RefusedError(f"images of {config.channels} channels; 1 or 3 can be read")
    network = outline(lambda: StyleGan2(config))  # takes no memory: the file's tensors say the sizes, and may lie
    mean = tensors.get("mean_style")
    style = torch.zeros(config.style_dim) if mean is None else _one_style(mean, config.style_dim)
    complete = {name: tensor.float() for name, tensor in {**tensors, "mean_style": style}.items()}
    _check_fit(network, complete)
    network.load_state_dict(complete, assign=True)
    network.requires_grad_(False).eval()
    if mean is None:
        network.mean_style.copy_(_mean_style(network))
    return network


def _one_style(mean: Tensor, dim: int) -> Tensor:
    """The mean style `(D,)`, where a file has one for every layer, too.

    Raises:
        RefusedError: another one for every layer.
    """
    rows = mean.reshape(-1, dim) if mean.numel() % dim == 0 else mean.reshape(1, -1)
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        raise RefusedError(
            f"its mean latent differs from layer to layer, {tuple(mean.shape)}; only one for all layers can be read: "
            "without latent_avg in the file, the mean of 10,000 draws is taken"
        )
    return rows[0]


def _mean_style(network: StyleGan2) -> Tensor:
    z = torch.randn(DRAWS, network.z_dim, generator=generator(0, "mean style"))
    return torch.stack([network.mapping(part).sum(dim=0) for part in z.split(AT_ONCE)]).sum(dim=0) / DRAWS


def _check_fit(network: StyleGan2, tensors: dict[str, Tensor]) -> None:
    wrong = misfit(network, tensors)
    if wrong is not None:
        name, found, expected = wrong
        raise RefusedError(f"what becomes {name} is {found}; in a StyleGAN2 of these settings it is {expected}")
    broken = not_finite(tensors)
    if broken is not None:
        raise RefusedError(f"numbers that are not finite, in what becomes {broken}")
