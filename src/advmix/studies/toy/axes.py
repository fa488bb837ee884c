"""Axes that show the plane of the toy example: points, a classifier's answers, its boundary."""

from __future__ import annotations

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.report.style import INK, MUTED
from advmix.studies.toy.plane import to_images

LABELS = ("#882255", "#44aa99")
"""y = 0 and y = 1, after Tol: no method's colour."""
SOFT = LinearSegmentedColormap.from_list("soft labels", [LABELS[0], "#b9b4b6", LABELS[1]])
TINT = LinearSegmentedColormap.from_list("answers", ["#eed5e0", "#ffffff", "#d3ede8"])


def plane_axes(axes: Axes, across: tuple[float, float], up: tuple[float, float], ticks: tuple[bool, bool]) -> None:
    """Set up axes; `ticks`: whether x1 and x2 are named and numbered here."""
    axes.set(xlim=across, ylim=up)
    axes.set_xticks((0, 10), labels=("0", "10") if ticks[0] else ("", ""))
    axes.set_yticks((0, 20), labels=("0", "20") if ticks[1] else ("", ""))
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.spines[:].set(visible=True, color="#c9ced6", linewidth=0.8)
    if ticks[0]:
        axes.set_xlabel("x1, of z⊥", fontsize=9.5, color=INK, labelpad=1)
    if ticks[1]:
        axes.set_ylabel("x2, of z∥", fontsize=9.5, color=INK, labelpad=1)


def scatter(axes: Axes, plane: Tensor, targets: Tensor | None, size: float = 9) -> None:
    """Points coloured by their soft labels; pale where there are none."""
    x, y = plane.T.numpy()
    if targets is None:
        axes.scatter(x, y, s=size, color="#d9dde3", linewidths=0)
    else:
        axes.scatter(x, y, s=size, c=targets.numpy(), cmap=SOFT, vmin=0, vmax=1, linewidths=0, zorder=3)


def _grid(axes: Axes) -> tuple[Tensor, Tensor]:
    return torch.linspace(*axes.get_xlim(), 121), torch.linspace(*axes.get_ylim(), 91)


@torch.no_grad()
def _probabilities(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """P(y = 1) over the grid, `(len(y), len(x))`."""
    across, up = torch.meshgrid(x, y, indexing="xy")
    images = to_images(torch.stack([across, up], dim=-1).flatten(0, 1))
    return F.softmax(network(images), dim=1)[:, 1].view(across.shape)


def answers(axes: Axes, network: nn.Module) -> None:
    """Tint the plane by the classifier's answers, white where it is unsure."""
    x, y = _grid(axes)
    extent = (*axes.get_xlim(), *axes.get_ylim())
    shown = _probabilities(network, x, y).numpy()
    axes.imshow(shown, cmap=TINT, vmin=0, vmax=1, extent=extent, origin="lower", aspect="auto", zorder=0)


def boundary(axes: Axes, network: nn.Module, color: str, width: float) -> None:
    """Where both answers have probability one half."""
    x, y = _grid(axes)
    found = _probabilities(network, x, y)
    if found.amin() < 0.5 < found.amax():
        axes.contour(x.numpy(), y.numpy(), found.numpy(), levels=[0.5], colors=color, linewidths=width, zorder=2)
