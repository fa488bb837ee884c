"""Accuracies that others published on data like ours, shown beside ours.

Made with other mean colours or textures, other networks and 28x28 pixels: neighbours, not a strict comparison. All are
on an unbiased test, as our shuffled one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from advmix.report.summary import Run

TEST = "accuracy_unbiased"
"""The one test of ours that theirs can stand beside."""

LNL_PAPER = "Kim et al., Learning Not to Learn, CVPR 2019"
CGN_AGAIN = "Counterfactual Generative Networks (Sauer and Geiger, ICLR 2021), in an independent reproduction"


@dataclass(frozen=True)
class Published:
    """One row of somebody's table.

    Args:
        label: of their method.
        source: who published it.
        values: accuracy in [0, 1] by colour variance in training; None stands for any.
    """

    label: str
    source: str
    values: Mapping[float | None, float]

    def at(self, spread: float) -> float | None:
        """Accuracy at a colour spread, None where they have none."""
        return self.values.get(spread, self.values.get(None))


LNL = (
    Published(
        "Baseline",
        LNL_PAPER,
        {0.02: 0.4055, 0.025: 0.4813, 0.03: 0.5996, 0.035: 0.6626, 0.04: 0.7333, 0.045: 0.7973, 0.05: 0.8450},
    ),
    Published(
        "LNL",
        LNL_PAPER,
        {0.02: 0.8185, 0.025: 0.8854, 0.03: 0.9137, 0.035: 0.9306, 0.04: 0.9406, 0.045: 0.9555, 0.05: 0.9618},
    ),
    Published("CGN", CGN_AGAIN, {0.02: 0.929}),
)
LOOKS = {
    "double-colored": (Published("Original", CGN_AGAIN, {None: 0.101}), Published("CGN", CGN_AGAIN, {None: 0.866})),
    "wildlife": (Published("Original", CGN_AGAIN, {None: 0.108}), Published("CGN", CGN_AGAIN, {None: 0.814})),
}
"""`Original` is training on the biased images alone, `CGN` with their counterfactual images."""


def published(runs: Sequence[Run]) -> tuple[Published, ...]:
    """What stands beside runs on MNIST's digits: under colour variances, or on one of the harder looks."""
    if any((run["data"], run.get("target", "digit")) != ("mnist", "digit") for run in runs):
        return ()
    looks = {run.get("look", "colored") for run in runs}
    if looks == {"colored"}:
        return LNL if all("color_variance" in run for run in runs) else ()
    return LOOKS.get(looks.pop(), ()) if len(looks) == 1 else ()


def caveat(runs: Sequence[Run]) -> str:
    """What is to be said wherever they are shown."""
    others = "textures" if any(run.get("look") == "wildlife" for run in runs) else "mean colours"
    return f"published, made with other {others}: neighbours, not a strict comparison"
