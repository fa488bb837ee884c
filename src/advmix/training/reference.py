"""The classifier whose answers `advmix inspect` counts: named or trained, and asked whether it reads the bias."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.classifiers.networks import patch_net
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import with_size
from advmix.data.datasets import Data, open_data, painted_digits
from advmix.data.images import ImageSet
from advmix.data.photos.rows import first_few
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import fingerprint
from advmix.metrics import accuracy, predict, share
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder, read_tensors, write_tensors
from advmix.utils.torch_tools import (
    answers,
    derive,
    eval_mode,
    generator,
    global_seed,
    misfit,
    outline,
    rebuilt,
    stated,
)

if TYPE_CHECKING:
    from lightning_fabric import Fabric

OWN = "reference.safetensors"

"""In a folder of an audit: the reference that it trained itself."""

UNBIASED = ("train", "test")

COMPARED = 32

MIN_REFERENCE_RATIO, MIN_REFERENCE_ACCURACY = 0.9, 0.75

"""A reference that is right on unseen images less than this share as often as on the training images reads a bias of
these, or knows them by heart; one that errs on more than a quarter of the images knows too little: its votes say
nothing."""

FOLDS = 5

"""Parts of the training images; a network of our own for each of them is trained on the other four."""


@dataclass(frozen=True, eq=False)
class Reference:
    """A trained classifier, in eval mode on its device, and what is known of its honesty.

    Attributes:
        network: images in [0, 1] to logits.
        method: how it was trained.
        accuracy: on the generator's own images.
        accuracy_unbiased: on images where the bias says nothing; None where there are none.
        bias: `no`, `unknown` or `yes`: whether it reads the bias of the generator's images.
        caveat: the same as a sentence.
    """

    network: nn.Module
    method: str
    accuracy: float
    accuracy_unbiased: float | None
    bias: str
    caveat: str


def open_reference(reference: str | Path, ours: ImageSet, trust_code: bool = False) -> OpenClassifier:
    """A classifier, whoever made it, checked to be for images like these.

    Args:
        reference: as `--classifier` names one, or the folder of an audit's own reference.
        ours: the images that it will be asked about.
        trust_code: whether a .json file may name a function.

    Raises:
        UserError: not a classifier, or one of other images or classes.
    """
    folder = own_folder(Path(reference))
    if folder is not None:
        network, *_ = own_network(folder, ours)
        mark = fingerprint(network)
        return OpenClassifier(
            network,
            f"the reference of an audit ({reference})",
            ours.classes,
            ours.shape,
            None,
            True,
            mark,
            outputs=len(ours.classes),
        )
    options = ClassifierOptions(str(reference), trust_code=trust_code)
    return _of_size(ours, open_classifier(options, ours.classes, ours.shape), reference)


@torch.no_grad()
def check_independent(
    name: str | Path, reference: nn.Module, opened: Sequence[OpenClassifier], images: ImageSet, device: torch.device
) -> None:
    """Refuse a reference that is one of the classifiers it would vouch for.

    Args:
        name: of the reference, as it was named.
        reference: images in [0, 1] to logits, on the device.
        opened: the classifiers.
        images: the first `COMPARED` of which all are asked about: what answers alike, to a ten-thousandth, is one.
        device: where they are asked.

    Raises:
        UserError: it is.
    """
    pixels = images[:COMPARED].batch(slice(None))[0].to(device)
    with eval_mode(reference) as (judge,):
        mine = judge(pixels).log_softmax(dim=1)
    for one in opened:
        with eval_mode(one.network.to(device)) as (network,):
            theirs = network(with_size(pixels, one.side)).log_softmax(dim=1)
        if mine.shape == theirs.shape and torch.allclose(mine, theirs.to(mine), rtol=1e-4, atol=1e-4):
            raise UserError(
                f"--reference {name}: answers as {one.name} does, for which it would vouch; name another classifier of "
                "these images"
            )


def own_folder(folder: Path) -> Path | None:
    """Where the reference is that an audit trained: its own folder, or that of the audit; None where there is none."""
    places = (folder, folder / "reference")
    return next((place for place in places if (place / OWN).is_file()), None)


def own_network(folder: Path, images: ImageSet) -> tuple[nn.Module, int, float]:
    """The reference that an audit trained, in eval mode and frozen; on how many images; and on how many of them its
    networks were right that were not trained on these.

    Raises:
        UserError: missing or damaged, or trained on images of another size or number of classes.
    """
    path = folder / OWN
    tensors, metadata = read_tensors(path, "reference")
    if misfit(outline(lambda: CrossFitted(images, 0)), tensors) is not None:
        channels, side, _ = images.shape
        raise UserError(
            f"{path}: not trained on images like these ({side}x{side} pixels, {channels} channels, "
            f"{len(images.classes)} classes); name a --reference of these"
        )
    network = rebuilt(lambda: CrossFitted(images, 0), tensors, path, "a small ConvMixer")
    count, right = stated(metadata, "images", int, path), stated(metadata, "accuracy_held_out", float, path)
    return network.requires_grad_(False), count, right


class CrossFitted(nn.Module):
    """`FOLDS` small ConvMixers, each trained without another fifth of the images.

    Args:
        images: give the shape and the classes.
        seed: of the first weights.
    """

    def __init__(self, images: ImageSet, seed: int) -> None:
        super().__init__()
        self.networks = nn.ModuleList(built(images, derive(seed, "fold", fold) % 2**31) for fold in range(FOLDS))

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] to the logarithm of the mean of all networks' probabilities, `(B, K)`."""
        each = torch.stack([network(images).log_softmax(dim=1) for network in self.networks])
        return each.logsumexp(dim=0) - math.log(FOLDS)


