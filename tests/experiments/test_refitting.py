"""A last layer that is fitted again, and the balanced sets that it is fitted to."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.utils.torch_tools import global_seed
from experiments.refitting import balanced_sets, features_of, last_layer, refit_last_layer
from tiny import assert_same_state, state_of


def shaded(classes: int, count: int) -> tuple[nn.Module, ImageSet]:
    """A network whose last layer cannot tell any classes, and images that are the darker the higher their class."""
    with global_seed(0):
        network = conv_net(classes, widths=(8, 8))
        pixels = torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8)
    labels = torch.arange(count) % classes
    with torch.no_grad():
        last_layer(network).weight[:] = last_layer(network).weight[0]
    return network, ImageSet(pixels // (labels + 1)[:, None, None, None], labels, tuple("abcd"[:classes]))


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("uneven", [True, False])
def test_a_refitted_layer_reads_what_the_old_one_missed(classes: int, uneven: bool) -> None:
    network, images = shaded(classes, 120)
    groups = torch.where(torch.arange(120) < (30 if uneven else 60), images.labels, images.labels + 10)
    before = state_of(network)
    found = refit_last_layer(network, images, groups, seed=0)
    again = refit_last_layer(network, images, groups, seed=0)
    assert_same_state(state_of(network), before)
    assert all(part.training for part in network.modules())
    assert_same_state(state_of(again), state_of(found))
    x = images.batch(slice(None))[0]
    with torch.no_grad():
        assert (found.eval()(x).argmax(1) == images.labels).double().mean() > 0.9
        assert torch.equal(features_of(found, x), features_of(network, x))


def chosen(inputs: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int) -> float:
    """The strength whose models are right most often on the fold that they have not seen."""
    best = (-1.0, 0.0)
    for strength in (0.001, 0.01, 0.1, 1.0, 10.0):
        right = []
        for train, test in StratifiedKFold(5, shuffle=True, random_state=seed).split(inputs, groups):
            model = LogisticRegression(C=strength, max_iter=1000).fit(inputs[train], labels[train])
            right.append((model.predict(inputs[test]) == labels[test]).mean())
        if np.mean(right) > best[0]:
            best = (float(np.mean(right)), strength)
    return best[1]


def test_weights_are_means_over_balanced_sets() -> None:
    network, images = shaded(3, 90)
    noisy = images.labels.clone()
    noisy[::4] = (noisy[::4] + 1) % 3
    images = ImageSet(images.pixels, noisy, images.classes)
    groups = 2 * noisy + (torch.arange(90) % 5 == 0)
    x = images.batch(slice(None))[0]
    features = features_of(network, x).double().numpy()
    normal = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0, ddof=1), 1e-6)
    sets = [rows.numpy() for rows in balanced_sets(groups, seed=1)]
    strength = chosen(normal[sets[0]], noisy[sets[0]].numpy(), groups[sets[0]].numpy(), seed=1)
    models = [LogisticRegression(C=strength, max_iter=1000).fit(normal[rows], noisy[rows].numpy()) for rows in sets]
    expected = np.mean([model.decision_function(normal) for model in models], axis=0)
    with torch.no_grad():
        found = refit_last_layer(network, images, groups, seed=1).eval()(x)
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), atol=1e-3, rtol=1e-3)


def counted(groups: Tensor, sets: list[Tensor]) -> list[dict[int, int]]:
    return [
        dict(zip(*(part.tolist() for part in groups[rows].unique(return_counts=True)), strict=True)) for rows in sets
    ]


def test_balanced_sets_hold_as_many_of_each_group() -> None:
    groups = torch.tensor([3] * 20 + [7] * 6 + [1] * 9 + [2] * 4)
    sets = balanced_sets(groups, seed=0)
    assert counted(groups, sets) == [{1: 6, 3: 6, 7: 6}] * 10
    assert all(len(rows.unique()) == 18 for rows in sets)
    assert len({tuple(rows.tolist()) for rows in sets}) == 10
    assert all(torch.equal(*pair) for pair in zip(sets, balanced_sets(groups, seed=0), strict=True))
    assert counted(groups, balanced_sets(groups, seed=0, least=2))[0] == {1: 4, 2: 4, 3: 4, 7: 4}


def test_what_is_balanced_stays_whole() -> None:
    (rows,) = balanced_sets(torch.arange(24) % 4, seed=3)
    assert rows.tolist() == list(range(24))


def test_a_class_without_a_group_is_refused() -> None:
    network, images = shaded(3, 60)
    groups = torch.where(images.labels == 1, torch.arange(60), -1 - images.labels)
    with pytest.raises(ValueError, match="class 1 has no group of 5 held-out images or more"):
        refit_last_layer(network, images, groups, seed=0)
    with pytest.raises(ValueError, match="no group has 5"):
        refit_last_layer(network, images, torch.arange(60), seed=0)
