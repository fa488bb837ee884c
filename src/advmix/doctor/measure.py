"""One search that holds all smaller ones: what fewer restarts and fewer steps would have found, without searching
again.

The candidates of `R' <= R` restarts and `K' <= K` steps are among those of `R` and `K`, because donors are drawn in
order and a step does not depend on how many follow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from advmix.candidates import Loss
from advmix.data.images import slices
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.base import Generator
from advmix.inspect.survival import Survival, mixed_answers
from advmix.latents import Latents, Split, join_splits, single_splits, split_name
from advmix.metrics import DRAWN_TOGETHER, search_loss
from advmix.mixing import AdvMix, SearchOptions, cross_entropy, draw_all_donors
from advmix.utils.memory import RowBudget, in_parts
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, generator


@dataclass(frozen=True, eq=False)
class Nested:
    """Every verdict of a search over N images, on the CPU.

    Attributes:
        plain: `(N,)`, whether the reconstruction is classified rightly.
        wrong: `(K + 1, R, N)`, whether a candidate is classified wrongly; step 0 is the start.
        losses: `(K + 1, R, N)`, the classifier's cross-entropy on it.
        images: `(N, C, H, W)` in [0, 1], the candidate with the highest loss of all.
    """

    plain: Tensor
    wrong: Tensor
    losses: Tensor
    images: Tensor

    def right(self, restarts: int, steps: int) -> Tensor:
        """`(N,)`: right on the reconstruction and on every candidate of the smaller search."""
        return self.plain & ~self.wrong[: steps + 1, :restarts].flatten(0, 1).any(dim=0)

    def loss(self, restarts: int, steps: int) -> Tensor:
        """`(N,)`: the highest loss that the smaller search finds, in nats."""
        return self.losses[: steps + 1, :restarts].flatten(0, 1).amax(dim=0)


class Recorder:
    """A loss that writes down the verdict on every candidate it is asked about.

    Args:
        loss: what is climbed.
    """

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.wrong: list[Tensor] = []
        self.losses: list[Tensor] = []

    def __call__(self, logits: Tensor, labels: Tensor) -> Tensor:
        """What the search climbs, `(B,)`."""
        self.wrong.append((answers(logits.detach()) != labels).cpu())
        self.losses.append(cross_entropy(logits.detach(), labels).cpu())
        return self.loss(logits, labels)


def nested_search(
    classifier: nn.Module,
    model: Autoencoder,
    search: SearchOptions,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    *,
    seed: int,
    title: str = "search",
) -> Nested:
    """The search of `audit.evaluate.worst_case`, from the same donors, with every verdict kept.

    Args:
        classifier: images in [0, 1] to logits; on the device of `latents`, `labels`, `pool` and `model`.
        model: its generator draws the candidates.
        search: the largest search.
        latents: codes of the images, length N, not members of the pool.
        labels: `(N,)`.
        pool: whose `z⊥` are borrowed.
        seed: of the donors.
        title: of the progress bar.
    """
    parts, loss, budget = [], search_loss(classifier, model.generator, latents), RowBudget(DRAWN_TOGETHER)
    mixer = search.mixer(model.generator)
    with track(title, len(latents)) as advance:
        for part in slices(len(latents), DRAWN_TOGETHER):
            count, rng = part.stop - part.start, generator(seed, "worst-case", part.start)
            donors = draw_all_donors(mixer.search, count, len(pool), None, rng)
            known = partial(_search, classifier, mixer, latents[part], labels[part], pool, donors, loss)
            parts += budget.parts(known, count, labels.device, advance)
    columns = zip(*((part.plain, part.wrong, part.losses, part.images) for part in parts), strict=True)
    plain, wrong, losses, images = columns
    return Nested(torch.cat(plain), torch.cat(wrong, dim=2), torch.cat(losses, dim=2), torch.cat(images))


def _search(
    classifier: nn.Module,
    mixer: AdvMix,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: Tensor,
    loss: Loss,
    rows: slice,
) -> Nested:
    """Some of the images, all at once."""
    own, recorder, shape = latents[rows], Recorder(loss), (mixer.search.restarts, -1)
    mix = mixer(classifier, own, labels[rows], pool, loss=recorder, donors=donors[..., rows])
    with torch.no_grad(), eval_mode(classifier, mixer.generator) as (judge, decoder):
        plain = answers(judge(decoder(own))) == labels[rows]
    wrong, losses = (torch.stack(found).unflatten(1, shape) for found in (recorder.wrong, recorder.losses))
    return Nested(plain.cpu(), wrong, losses, mix.images.cpu())


FOLDS = 5

"""Of the cross-validation; a class with fewer members cannot be in all of them and is left out."""

WIDEST = 1024

"""A part with more numbers than this is projected at random: distances hardly change, and the probe stays quick."""


def readable(codes: Tensor, labels: Tensor, seed: int = 0) -> float | None:
    """How well a logistic regression reads the label: balanced accuracy under cross-validation, scaled.

    Args:
        codes: `(N, P)`.
        labels: `(N,)`.
        seed: of the folds.

    Returns:
        0 at chance, 1 where every class is always right, below 0 where it is worse than chance; None where fewer than
        two classes have enough members.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.random_projection import GaussianRandomProjection

    seed %= 2**32  # scikit-learn's largest
    counted = labels.bincount()[labels] >= FOLDS
    found, wanted = codes[counted].cpu().double().numpy(), labels[counted].cpu().numpy()
    if len(set(wanted.tolist())) < 2:
        return None
    if found.shape[1] > WIDEST:
        found = GaussianRandomProjection(WIDEST, random_state=seed).fit_transform(found)
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000, tol=1e-3))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return float(balanced_accuracy_score(wanted, cross_val_predict(probe, found, wanted, cv=folds), adjusted=True))