def built(images: ImageSet, seed: int) -> nn.Module:
    """One of the networks of an audit's own reference, with first weights."""
    channels, side, _ = images.shape
    with global_seed(seed):
        return patch_net(len(images.classes), channels, side, patches=8)


def open_judge(judge: str, ours: ImageSet, trust_code: bool = False) -> OpenClassifier:
    """A classifier of images like these, of their classes (whose names it then takes) or of any others.

    Args:
        judge: as `--classifier` names one.
        ours: the images.
        trust_code: whether a .json file may name a function.

    Raises:
        UserError: not a classifier, or one of images of another size.
    """
    opened = _of_size(ours, open_classifier(ClassifierOptions(judge, trust_code=trust_code), image=ours.shape), judge)
    return opened.named(ours.classes) if opened.tells(ours.classes) else opened


def _of_size(ours: ImageSet, opened: OpenClassifier, name: str | Path) -> OpenClassifier:
    if opened.image not in (None, ours.shape):
        raise UserError(
            f"{name}: for images of {_size(opened.image)}, but the generator's are "
            f"{_size(ours.shape)}; name a classifier of these"
        )
    return opened


def unbiased_config(unbiased: str, data: Data) -> DataConfig:
    """Which data a user's own unbiased images are, in size and channels of the generator's.

    Args:
        unbiased: a folder, .zip or .csv file, `torchvision:NAME` or `hf:NAME`.
        data: the generator's. If they are a user's own too, labels and splits are found as theirs are.

    Raises:
        UserError: no such images, or painted by us.
    """
    channels, side, _ = data.train.shape
    config = DataConfig(data=unbiased) if data.config.is_painted else replace(data.config, data=unbiased)
    if config.is_painted:
        raise UserError(
            f"--unbiased {unbiased}: biased by its paint; choose from {' '.join(UNBIASED)}, or name images of your own"
        )
    return config.sized(channels, side)


def _own_test(unbiased: str, data: Data) -> ImageSet:
    """The test of a user's own unbiased images, checked to be of the generator's classes."""
    try:
        found = open_data(unbiased_config(unbiased, data), data.seed).test
    except UserError as error:
        raise UserError(str(error).replace("--data", "--unbiased")) from None
    if found.classes != data.train.classes:
        raise UserError(
            f"--unbiased {unbiased}: of the classes {first_few(found.classes)}, but the generator's images are "
            f"of {first_few(data.train.classes)}; name images of these"
        )
    return found


