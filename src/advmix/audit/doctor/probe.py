"""Can a label be read off a part of the code? A linear probe (Alain and Bengio, 2016, arXiv 1610.01644), for the whole
of z⊥ and for every layer.
"""

from __future__ import annotations

from torch import Tensor

from advmix.audit.layers import unit_name, units
from advmix.latents import Latents, Split

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
    parts = units(split.layers, latents.grid is not None)
    found = {unit_name(unit): readable(unit.perp_of(latents), labels, seed) for unit in parts}
    return whole, {name: value for name, value in found.items() if value is not None}
