"""Pictures and table of the toy example: samples of each method, the boundaries they learn, accuracy as z⊥ turns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.table import Table
from torch import Tensor, nn

from advmix.mixing import SearchOptions
from advmix.report.drawing import INK, MUTED, TRACK, Canvas, method_color, method_label
from advmix.report.tables import mean_and_spread
from advmix.utils.torch_tools import draw_seed, generator, global_seed
from experiments.toy.plane import (
    PERP_GAP,
    Points,
    answers,
    boundary,
    encode,
    mixers,
    plane_axes,
    scatter,
    to_images,
    to_plane,
)

MODEL_NAMES = {"mlp": "Small network", "logistic": "Logistic regression"}
WINDOW = (-24.0, 34.0), (-8.0, 28.0)
ACCURACIES = {
    "accuracy_biased": "as in\ntraining",
    "accuracy_unbiased": "z⊥ says\nnothing",
    "accuracy_reversed": "z⊥\nreversed",
    "accuracy_worst_pool": "every z⊥\nof the pool",
}

Run = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A classifier with what it was trained on."""

    method: str
    model: str
    agreement: float
    seed: int
    points: Points
    network: nn.Module


def draw(
    fitted: Sequence[Fitted], runs: Sequence[Run], shifts: Sequence[float], search: SearchOptions, mixup_alpha: float
) -> dict[str, Figure]:
    """All figures by name."""
    return {
        "samples": samples_figure(fitted, search, mixup_alpha),
        "boundaries": boundaries_figure(fitted, runs),
        "shift": shift_figure(runs, shifts),
    }


def settings_of(items: Sequence[Any]) -> list[tuple[str, float]]:
    """Models and agreements, in order."""

    def get(item: Any, name: str) -> Any:
        return item[name] if isinstance(item, Mapping) else getattr(item, name)

    return list(dict.fromkeys((get(item, "model"), get(item, "agreement")) for item in items))


def agreement_text(agreement: float) -> str:
    """In words: `z⊥ independent of y`."""
    known = {0.5: "z⊥ independent of y", 1.0: "z⊥ gives y away"}
    return known.get(agreement, f"z⊥ agrees with y in {100 * agreement:g} %")


def samples_figure(fitted: Sequence[Fitted], search: SearchOptions, mixup_alpha: float) -> Figure:
    """The paper's picture, a row for each agreement: training points of the first seed, and what methods make of them.

    AdvMix attacks the nominal classifier of the first model and seed, whose boundary is shown.
    """
    first = fitted[0]
    rows = [
        item for item in fitted if item.method == "nominal" and (item.model, item.seed) == (first.model, first.seed)
    ]
    width, height, left, top, gap = 2.5, 1.9, 1.05, 0.62, 0.2
    canvas = Canvas(left + 4 * (width + gap) + 0.1, top + len(rows) * (height + gap) + 0.42)
    heads = ("Training points", *(method_label(name) for name in ("mixup", "randmix", "advmix")))
    count = f"{len(first.points)} points, two labels"
    hints = (count, "weighted averages", "x1 of a random other point", "x1 found by the search")
    for column, (head, hint) in enumerate(zip(heads, hints, strict=True)):
        x = left + column * (width + gap) + width / 2
        canvas.text(x, 0.2, head, 12, weight="bold")
        canvas.text(x, 0.43, hint, 9, color=MUTED)
    for row, nominal in enumerate(rows):
        y = top + row * (height + gap)
        canvas.text(left - 0.78, y + height / 2, agreement_text(nominal.agreement), 10.5, rotation=90, weight="bold")
        made = (nominal.points.plane, nominal.points.labels.double()), *_samples(nominal, search, mixup_alpha)
        for column, (plane, targets) in enumerate(made):
            axes = canvas.axes(left + column * (width + gap), y, width, height)
            plane_axes(axes, (-11.0, 21.0), (-5.0, 25.0), ticks=(row == len(rows) - 1, column == 0))
            if column:
                scatter(axes, nominal.points.plane, None)
            scatter(axes, plane, targets)
        boundary(axes, nominal.network, INK, 1.2)
    note = "Colour: the label (mixup: its weights).  Line: boundary of the nominal classifier, which AdvMix attacks."
    canvas.text(left, canvas.height - 0.1, note, 9, ha="left", color=MUTED)
    return canvas.figure


