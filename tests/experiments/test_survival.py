"""Label survival against a count one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.style import StyleConfig
from advmix.inspect.survival import Survival, label_survival
from advmix.intervals import GroupBootstrap, wilson
from advmix.latents import Latents, Split
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from test_autoencode import photographs
from tiny import SPATIAL, VECTOR, make_classifier, no_gradients, state_of

DONORS = torch.randint(12, (3, 20), generator=seeded(0, "tests", "donors"))


def make_model(config: StyleConfig) -> Autoencoder:
    """With a last layer strong enough for images that differ well."""
    with global_seed(1):
        model = Autoencoder(config)
        nn.init.normal_(model.get_parameter("generator.to_image.weight"), std=2.0)
        nn.init.normal_(model.get_parameter("encoder.styles.weight"), std=20.0)
    return model


def tiny_images(config: StyleConfig, reference: nn.Module) -> tuple[ImageSet, ImageSet]:
    """Twenty patches of photographs and twelve that lend; two in three labels are what the reference sees decoded."""
    patches, model = photographs(side=8, count=32), make_model(config)
    with torch.no_grad():
        seen = reference.eval()(model.generator(model.encoder(patches.batch(slice(None))[0]))).argmax(1)
    labels = torch.where(torch.arange(32) % 3 == 0, (seen + 1) % 3, seen)
    images = ImageSet(patches.pixels, labels, ("a", "b", "c"))
    order = torch.randperm(32, generator=seeded(0, "tests", "order"))
    return images[order[:20]], images[order[20:]]


@torch.no_grad()
def one_by_one(
    model: Autoencoder, reference: nn.Module, images: ImageSet, lenders: ImageSet, perp: list[int], residual: bool
) -> tuple[list[list[int]], list[bool]]:
    """Classes of the mixes, and whether the decoded image is right: one image, one donor, one layer at a time."""
    rows: list[list[int]] = []
    right = []
    for image in range(len(images)):
        x, label = images.batch(slice(image, image + 1))
        own = model.encoder(x)
        missing = x - model.generator(own) if residual else torch.zeros_like(x)
        right.append(bool(reference((model.generator(own) + missing).clamp(0, 1)).argmax() == label))
        rows.append([])
        for donor in DONORS[:, image].tolist():
            styles = own.styles.clone()
            theirs = model.encoder(lenders.batch(slice(donor, donor + 1))[0]).styles
            for layer in perp:
                styles[0, layer] = theirs[0, layer]
            mix = model.generator(Latents(styles, own.grid)) + missing
            rows[-1].append(int(reference(mix.clamp(0, 1)).argmax()))
    return [list(column) for column in zip(*rows, strict=True)], right


@pytest.mark.parametrize("residual", [False, True], ids=["decoded", "residual"])
@pytest.mark.parametrize(("config", "perp"), [(VECTOR, [1, 4, 5]), (SPATIAL, [0, 1, 2, 3])], ids=["vector", "spatial"])
def test_it_is_a_count_one_by_one(config: StyleConfig, perp: list[int], residual: bool) -> None:
    model, reference = make_model(config), make_classifier().float()
    images, lenders = tiny_images(config, reference)
    reference.train()
    before = state_of(reference)
    split = Split(config.layers, tuple(perp))
    found = label_survival(reference, model.generator, model.encoder, split, images, lenders, DONORS, residual=residual)
    assert reference.training
    assert all(torch.equal(part, before[name]) for name, part in reference.state_dict().items())
    assert no_gradients(model, reference)
    predictions, right = one_by_one(model, reference.eval(), images, lenders, perp, residual)
    assert found.predictions.tolist() == predictions
    assert found.right.tolist() == right
    assert 0 < sum(right) < 20
    kept = [predictions[row][i] == images.labels[i] for row in range(3) for i in range(20) if right[i]]
    share = found.share()
    assert share is not None
    assert share.value == pytest.approx(sum(kept) / len(kept))
    assert 0 < share.value < 1


def counted(predictions: list[list[int]], labels: list[int], right: list[bool]) -> Survival:
    return Survival(torch.tensor(predictions), torch.tensor(labels), torch.tensor(right))


def test_only_what_is_right_unmixed_counts() -> None:
    survival = counted([[0, 1, 0], [0, 2, 2]], [0, 1, 2], [True, True, False])
    assert survival.share() == wilson(1.5, 2)
    assert survival.share(torch.tensor([False, True, True])) == wilson(0.5, 1)
    assert survival.share(torch.tensor([False, False, True])) is None


def test_more_mixes_of_the_same_images_do_not_narrow_the_interval() -> None:
    once = counted([[0, 0, 1, 1]], [0, 0, 1, 0], [True] * 4)
    often = replace(once, predictions=once.predictions.repeat(50, 1))
    assert once.share() == often.share() == wilson(3, 4)


def test_by_class_and_by_group() -> None:
    survival = counted([[0, 1, 1, 1], [1, 1, 1, 1]], [0, 0, 1, 1], [True, False, True, True])
    assert survival.by(survival.labels, ("no", "yes")) == {"no": wilson(0.5, 1), "yes": wilson(2, 2)}
    group: Tensor = torch.tensor([0, 1, 0, 2])
    by_group = survival.by(group, ("x", "y", "z"))
    assert by_group == {"x": wilson(1.5, 2), "y": None, "z": wilson(1, 1)}


def test_interval_over_persons_is_wider_than_over_images_and_its_value_the_same() -> None:
    """Fifty persons, whose four images share one fate."""
    persons = torch.arange(200) // 4
    right = torch.arange(200) % 5 > 0
    kept = (persons % 3 > 0).long()
    found = Survival(torch.stack([kept, kept]), torch.ones(200, dtype=torch.long), right)
    intervals = []
    for groups in (persons, torch.arange(200)):
        interval = found.interval(GroupBootstrap.draw(groups, 500, seeded(0)))
        share = found.share()
        assert interval is not None
        assert share is not None
        assert interval.value == pytest.approx(share.value)
        intervals.append(interval.high - interval.low)
    assert intervals[0] > 1.5 * intervals[1]


def test_interval_within_a_class_is_about_its_images_alone() -> None:
    labels = torch.arange(40) % 2
    found = Survival(torch.zeros(1, 40, dtype=torch.long), labels, torch.ones(40, dtype=torch.bool))
    boot = GroupBootstrap.draw(torch.arange(40), 100, seeded(0))
    kept, lost = (found.interval(boot, labels == place) for place in (0, 1))
    assert kept is not None
    assert lost is not None
    assert (kept.value, lost.value) == (1, 0)
    assert found.interval(boot, labels == 2) is None
