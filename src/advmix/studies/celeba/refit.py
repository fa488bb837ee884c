"""A strong cheap control: the last layer fitted again, on images where the cue says nothing.

Kirichenko, Izmailov and Wilson, "Last Layer Re-Training is Sufficient for Robustness to Spurious Correlations" (2022):
deep feature reweighting. The features are left as they are. Unlike every other method it is given the groups.
"""

from __future__ import annotations

import copy
import warnings

import torch
from torch import Tensor, nn

from advmix.data import slices
from advmix.modes import evaluating
from advmix.studies.celeba.faces import Grouped

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
"""Inverse weights of the penalty; the best in cross-validation is taken."""
FOLDS = 5


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
        with evaluating(network) as (model,):
            model(images)
    finally:
        hook.remove()
    return found[0]


def refitted(network: nn.Module, data: Grouped, seed: int) -> nn.Module:
    """A copy of a classifier of two classes, whose last layer is a logistic regression on standardised features of
    balanced images.

    The paper has an l1 penalty and averages over ten draws of balanced sets; here the set is balanced already, and the
    penalty is the squared length, its strength chosen by cross-validation, groups in equal shares.

    Args:
        network: images in [0, 1] to logits `(B, 2)`; left as it is.
        data: as many images of each group.
        seed: of the folds.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    device = next(network.parameters()).device
    parts = [features_of(network, data.images.batch(rows)[0].to(device)) for rows in slices(len(data.images), 250)]
    features = torch.cat(parts).cpu().double()
    mean, spread = features.mean(dim=0), features.std(dim=0).clamp_min(1e-6)
    inputs, labels, groups = ((features - mean) / spread).numpy(), data.images.labels.numpy(), data.groups.numpy()
    folds = min(FOLDS, int(torch.bincount(data.groups).min()))
    cuts = list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(inputs, groups))
    models = {strength: LogisticRegression(C=strength, max_iter=1000) for strength in STRENGTHS}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one that has not converged is one of five, and scored like the others
        score = {strength: cross_val_score(model, inputs, labels, cv=cuts).mean() for strength, model in models.items()}
        best = models[max(STRENGTHS, key=score.__getitem__)].fit(inputs, labels)
    weight = torch.from_numpy(best.coef_[0]) / spread
    bias = float(best.intercept_[0]) - float(weight @ mean)
    return _with_last_layer(network, weight, bias)


def _with_last_layer(network: nn.Module, weight: Tensor, bias: float) -> nn.Module:
    """A copy whose logits are 0 and `weight @ features + bias`."""
    fresh = copy.deepcopy(network)
    layer = last_layer(fresh)
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[1] = weight.to(layer.weight)
        layer.bias[1] = bias
    return fresh
