"""Algorithm 1 of the paper: look for the label-free latents of other images that hurt the classifier most.

Gowal et al., "Achieving Robustness in the Wild via Adversarial Mixing with Disentangled Representations" (2020).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.candidates import CandidateJudge, Candidates, Loss, decode_and_classify
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.memory import in_parts, is_measuring
from advmix.utils.torch_tools import eval_mode, frozen, rows_drawn, send

if TYPE_CHECKING:
    from advmix.generators.style import NetworkConfig

Step = Literal["sign", "gradient"]


@dataclass(frozen=True)
class Search:
    """Settings of Algorithm 1. None of the paper's is known to us: these are our own choice, found by a sweep.

    Args:
        restarts: starts per example, R.
        steps: gradient steps per start, K; each start gives K + 1 candidates.
        step_size: length of a step, in standard deviations of the pool per latent number (`sign`: of each number's
            move; `gradient`: of the whole vector's).
        radius: half-width of the box around each start, in the same unit; None for no box.
        step: along the gradient's sign, or along the gradient normalised to unit length.
        strength: how far from an image's own z⊥ to a donor's a start lies, in [0, 1]; 1 is the donor's.

    Raises:
        UserError: a value out of range.
    """

    restarts: int = 1
    steps: int = 2
    step_size: float = 0.25
    radius: float | None = 0.5
    step: Step = "sign"
    strength: float = 1.0

    def __post_init__(self) -> None:
        if self.step not in get_args(Step):
            raise UserError(f"--step {self.step}: unknown; use {' or '.join(get_args(Step))}")
        check_values(self, "strength", within=(0, 1))
        check_values(self, "restarts", least=1)
        check_values(self, "steps step_size radius", least=0)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy in nats, one number per example."""
    return F.cross_entropy(logits, labels, reduction="none")


def calibrated_cross_entropy(sample: Tensor, spread: float = 2.0) -> Loss:
    """Cross-entropy at the temperature at which a classifier's logits spread by `spread`: a search that climbs it does
    not depend on their scale. At the network's own temperature it has no gradient left where the network is sure.

    Args:
        sample: the classifier's logits on some images, `(N, C)`; rows that are no numbers say nothing.
        spread: mean standard deviation of the logits of one image, after division by the temperature. Between 2 and 4
            the search finds as much as it does on ordinary networks at their own.
    """
    deviations = sample.detach().float().std(dim=1, correction=0)
    known = deviations[deviations.isfinite()]
    scale = float(known.double().mean()) if len(known) else 0.0
    factor = spread / scale if scale > 0 else 1.0

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(logits * factor, labels)

    return loss


@torch.no_grad()
def calibrated(classifier: nn.Module, images: Tensor) -> Loss:
    """`calibrated_cross_entropy` of a classifier, from its answers to images `(N, C, H, W)` in [0, 1] on its device."""
    with eval_mode(classifier) as (model,):
        logits = in_parts(lambda rows: model(images[rows]), len(images), images.device)
    return calibrated_cross_entropy(torch.cat(logits))


@dataclass(frozen=True, eq=False)
class Trace:
    """Every candidate of a search: `perp` `(K+1, R, B, P)` and its `losses` `(K+1, R, B)`; step 0 is the start."""

    perp: Tensor
    losses: Tensor


@dataclass(frozen=True, eq=False)
class Flips:
    """Of each of R restarts, the first candidate that the classifier was wrong on: `perp` `(R, B, P)`, and `there`
    `(R, B)`, whether there was one; elsewhere `perp` says nothing.
    """

    perp: Tensor
    there: Tensor


@dataclass(frozen=True, eq=False)
class Mix:
    """What a mixer found for each of B examples.

    Attributes:
        images: `(B, C, H, W)` in [0, 1].
        latents: the example's `z∥` with the `z⊥` that was found.
        donors: `(B,)`, index in the pool of the example whose `z⊥` the search started from.
        losses: `(B,)`, the classifier's loss on `images`; None when `RandMix` was given no classifier.
        fooled: `(B,)`, whether the classifier was wrong on *any* candidate; None likewise.
        unanswered: `(B,)`, whether its answer to any candidate was not a number; None likewise.
        vanished: `(B,)`, whether its gradient was zero, or not a number, at all that the search began with, so that
            other donors were tried in place of steps; None where no gradient was asked for.
        trace: all candidates, when asked for.
        flips: of every restart, the first candidate that fooled it; None without a classifier.
    """

    images: Tensor
    latents: Latents
    donors: Tensor
    losses: Tensor | None = None
    fooled: Tensor | None = None
    unanswered: Tensor | None = None
    vanished: Tensor | None = None
    trace: Trace | None = None
    flips: Flips | None = None

    @property
    def withstood(self) -> Tensor:
        """`(B,)`, whether the classifier was right on every candidate."""
        assert self.fooled is not None
        assert self.unanswered is not None
        return ~self.fooled & ~self.unanswered

    @staticmethod
    def cat(parts: Sequence[Mix]) -> Mix:
        """What was found for the parts of a batch, one after the other; without traces."""
        names = ("images", "donors", "losses", "fooled", "unanswered", "vanished")
        columns = {name: [getattr(mix, name) for mix in parts] for name in names}
        joined: dict[str, Any] = {name: torch.cat(found) for name, found in columns.items() if found[0] is not None}
        flips = [mix.flips for mix in parts if mix.flips is not None]
        if flips:
            perp, there = [one.perp for one in flips], [one.there for one in flips]
            joined["flips"] = Flips(torch.cat(perp, dim=1), torch.cat(there, dim=1))
        return Mix(latents=Latents.cat([mix.latents for mix in parts]), **joined)


def draw_donors(shape: tuple[int, int], pool: int, exclude: Tensor | None, rng: torch.Generator | None) -> Tensor:
    """Indices `(R, B)` drawn uniformly from a pool of `pool` latents, never an example's own (`exclude`, `(B,)`)."""
    count, own = rows_drawn(rng, shape[1])
    if exclude is None:
        return torch.randint(pool, (shape[0], count), generator=rng)[:, own]
    if pool < 2:
        raise ValueError("the pool must hold another example's latents besides the example's own")
    if len(exclude) != shape[1] or not 0 <= int(exclude.min()) <= int(exclude.max()) < pool:
        raise ValueError(f"exclude must hold {shape[1]} indices from 0 to {pool - 1}, one for each example")
    donors = torch.randint(pool - 1, (shape[0], count), generator=rng)[:, own]
    return donors + (donors >= exclude.cpu()).long()


def draw_all_donors(
    search: Search, count: int, pool: int, exclude: Tensor | None = None, rng: torch.Generator | None = None
) -> Tensor:
    """Indices `(K + 1, R, B)` of all donors that a search of `count` examples may need: those that it starts from, and
    for each step those that take their place where no gradient says which way is up. See `draw_donors`.
    """
    drawn = [draw_donors((search.restarts, count), pool, exclude, rng) for _ in range(search.steps + 1)]
    return torch.stack(drawn)


def any_place(places: Tensor, pool: int, rng: torch.Generator | None) -> Tensor:
    """What `exclude` is for examples some of which are not in the pool (-1): a random member for these, so that all
    donors are as likely.
    """
    count, own = rows_drawn(rng, len(places))
    return torch.where(places < 0, torch.randint(pool, (count,), generator=rng)[own], places)


def ascend(perp: Tensor, gradient: Tensor, unit: Tensor, step_size: float, step: Step) -> Tensor:
    """One step uphill of length `step_size` where every latent number is measured in its own `unit`."""
    direction = gradient * unit
    length = direction.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return perp + step_size * unit * (direction.sign() if step == "sign" else direction / length)


def says_nothing(gradient: Tensor) -> Tensor:
    """Rows whose gradient is zero or not a number, `(N, P)` to `(N,)`: rounding, saturation, masking."""
    return ~(gradient.isfinite().all(dim=1) & gradient.any(dim=1))


def project(perp: Tensor, start: Tensor, unit: Tensor, radius: float | None) -> Tensor:
    """Back into the box of half-width `radius * unit` around `start`; no box when `radius` is None."""
    if radius is None:
        return perp
    return torch.clamp(perp, start - radius * unit, start + radius * unit)


def _towards(own: Tensor, donor: Tensor, strength: float) -> Tensor:
    """So far from one's own `z⊥` to a donor's, both `(N, P)`; exactly the donor's at 1."""
    return donor if strength == 1 else torch.lerp(own.to(donor), donor, strength)


class Mixer(ABC):
    """Gives each example the `z⊥` of another one.

    >>> mix = mixer(classifier, latents, labels, pool, exclude=index)
    >>> loss = 0.5 * F.cross_entropy(classifier(x), y) + 0.5 * F.cross_entropy(classifier(mix.images), y)

    Args of a call:
        classifier: any module from images in [0, 1] to logits `(B, C)`. Put in eval mode for the search and back after
            it; neither it nor the generator gathers gradients.
        latents: the examples' own, length B.
        labels: `(B,)`, class indices.
        pool: latents of the data set; their standard deviation is the search's unit of length.
        loss: logits and labels to `(B,)`; what the search maximises.
        rng: CPU random generator; torch's global one when None.
        exclude: `(B,)`, each example's own index in the pool.
        trace: keep every candidate.
        donors: `(K + 1, R, B)`, as `draw_all_donors` draws them, where a batch is cut into parts after the draw; drawn
            from `rng` when None.
    """

    search: Search
    needs_classifier = True
    """Whether a call needs the classifier to choose; a mixer that does not may be given None."""

    def __init__(self, generator: Generator, split: Split) -> None:
        self.generator = generator
        self.split = split

    @abstractmethod
    def __call__(
        self,
        classifier: nn.Module | None,
        latents: Latents,
        labels: Tensor,
        pool: Latents,
        *,
        loss: Loss = cross_entropy,
        rng: torch.Generator | None = None,
        exclude: Tensor | None = None,
        trace: bool = False,
        donors: Tensor | None = None,
    ) -> Mix: ...


class AdvMix(Mixer):
    """The worst `z⊥` found near those of other examples: Algorithm 1, all restarts of the batch at once.

    >>> AdvMix(generator, split, Search(restarts=5, steps=5))
    >>> AdvMix(generator, split, restarts=5, steps=5)             # the same

    Args:
        generator: `dec`.
        split: which layers are `z⊥`.
        search: how far and how long it looks.
        stop_early: leave an example alone once one of its candidates is misclassified.
        arithmetic: how candidates are computed. In 16 bits gradients are approximate, and so are the losses by which
            candidates are compared, a trace's too. Verdicts are not: whatever is called a mistake, and what is
            returned, is decoded and classified again in the networks' own type. Compiled is a candidate with its
            gradient, once for the rows of a batch; a smaller batch is filled up, or computed as it is.
        verdicts: whether that is done. Training asks for images that are hard, not for verdicts.
        settings: of `Search`, in place of those of `search`.

    Of itself a search never waits for a GPU between its first candidate and its last one; with `stop_early` once a
    step, for the examples that are left, and in 16 bits once a candidate, for the mistakes that are looked at again.
    """

    def __init__(
        self,
        generator: Generator,
        split: Split,
        search: Search | None = None,
        *,
        stop_early: bool = False,
        arithmetic: ArithmeticOptions | None = None,
        verdicts: bool = True,
        **settings: Any,
    ) -> None:
        super().__init__(generator, split)
        self.search = replace(search or Search(), **settings)
        self.stop_early, self.arithmetic = stop_early, arithmetic or ArithmeticOptions()
        self.verdicts = verdicts
        self._answer, self._rows = self.arithmetic.ready(decode_and_classify), 0

    def __repr__(self) -> str:
        return f"AdvMix({self.search}, stop_early={self.stop_early})"

    @torch.inference_mode(False)  # Lightning validates in inference mode, and the search needs gradients
    def __call__(
        self,
        classifier: nn.Module | None,
        latents: Latents,
        labels: Tensor,
        pool: Latents,
        *,
        loss: Loss = cross_entropy,
        rng: torch.Generator | None = None,
        exclude: Tensor | None = None,
        trace: bool = False,
        donors: Tensor | None = None,
    ) -> Mix:
        """Search: see `Mixer` for the arguments."""
        if classifier is None:
            raise ValueError("AdvMix needs a classifier: it looks for what hurts it")
        if trace and self.stop_early:
            raise ValueError("a trace needs every candidate: it cannot go with stop_early")
        latents, pool = latents.detach(), pool.detach()
        if donors is None:
            donors = draw_all_donors(self.search, len(latents), len(pool), exclude, rng)
        drawn = send(donors, labels.device).flatten(1)
        lent, unit = drawn[0], self.split.perp_of(pool.spread)
        own = self.split.perp_of(latents).repeat(self.search.restarts, 1)
        start = self._starts(own, pool, lent)
        labels = labels.repeat(self.search.restarts)
        rows = torch.arange(len(start), device=labels.device)
        history = []
        with eval_mode(classifier, self.generator) as (model, dec), self._alone(model, dec), torch.no_grad():
            state = whole = self.generator.prefix(latents, self.split).repeat(self.search.restarts)
            arithmetic = self.arithmetic.on(labels.device)
            compiled = self._answer, self._compiled_rows(len(start))
            judge = CandidateJudge(self.generator, model, loss, arithmetic, self.verdicts, *compiled)
            unknown = torch.zeros_like(rows, dtype=torch.bool)
            worst, gradient = judge(state, start, lent, labels, self.search.steps > 0, unknown)
            history.append((start, worst.losses))
            perp, vanished = start, None
            if self.search.steps:
                vanished = says_nothing(gradient).view(-1, len(latents)).all(dim=0)
            for step in range(1, self.search.steps + 1):
                if self.stop_early:
                    kept = self._not_fooled(worst)[rows].nonzero()[:, 0]
                    rows, perp, gradient, state = rows[kept], perp[kept], gradient[kept], state[kept]
                    own, lent, start = own[kept], lent[kept], start[kept]
                    if not len(rows):
                        break
                blind = says_nothing(gradient)
                lent = torch.where(blind, drawn[step][rows], lent)
                start = torch.where(blind[:, None], self._starts(own, pool, lent), start)
                perp = ascend(perp, gradient, unit, self.search.step_size, self.search.step)
                perp = torch.where(blind[:, None], start, project(perp, start, unit, self.search.radius))
                climb, known = step < self.search.steps, worst.fooled[rows]
                found, gradient = judge(state, perp, lent, labels[rows], climb, known)
                worst = worst.worse(rows, found)
                history.append((perp, found.losses))
            row = self._worst_rows(worst)
            if judge.asks_again:
                worst = worst.corrected(row, judge.again(whole, worst, labels, row))
        return self._worst_restart(worst, row, latents, vanished, history if trace else None)

    def _compiled_rows(self, rows: int) -> int:
        """How many are computed at once where that is compiled: the most so far, but for a few that are measured."""
        if not self.arithmetic.compile or is_measuring():
            return 0
        self._rows = max(self._rows, rows)
        return self._rows

    def _alone(self, *modules: nn.Module) -> AbstractContextManager[None]:
        """What is compiled computes gradients in all weights that ask for one: here none does."""
        return frozen(*modules) if self.arithmetic.compile else nullcontext()

    def _starts(self, own: Tensor, pool: Latents, donors: Tensor) -> Tensor:
        """Where rows begin, `(N, P)`: at the `z⊥` of their donors `(N,)`, or a part of the way to it."""
        grid = pool.grid[donors] if self.split.grid and pool.grid is not None else None
        return _towards(own, self.split.perp_of(Latents(pool.styles[donors], grid)), self.search.strength)

    def _not_fooled(self, worst: Candidates) -> Tensor:
        """Rows of the examples that the classifier got right so far, under all of their restarts."""
        return ~worst.fooled.view(self.search.restarts, -1).any(dim=0).repeat(self.search.restarts)

    def _worst_rows(self, worst: Candidates) -> Tensor:
        """For each example the row of the restart with the highest loss, `(B,)`."""
        losses = worst.losses.view(self.search.restarts, -1)
        return losses.argmax(dim=0) * losses.shape[1] + torch.arange(losses.shape[1], device=losses.device)

    def _worst_restart(
        self,
        worst: Candidates,
        row: Tensor,
        latents: Latents,
        vanished: Tensor | None,
        history: list[tuple[Tensor, Tensor]] | None,
    ) -> Mix:
        """Keep, for each example, the restart of that row."""
        shape = (self.search.restarts, len(latents))
        trace = None
        if history is not None:
            perps, values = (torch.stack(column).unflatten(1, shape) for column in zip(*history, strict=True))
            trace = Trace(perps, values)
        return Mix(
            images=worst.images[row],
            latents=self.split.with_perp(latents, worst.perp[row]),
            donors=worst.donors[row],
            losses=worst.losses[row],
            fooled=worst.fooled.view(shape).any(dim=0),
            unanswered=worst.unanswered.view(shape).any(dim=0),
            vanished=vanished,
            trace=trace,
            flips=Flips(worst.flip.unflatten(0, shape), worst.fooled.view(shape)),
        )


class RandMix(Mixer):
    """The `z⊥` of one random other example: the control for every adversarial claim.

    Without a classifier (None) nothing is judged, and `losses` and `fooled` are None.

    Args:
        generator: `dec`.
        split: which layers are `z⊥`.
        strength: how far towards the donor, in [0, 1].
    """

    needs_classifier = False

    def __init__(self, generator: Generator, split: Split, strength: float = 1.0) -> None:
        super().__init__(generator, split)
        self.search = Search(restarts=1, steps=0, strength=strength)

    def __repr__(self) -> str:
        return f"RandMix(strength={self.search.strength:g})"

    def __call__(
        self,
        classifier: nn.Module | None,
        latents: Latents,
        labels: Tensor,
        pool: Latents,
        *,
        loss: Loss = cross_entropy,
        rng: torch.Generator | None = None,
        exclude: Tensor | None = None,
        trace: bool = False,
        donors: Tensor | None = None,
    ) -> Mix:
        """Mix: see `Mixer` for the arguments."""
        if classifier is not None:
            search = AdvMix(self.generator, self.split, self.search)
            parts = classifier, latents, labels, pool
            return search(*parts, loss=loss, rng=rng, exclude=exclude, trace=trace, donors=donors)
        latents, pool = latents.detach(), pool.detach()
        lent = draw_donors((1, len(latents)), len(pool), exclude, rng) if donors is None else donors[0]
        lent = send(lent[0], labels.device)
        perp = _towards(self.split.perp_of(latents), self.split.perp_of(pool[lent]), self.search.strength)
        with eval_mode(self.generator), torch.no_grad():
            images = self.generator.render(self.generator.prefix(latents, self.split), perp)
        return Mix(images=images, latents=self.split.with_perp(latents, perp), donors=lent)


@dataclass(frozen=True)
class SearchOptions(Search):
    """A search, and the layers in which it looks.

    Args:
        perp: layers that are z⊥; negative ones count from the finest, as in Python. By default all styles beside a
            spatial grid, else the two finest layers.
        perp_grid: whether a spatial grid is z⊥ too (the reversed task).
    """

    perp: tuple[int, ...] = ()
    perp_grid: bool = False

    def split(self, layers: int) -> Split:
        """The split for a generator with so many layers.

        Raises:
            UserError: a layer outside the network.
        """
        return Split.named(layers, self.perp, self.perp_grid)

    def mixer(
        self,
        generator: Generator,
        stop_early: bool = False,
        arithmetic: ArithmeticOptions | None = None,
        verdicts: bool = True,
    ) -> AdvMix:
        """The search over a generator; see `AdvMix`."""
        split = self.split(generator.layers)
        return AdvMix(generator, split, self, stop_early=stop_early, arithmetic=arithmetic, verdicts=verdicts)


WORST_CASE = SearchOptions(restarts=5, steps=5)
"""The search that judges a classifier; training searches less."""

FINEST = SearchOptions(perp=(-2, -1))
"""The search in the two finest layers, which hold the colour of the painted digits."""


def with_layers(search: SearchOptions, network: NetworkConfig) -> SearchOptions:
    """The same search with the usual z⊥ where none is named: all styles beside a grid, else the two finest layers."""
    if search.perp or search.perp_grid:
        return search
    usual = range(network.layers) if network.grid_shape else (network.layers - 2, network.layers - 1)
    return replace(search, perp=tuple(usual))


def usual_split(perp: tuple[int, ...], perp_grid: bool, network: NetworkConfig) -> Split:
    """The split that flags name, or the usual one.

    Raises:
        UserError: a layer outside the network.
    """
    return with_layers(SearchOptions(perp=perp, perp_grid=perp_grid), network).split(network.layers)