def _samples(nominal: Fitted, search: SearchOptions, mixup_alpha: float) -> list[tuple[Tensor, Tensor]]:
    """Points and soft labels `(N,)` of mixup, RandMix and AdvMix: one new point for each training point."""
    images, labels = to_images(nominal.points.plane), nominal.points.labels
    pool, own = encode(images), torch.arange(len(labels))
    made = [_mixup(images, labels, mixup_alpha, nominal.seed)]
    for mixer in mixers(search).values():
        rng = generator(nominal.seed, "toy", "figure")
        mix = mixer(nominal.network, pool, labels, pool, rng=rng, exclude=own)
        made.append((to_plane(mix.images), labels.double()))
    return made


def _mixup(images: Tensor, labels: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor]:
    """One weight per point, as if each came from a batch of its own: torchvision draws one weight per batch."""
    rng = generator(seed, "toy", "figure", "mixup")
    weight = torch.distributions.Beta(alpha, alpha)
    with global_seed(draw_seed(rng)):
        share = weight.sample((len(labels),))
        other = torch.randperm(len(labels))
    mixed = share[:, None, None, None] * images + (1 - share)[:, None, None, None] * images[other]
    return to_plane(mixed), share * labels + (1 - share) * labels[other]


def boundaries_figure(fitted: Sequence[Fitted], runs: Sequence[Run]) -> Figure:
    """A row for each model and agreement, a column for each method: answers of the first seed, boundaries of all."""
    settings, methods = settings_of(fitted), list(dict.fromkeys(item.method for item in fitted))
    width, height, left, top, gap = 2.75, 1.72, 1.12, 0.7, 0.36
    canvas = Canvas(left + len(methods) * (width + 0.18) + 0.1, top + len(settings) * (height + gap) + 0.2)
    for column, method in enumerate(methods):
        x = left + column * (width + 0.18)
        canvas.text(x, 0.24, "■", 14, ha="left", color=method_color(method))
        canvas.text(x + 0.24, 0.24, method_label(method), 12, ha="left", weight="bold")
    for row, (model, agreement) in enumerate(settings):
        y = top + row * (height + gap)
        canvas.text(0.22, y + height / 2, MODEL_NAMES[model], 10.5, rotation=90, weight="bold")
        canvas.text(0.44, y + height / 2, agreement_text(agreement), 9, rotation=90, color=MUTED)
        for column, method in enumerate(methods):
            mine = [item for item in fitted if (item.model, item.agreement, item.method) == (model, agreement, method)]
            x = left + column * (width + 0.18)
            canvas.text(x, y - 0.12, _reversed_text(runs, model, agreement, method), 8.5, ha="left", color=INK)
            axes = canvas.axes(x, y, width, height)
            plane_axes(axes, *WINDOW, ticks=(row == len(settings) - 1, column == 0))
            _learned(axes, mine)
    return canvas.figure


def _learned(axes: Axes, fitted: Sequence[Fitted]) -> None:
    """The first seed's points and answers, and the boundaries of all seeds, thin."""
    first, *others = fitted
    answers(axes, first.network)
    for item in others:
        boundary(axes, item.network, MUTED, 0.7)
    boundary(axes, first.network, INK, 1.8)
    scatter(axes, first.points.plane, first.points.labels.double(), size=5)


def _reversed_text(runs: Sequence[Run], model: str, agreement: float, method: str) -> str:
    found = [100 * run["accuracy_reversed"] for run in runs if _is(run, model, agreement, method)]
    mean, spread = mean_and_spread(found)
    return f"z⊥ reversed: {mean:.1f}" + (f" ± {spread:.1f}" if len(found) > 1 else "") + " % right"


def _is(run: Run, model: str, agreement: float, method: str) -> bool:
    return (run["model"], run["agreement"], run["method"]) == (model, agreement, method)