def unbiased_test(unbiased: str, data: Data) -> ImageSet:
    """What a reference is tested on: painted digits of the training or the test set, or the test of a user's own.

    Raises:
        UserError: bad input.
    """
    if unbiased not in UNBIASED:
        return _own_test(unbiased, data)
    digits = painted_digits(data, f"--unbiased {unbiased}", "name unbiased images of your own")
    return {"train": digits.train_unbiased, "test": digits.shuffled}[unbiased]


def judge_reference(
    opened: OpenClassifier, data: Data, unbiased: ImageSet | None, device: torch.device, trained_on_it: bool = False
) -> Reference:
    """Test a classifier on the generator's images, and on unbiased ones where there are any.

    Args:
        opened: the classifier.
        data: the generator's.
        unbiased: images on which the bias says nothing.
        device: where it is tested.
        trained_on_it: whether it was trained on images like the unbiased ones.
    """
    network = opened.network.to(device)
    right = accuracy(network, data.train, device)
    right_unbiased = None if unbiased is None else accuracy(network, unbiased, device)
    honest = trained_on_it or opened.method == "ceiling"
    bias, caveat = _honesty(opened, data.train, right, right_unbiased, honest)
    return Reference(network, opened.method, right, right_unbiased, bias, caveat)


def _size(shape: Sequence[int]) -> str:
    channels, height, width = shape
    return f"{height}x{width} pixels and {channels} channels"


def _honesty(
    opened: OpenClassifier, images: ImageSet, right: float, unbiased: float | None, honest: bool
) -> tuple[str, str]:
    """Whether a reference shares the bias of the generator's images: measured, or known by its making, or unknown."""
    measured = ""
    if unbiased is not None:
        measured = f"right on {unbiased:.1%} of the unbiased images and on {right:.1%} of the generator's own"
        if unbiased < MIN_REFERENCE_RATIO * right:
            return (
                "yes",
                f"{measured}: it reads the bias, and the split is about what it looks at, not about the label.",
            )
    if honest:
        return "no", f"{measured}{', ' if measured else ''}trained on unbiased images: it does not read the bias."
    if measured:
        return "no", f"{measured}: no sign that it reads a bias of these."
    which = "unknown"
    if opened.metadata:
        which = "the generator's own" if opened.metadata["data_fingerprint"] == images.fingerprint else "other"
    return "unknown", (
        f"trained ({opened.method}) on {which} images. If these are biased it may read the bias, and the split is "
        "then about what it looks at, not about the label. --unbiased tests that, or trains a reference without it."
    )


IMAGES, FOLD_STEPS = 4000, 150

"""A reference of our own is trained on at most so many of the training images, each of its networks for at least so
many steps and whole epochs: half a minute on two cores, at 64 pixels."""


@dataclass(frozen=True, eq=False)
class ReferenceClassifier:
    """A reference in eval mode, on its device.

    Attributes:
        network: images of the generator's size, in [0, 1], to logits.
        name: what a person reads.
        fingerprint: of weights and architecture.
        accuracy_train: its accuracy on training images, 1,000 at most; of our own, that of its networks on images
            that they were not trained on; None where labels are not checked.
    """

    network: nn.Module
    name: str
    fingerprint: str
    accuracy_train: float | None

    def to_dict(self) -> dict[str, Any]:
        """As it goes into a file."""
        return {"name": self.name, "fingerprint": self.fingerprint, "accuracy_train": self.accuracy_train}


class NoReference(nn.Module):
    """In the place of a reference, where labels are not checked: it gives no answer to any image.

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.classes = classes

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` to `(B, classes)` that are no numbers."""
        return images.new_full((len(images), self.classes), torch.nan)


