"""How right classifiers are on images, on their reconstructions, and on the mean over many z⊥; and what that costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet, slices
from advmix.encoders.network import Encoder
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.marginalized import Marginalized, encode, renditions
from advmix.report.drawing import INK, MUTED, TRACK, Canvas, method_color, method_label
from advmix.report.tables import Score, score
from advmix.utils.progress import Advance
from advmix.utils.torch_tools import eval_mode
from experiments.figures import spread_apart

BATCH = 250

REPEATS = 3

PLAIN, RECONSTRUCTION, MARGINALIZED = "plain", "reconstruction", "marginalized"


@torch.no_grad()
def right_answers(
    networks: Mapping[str, nn.Module],
    dec: Generator,
    encoder: Encoder,
    images: ImageSet,
    perp: Tensor,
    split: Split,
    samples: Sequence[int],
    advance: Advance,
    residual: bool = False,
) -> list[dict[str, Any]]:
    """A row for each classifier and way of asking it: `method`, `prediction`, `samples`, `accuracy`.

    Every mix is drawn once, for all classifiers and all numbers of samples: the first of the longest draw are the
    shorter ones.

    Args:
        networks: by name, images in [0, 1] to logits; in eval mode, as all others, on one device.
        dec: decodes.
        encoder: of the images.
        images: N of them.
        perp: `(max(samples), P)`, the z⊥ that are drawn.
        split: which latents are z⊥.
        samples: increasing.
        advance: called with the number of images done.
        residual: whether averaged images keep what the generator cannot draw; reconstructions never do.
    """
    right: dict[tuple[str, str, int], int] = {}

    def count(name: str, prediction: str, number: int, answers: Tensor, labels: Tensor) -> None:
        key = (name, prediction, number)
        right[key] = right.get(key, 0) + int((answers.argmax(dim=1) == labels).sum())

    for part in slices(len(images), BATCH):
        shown, labels = (tensor.to(perp.device) for tensor in images.batch(part))
        latents = encode(shown, encoder, dec, residual)
        for prediction, asked in ((PLAIN, shown), (RECONSTRUCTION, dec(replace(latents, residual=None)))):
            for name, network in networks.items():
                count(name, prediction, 0, network(asked), labels)
        totals: dict[str, Tensor] = {}
        for number, mix in enumerate(renditions(dec, latents, split, perp), start=1):
            for name, network in networks.items():
                answer = F.log_softmax(network(mix), dim=1)
                totals[name] = torch.logaddexp(totals[name], answer) if name in totals else answer
                if number in samples:
                    count(name, MARGINALIZED, number, totals[name], labels)
        advance(part.stop - part.start, "")
    keys = ("method", "prediction", "samples")
    return [dict(zip(keys, key, strict=True)) | {"accuracy": value / len(images)} for key, value in right.items()]


@torch.no_grad()
def costs(
    network: nn.Module,
    dec: Generator,
    encoder: Encoder,
    pool: Latents,
    split: Split,
    images: Tensor,
    samples: Sequence[int],
    residual: bool = False,
) -> dict[str, Any]:
    """Seconds for each image of a batch `(B, C, H, W)`, plain and by number of samples; the fastest of a few tries."""

    def seconds(ask: Callable[[Tensor], Tensor]) -> float:
        tries = []
        for _ in range(REPEATS):
            begun = time.perf_counter()
            ask(images).cpu()
            tries.append(time.perf_counter() - begun)
        return min(tries) / len(images)

    plain, found = seconds(network), []
    for number in samples:
        with eval_mode(Marginalized(network, dec, encoder, split, pool, number, residual=residual)) as (robust,):
            found.append({"samples": number, "seconds": seconds(robust)})
    return {"plain": plain, "marginalized": [{**row, "times_plain": row["seconds"] / plain} for row in found]}


Run = Mapping[str, Any]

WIDTH, HEIGHT, GAP = 2.6, 2.7, 0.55

NAMES = 1.3

SHORT = {"reconstruction": "recon."}

HINTS = {
    "biased": "each class in its own colour",
    "shuffled": "the same colours, drawn at random",
    "uniform": "any bright colour",
}


def marginal_figure(runs: Sequence[Run]) -> Figure:
    """A panel for each test: the plain answer, that on the reconstruction, the mean over N z⊥; a line per classifier.

    Args:
        runs: `method`, `seed`, `test`, `prediction`, `samples`, `accuracy` in [0, 1]; tests in the order of the panels.
    """
    tests = list(dict.fromkeys(run["test"] for run in runs))
    canvas = Canvas(0.8 + len(tests) * (WIDTH + GAP) + NAMES, HEIGHT + 1.9)
    for place, test in enumerate(tests):
        left = 0.75 + place * (WIDTH + GAP)
        axes = canvas.axes(left, 1.0, WIDTH, HEIGHT)
        _panel(axes, [run for run in runs if run["test"] == test], names=place == len(tests) - 1)
        canvas.text(left, 0.75, test.capitalize(), 10, ha="left", weight="bold")
        canvas.text(left + 0.85, 0.76, HINTS.get(test, ""), 8, ha="left", color=MUTED)
        canvas.text(left + WIDTH / 2, HEIGHT + 1.45, "mean over N z⊥, beside plain and reconstructed", 8)
    canvas.text(0.3, 0.25, "Averaging over random z⊥, beside retraining", 12, ha="left", weight="bold")
    seeds = len({run["seed"] for run in runs})
    words = "Mean over the seeds; bars: lowest to highest seed." if seeds > 1 else "One seed."
    canvas.text(0.3, HEIGHT + 1.75, f"Accuracy in percent. {words}", 8, ha="left", color=MUTED)
    return canvas.figure


def _panel(axes: Axes, runs: Sequence[Run], names: bool) -> None:
    """Plain and reconstruction are points, the means a line."""
    ways = list(dict.fromkeys((run["prediction"], run["samples"]) for run in runs))
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(-0.4, len(ways) - 0.6)
    axes.set_xticks(range(len(ways)), [str(samples) if samples else SHORT.get(way, str(way)) for way, samples in ways])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1])
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)
    axes.grid(axis="y", color=TRACK)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=MUTED)
    methods = list(dict.fromkeys(run["method"] for run in runs))
    last = [_line(axes, method, [_score(runs, method, way) for way in ways]) for method in methods]
    if names:
        inside = axes.get_yaxis_transform()
        for method, end, place in zip(methods, last, spread_apart(last, 0.075, 0, 1), strict=True):
            style: dict[str, Any] = {"color": method_color(method), "transform": inside, "clip_on": False}
            axes.plot((1, 1.03, 1.06), (end, place, place), linewidth=0.8, **style)
            axes.text(1.08, place, method_label(method), transform=inside, fontsize=9, va="center", color=INK)


def _score(runs: Sequence[Run], method: str, way: tuple[str, int]) -> Score:
    found = score(
        run["accuracy"] for run in runs if run["method"] == method and (run["prediction"], run["samples"]) == way
    )
    assert found is not None
    return found


def _line(axes: Axes, method: str, points: Sequence[Score]) -> float:
    """The last mean."""
    color = method_color(method)
    means = [point.mean for point in points]
    spread = [[p.mean - p.low for p in points], [p.high - p.mean for p in points]]
    axes.errorbar(range(len(points)), means, yerr=spread, fmt="o", color=color, markersize=4, elinewidth=1)
    axes.plot(range(2, len(points)), means[2:], color=color, linewidth=1.8)
    axes.plot([0, 1, 2], means[:3], color=color, linewidth=0.8, linestyle=":")
    return means[-1]