def leakage(latents: Latents, labels: Tensor, split: Split, seed: int = 0) -> tuple[float | None, dict[str, float]]:
    """What `readable` says of z⊥, and of every layer by its name (`"grid"` is the spatial code).

    Args:
        latents: of N images.
        labels: `(N,)`.
        split: which layers are z⊥.
        seed: of the folds.
    """
    whole = readable(split.perp_of(latents), labels, seed)
    if whole is None:
        return None, {}
    parts = single_splits(split.layers, latents.grid is not None)
    found = {split_name(unit): readable(unit.perp_of(latents), labels, seed) for unit in parts}
    return whole, {name: value for name, value in found.items() if value is not None}


FINE = 1e-3

"""Two codes are the same when no number differs by more than about this many standard deviations of the pool."""


@torch.no_grad()
def swap_changes(generator: Generator, latents: Latents, donors: Latents, splits: Sequence[Split]) -> list[float]:
    """Mean absolute pixel change, pixels in [0, 1], when N images take these layers of their donors, for each split."""

    def change(rows: slice) -> Tensor:
        """Summed over some of the images, `(S,)`."""
        own, theirs = latents[rows], donors[rows]
        plain = generator(own)
        mixed = (generator.render(generator.prefix(own, split), split.perp_of(theirs)) for split in splits)
        return torch.stack([(one - plain).abs().flatten(1).mean(dim=1).sum().cpu().double() for one in mixed])

    with eval_mode(generator):
        changes = in_parts(change, len(latents), latents.styles.device, most=100)
    return (torch.stack(changes).sum(dim=0) / len(latents)).tolist()


@dataclass(frozen=True)
class Moves:
    """What swaps change, mean absolute pixel change in [0, 1]: of z⊥, of everything."""

    perp: float
    everything: float

    @property
    def share(self) -> float:
        """Of the change that swapping everything makes; 0 where that changes nothing."""
        return self.perp / self.everything if self.everything > 0 else 0.0


def moves(generator: Generator, latents: Latents, donors: Latents, split: Split) -> Moves:
    """Swap z⊥ between N images and their donors, and swap everything."""
    everything = join_splits(single_splits(generator.layers, latents.grid is not None))
    return Moves(*swap_changes(generator, latents, donors, [split, everything]))


@torch.no_grad()
def survival(
    reference: nn.Module,
    generator: Generator,
    split: Split,
    latents: Latents,
    labels: Tensor,
    pool: Latents,
    donors: Tensor,
) -> Survival:
    """What a reference sees in mixes of N images with the z⊥ of their donors, `(D, N)` places in the pool.

    Args:
        reference: images in [0, 1] to logits; all networks and latents are on one device.
        generator: `dec`.
        split: which layers are z⊥.
        latents: of N images, with their residual where mixes keep it.
        labels: `(N,)`, on the CPU.
        pool: whose z⊥ are lent.
        donors: places in the pool.
    """
    with eval_mode(reference, generator) as (model, _):
        found = in_parts(
            lambda rows: mixed_answers(model, generator, split, latents[rows], pool, donors[:, rows]),
            len(latents),
            latents.styles.device,
        )
    return Survival.of(torch.cat(found, dim=1), labels)


@dataclass(frozen=True)
class Pool:
    """A pool of z⊥.

    Attributes:
        size: how many.
        duplicates: share of them that another one equals.
        spread: root mean square standard deviation of a latent number, as a share of its root mean square.
    """

    size: int
    duplicates: float
    spread: float


def describe_pool(perp: Tensor) -> Pool:
    """Of z⊥ rows `(N, P)`."""
    rows = perp.cpu().double()
    deviation, size = rows.std(dim=0, correction=0), rows.square().mean().sqrt()
    cells = (rows / (FINE * deviation.square().mean().sqrt()).clamp_min(1e-12)).round()
    _, counts = cells.unique(dim=0, return_counts=True)
    twins = int(counts[counts > 1].sum())
    spread = deviation.square().mean().sqrt() / size.clamp_min(1e-12)
    return Pool(len(rows), twins / len(rows), float(spread))


@dataclass(frozen=True)
class Found:
    """What searches of several sizes found on the same images: shares that stay right, mean losses in nats.

    Attributes:
        images: how many.
        restarts: R of the search that is asked about.
        steps: K of it.
        right: R restarts, K steps.
        right_restarts: 2R restarts, K steps.
        right_steps: R restarts, 2K steps.
        right_largest: all restarts that there are, 2K steps.
        loss_random: one random donor.
        loss_random_many: the worst of K + 1 random donors, as many candidates as one climb has.
        loss_climb: one donor and K steps from it.
    """

    images: int
    restarts: int
    steps: int
    right: float
    right_restarts: float
    right_steps: float
    right_largest: float
    loss_random: float
    loss_random_many: float | None
    loss_climb: float


def compare_searches(nested: Nested, restarts: int, steps: int) -> Found:
    """Read the smaller searches off one that holds them all, with at least twice the restarts and steps."""

    held = nested.losses.shape[1]

    def right(r: int, k: int) -> float:
        return float(nested.right(r, k).double().mean())

    def loss(r: int, k: int) -> float:
        return float(nested.loss(r, k).double().mean())

    return Found(
        images=len(nested.plain),
        restarts=restarts,
        steps=steps,
        right=right(restarts, steps),
        right_restarts=right(2 * restarts, steps),
        right_steps=right(restarts, 2 * steps),
        right_largest=right(held, 2 * steps),
        loss_random=loss(1, 0),
        loss_random_many=loss(steps + 1, 0) if steps + 1 <= held else None,
        loss_climb=loss(1, steps),
    )