def no_reference(images: ImageSet) -> ReferenceClassifier:
    """Nobody votes on the labels of images like these."""
    return ReferenceClassifier(NoReference(len(images.classes)), "none", "none", None)


def named_reference(
    reference: str | OpenClassifier, images: ImageSet, device: torch.device, trust_code: bool = False
) -> ReferenceClassifier:
    """Somebody's classifier of these images.

    Raises:
        UserError: it cannot be read, tells other classes apart, or is for images of another size.
    """
    if isinstance(reference, OpenClassifier):
        opened = _of_size(images, reference, reference.name)
    else:
        opened = open_reference(reference, images, trust_code)
    folder = None if isinstance(reference, OpenClassifier) else own_folder(Path(reference))
    if folder is not None:
        return own_reference(folder, images, device)
    some = images[torch.randperm(len(images), generator=generator(0, "audit", "right_train"))[:1000]]
    network = opened.network.to(device)
    return ReferenceClassifier(network, opened.name, opened.fingerprint, accuracy(network, some, device))


def train_reference(folder: Path, images: ImageSet, seed: int, fabric: Fabric) -> None:
    """Train a reference into `folder`, unless it is there; goes on where it was stopped.

    Args:
        folder: of the reference.
        images: the training images.
        seed: of the audit; the reference's own follows from it.
        fabric: the machine.
    """
    if (folder / OWN).is_file():
        return
    make_folder(folder)
    own = derive(seed, "audit", "reference") % 2**31
    chosen = images[torch.randperm(len(images), generator=generator(own, "images"))[:IMAGES]]
    whole, right = CrossFitted(images, own), torch.zeros(len(chosen), dtype=torch.bool)
    for fold, network in enumerate(whole.networks):
        mine = torch.arange(len(chosen)) % FOLDS == fold
        _train_fold(folder, network, fold, chosen[~mine], own, fabric)
        if mine.any():
            out = chosen[mine]
            right[mine] = answers(predict(network, out, fabric.device)).cpu() == out.labels
    metadata = {"images": len(chosen), "accuracy_held_out": share(right)}
    write_tensors(folder / OWN, "reference", whole.cpu().state_dict(), metadata)
    for fold in range(FOLDS):
        fold_file(folder, fold).unlink(missing_ok=True)


def fold_file(folder: Path, fold: int) -> Path:
    """Where a network of an unfinished reference is."""
    return folder / f"fold-{fold}.safetensors"


def _train_fold(folder: Path, network: nn.Module, fold: int, images: ImageSet, seed: int, fabric: Fabric) -> None:
    """Train one of the networks, or read it where it is there."""
    from advmix.training.classify import ClassifierTrainee, TrainOptions, batches_per_epoch
    from advmix.training.loop import Loop
    from advmix.training.objectives import Nominal

    path = fold_file(folder, fold)
    if not path.is_file():
        options = TrainOptions()
        options = replace(options, epochs=math.ceil(FOLD_STEPS / batches_per_epoch(len(images), options.batch)))
        trainee = ClassifierTrainee(network, Nominal(), images, options, derive(seed, "fold", fold) % 2**31, fabric)
        run = f"reference {images.fingerprint} {seed} {fold}"
        loop = Loop(f"train reference {fold + 1}/{FOLDS}", options.steps(images), folder, run)
        loop.train(trainee)
        write_tensors(path, "reference", network.state_dict(), {})
        loop.finish()
    network.load_state_dict(read_tensors(path, "reference")[0])
    network.to(fabric.device).requires_grad_(False)


def own_reference(folder: Path, images: ImageSet, device: torch.device) -> ReferenceClassifier:
    """What `train_reference` wrote.

    Raises:
        UserError: missing or damaged, or trained on images of another size or number of classes.
    """
    network, trained_on, right = own_network(folder, images)
    name = f"five small ConvMixers, cross-fitted on {trained_on:,} of the training images"
    return ReferenceClassifier(network.to(device), name, fingerprint(network), right)
