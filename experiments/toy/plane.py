"""The plane of the toy example: its points, the points as images, the true decoder as a `Generator`, its mixers."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.generators.base import Generator, State
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Mixer, RandMix, SearchOptions
from advmix.report.drawing import INK, MUTED

PERP_GAP, PARALLEL_GAP = 10.0, 20.0

PERP_STD, PARALLEL_STD = sqrt(3), 1.0

CENTRE = (5.0, 10.0)

SIDE = 200.0

"""Images show the square of this side around the centre of the four clusters: wide enough for every shift."""


@dataclass(frozen=True, eq=False)
class Points:
    """Points `plane` `(N, 2)`, columns x1 and x2 in the example's own units, with `labels` `(N,)` in {0, 1}."""

    plane: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: Tensor | slice) -> Points:
        return Points(self.plane[index], self.labels[index])

    def shifted(self, distance: float) -> Points:
        """z⊥ moved against the label: up by `distance` where y = 0, down where y = 1.

        Where z⊥ is 10 y, a shift of 5 makes it say nothing, and one of 10 reverses it.
        """
        move = distance * (1 - 2 * self.labels)
        return Points(torch.stack([self.plane[:, 0] + move, self.plane[:, 1]], dim=1), self.labels)


def sample(count: int, agreement: float, rng: torch.Generator) -> Points:
    """`x1 ~ N(z⊥, √3)`, `x2 ~ N(20 y, 1)`, where `z⊥` is `10 y` with probability `agreement`, else `10 (1 - y)`.

    Labels and noise depend on `rng` alone, so that two agreements differ in nothing but z⊥.
    """
    labels = torch.randint(2, (count,), generator=rng)
    agrees = torch.rand(count, generator=rng) < agreement
    noise = torch.randn(count, 2, generator=rng)
    perp = PERP_GAP * torch.where(agrees, labels, 1 - labels)
    return Points(
        torch.stack([perp + PERP_STD * noise[:, 0], PARALLEL_GAP * labels + PARALLEL_STD * noise[:, 1]], dim=1), labels
    )


def to_images(plane: Tensor) -> Tensor:
    """Points `(N, 2)` as images `(N, 2, 1, 1)` in [0, 1]: one pixel, whose two channels are the coordinates."""
    return ((plane - torch.tensor(CENTRE)) / SIDE + 0.5)[:, :, None, None]


def to_plane(images: Tensor) -> Tensor:
    """The inverse of `to_images`."""
    return (images.flatten(1) - 0.5) * SIDE + torch.tensor(CENTRE)


def encode(images: Tensor) -> Latents:
    """The true encoder: layer 0, z∥, is x2; layer 1, z⊥, is x1 (noise included, so that nothing is lost)."""
    return Latents(2 * images.flatten(1).flip(1)[:, :, None] - 1)


class PlaneDecoder(Generator):
    """The true decoder: a point's x2 from z∥, its x1 from z⊥, and nothing to learn.

    `channels` is 2 here, the two coordinates.
    """

    resolution, channels, layers = 1, 2, 2

    def prefix(self, latents: Latents, split: Split) -> State:
        """Nothing to compute: the latents are the features."""
        return State(latents.styles, latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        """Put the two numbers side by side: `(B, 2, 1, 1)`."""
        return state.split.with_perp(state.latents, perp).styles.flip(1)[..., None]


def mixers(search: SearchOptions) -> dict[str, Mixer]:
    """`randmix` and `advmix` over the true decoder."""
    decoder, split = PlaneDecoder(), search.split(PlaneDecoder.layers)
    advmix = AdvMix(decoder, split, search)
    return {"randmix": RandMix(decoder, split), "advmix": advmix}


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