def shift_figure(runs: Sequence[Run], shifts: Sequence[float]) -> Figure:
    """Accuracy against the distance by which z⊥ moves against the label: mean, and lowest to highest seed."""
    settings, methods = settings_of(runs), list(dict.fromkeys(run["method"] for run in runs))
    width, height, left, top = 3.7, 1.75, 0.6, 1.0
    columns = min(2, len(settings))
    rows = -(-len(settings) // columns)
    canvas = Canvas(left + columns * (width + 0.3) + 1.3, top + rows * (height + 0.62) - 0.02)
    for index, (model, agreement) in enumerate(settings):
        row, column = divmod(index, columns)
        x, y = left + column * (width + 0.3), top + row * (height + 0.62)
        canvas.text(x, y - 0.2, MODEL_NAMES[model], 11, ha="left", weight="bold")
        canvas.text(x + width, y - 0.2, agreement_text(agreement), 9.5, ha="right", color=MUTED)
        axes = canvas.axes(x, y, width, height)
        _shift_axes(axes, shifts, known=PERP_GAP if agreement == 1 else 0.0, first=column == 0)
        for method in methods:
            mine = [run["accuracy_shifted"] for run in runs if _is(run, model, agreement, method)]
            _curve(axes, shifts, torch.tensor(mine, dtype=torch.double), method_color(method))
    for line, method in enumerate(methods):
        x, y = left + columns * (width + 0.3) - 0.05, top + 0.15 + 0.27 * line
        canvas.text(x, y, "■", 14, ha="left", color=method_color(method))
        canvas.text(x + 0.24, y, method_label(method), 11, ha="left")
    canvas.text(left, 0.22, "Accuracy in percent, as z⊥ moves against the label", 12, ha="left", weight="bold")
    hint = "Line: mean over the seeds; band: lowest to highest.  Grey: z⊥ outside those of training."
    canvas.text(left, 0.46, hint, 9, ha="left", color=MUTED)
    foot = "Shift of z⊥.  Where z⊥ gives y away, it says nothing at 5, and at 10 it is reversed."
    canvas.text(left, canvas.height - 0.16, foot, 9.5, ha="left")
    return canvas.figure


def _shift_axes(axes: Axes, shifts: Sequence[float], known: float, first: bool) -> None:
    """`known`: up to this shift every z⊥ stays between those of training."""
    axes.set(xlim=(shifts[0], shifts[-1]), ylim=(-3, 103))
    axes.axvspan(known, shifts[-1], color=TRACK, zorder=0)
    axes.set_yticks((0, 50, 100), labels=("0", "50", "100") if first else ("", "", ""))
    axes.set_xticks((0, 5, 10, 15, 20, 25, 30))
    axes.grid(axis="y", color="#d5d9df", linewidth=0.8)
    axes.tick_params(labelsize=9, colors=MUTED, length=3)
    axes.spines[["left", "bottom"]].set(visible=True, color=MUTED)


def _curve(axes: Axes, shifts: Sequence[float], accuracies: Tensor, color: str) -> None:
    percent = 100 * accuracies
    axes.fill_between(shifts, percent.amin(dim=0), percent.amax(dim=0), color=color, alpha=0.18, linewidth=0)
    axes.plot(shifts, percent.mean(dim=0), color=color, linewidth=2.2)


def toy_table(runs: Sequence[Run]) -> Table:
    """Accuracies in percent, mean and standard deviation over the seeds: a row per model, agreement and method."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 0, 0, 1), show_edge=False)
    for name in ("model", "agree-\nment", "accuracy, %"):
        view.add_column(name)
    for name in ACCURACIES.values():
        view.add_column(name, justify="right", min_width=11)
    for model, agreement in settings_of(runs):
        for method in dict.fromkeys(run["method"] for run in runs):
            mine = [run for run in runs if _is(run, model, agreement, method)]
            summaries = [mean_and_spread([100 * run[key] for run in mine]) for key in ACCURACIES]
            cells = [f"{mean:.1f} ± {spread:.1f}" for mean, spread in summaries]
            view.add_row(model, f"{agreement:g}", method, *cells)
    return view
