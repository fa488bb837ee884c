"""Deep feature reweighting (Kirichenko et al., "Last layer re-training is sufficient for robustness to spurious
correlations", 2023): the last layer of a classifier, fitted again on held-out images with as many of each group.
"""

from __future__ import annotations

import copy
import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet, slices
from advmix.utils.torch_tools import eval_mode, generator

Array = npt.NDArray[np.generic]

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse weights of the penalty; the best in cross-validation is taken."""

FOLDS = 5

DRAWS = 10
"""Of balanced sets, over which the weights are averaged."""


def last_layer(network: nn.Module) -> nn.Linear:
    """The last linear layer of a classifier."""
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1]


@torch.no_grad()
def features_of(network: nn.Module, images: Tensor) -> Tensor:
    """What the last linear layer sees of images `(B, C, H, W)` in [0, 1]: `(B, F)`."""
    found: list[Tensor] = []
    hook = last_layer(network).register_forward_hook(lambda _, inputs, __: found.append(inputs[0]))
    try:
        with eval_mode(network) as (model,):
            model(images)
    finally:
        hook.remove()
    return found[0]


def refit_last_layer(network: nn.Module, images: ImageSet, groups: Tensor, seed: int, least: int = FOLDS) -> nn.Module:
    """A copy of a classifier, whose last layer is a logistic regression on standardised features of balanced images.

    The weights are means over ten balanced sets, as in the paper; one where all groups have the same size already. The
    penalty is the squared length, not the paper's absolute one, and its strength is chosen by cross-validation of
    accuracy, groups in equal shares.

    Args:
        network: images in [0, 1] to logits `(B, K)`; left as it is.
        images: held out.
        groups: `(N,)`, theirs, any integers.
        seed: of the balanced sets and of the folds.
        least: groups of fewer images are left out; otherwise a balanced set had hardly any of the others.

    Raises:
        ValueError: a class of which no image is left.
    """
    device = next(network.parameters()).device
    parts = [features_of(network, images.batch(rows)[0].to(device)) for rows in slices(len(images), 250)]
    features = torch.cat(parts).cpu().double()
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    draws = balanced_sets(groups, seed, least)
    missing = set(range(last_layer(network).out_features)) - set(images.labels[draws[0]].tolist())
    if missing:
        raise ValueError(f"class {min(missing)} has no group of {least} held-out images or more")
    fits = _regressions(((features - mean) / spread).numpy(), images.labels.numpy(), groups.numpy(), draws, seed)
    weights, biases = (torch.from_numpy(np.mean(part, axis=0)) for part in zip(*fits, strict=True))
    weight = weights / spread
    return _with_last_layer(network, weight, biases - weight @ mean)


def balanced_sets(groups: Tensor, seed: int, least: int = FOLDS) -> list[Tensor]:
    """Places in `groups`, in order, as many of each group as the smallest one has that counts: ten random sets, or one
    where all members are in it.
    """
    _, places, sizes = groups.unique(return_inverse=True, return_counts=True)
    members = [(places == place).nonzero()[:, 0] for place in (sizes >= least).nonzero()[:, 0].tolist()]
    if not members:
        raise ValueError(f"no group has {least} held-out images or more")
    size, rng = min(map(len, members)), generator(seed, "balanced sets")
    draws = 1 if max(map(len, members)) == size else DRAWS
    return [
        torch.cat([part[torch.randperm(len(part), generator=rng)[:size]] for part in members]).sort().values
        for _ in range(draws)
    ]


def _regressions(
    features: Array, labels: Array, groups: Array, draws: list[Tensor], seed: int
) -> list[tuple[Array, Array]]:
    """Weights `(K, F)` and biases `(K,)` of each draw, of one strength; of two classes, those of the second alone."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    first, *_ = sets = [rows.numpy() for rows in draws]
    folds = min(FOLDS, int(np.unique(groups[first], return_counts=True)[1].min()))
    cuts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(features[first], groups[first]))
    models = [LogisticRegression(C=strength, max_iter=1000) for strength in STRENGTHS]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that has not converged is one of five, and scored like the others
        scores = [cross_val_score(model, features[first], labels[first], cv=cuts).mean() for model in models]
        best = models[int(np.argmax(scores))]
        fits = []
        for rows in sets:
            best.fit(features[rows], labels[rows])
            fits.append((best.coef_, best.intercept_))
    return fits


def _with_last_layer(network: nn.Module, weights: Tensor, biases: Tensor) -> nn.Module:
    """A copy whose logits are `weights @ features + biases`; where they are of one class, the other's are 0."""
    fresh = copy.deepcopy(network)
    layer = last_layer(fresh)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[-len(weights) :] = weights.to(layer.weight)
        layer.bias[-len(biases) :] = biases.to(layer.bias)
    return fresh
