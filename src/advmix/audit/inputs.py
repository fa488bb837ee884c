"""What an audit is made of: images, generator, pool, and the classifiers that are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from advmix.attacks import Attack, open_attack, still_right
from advmix.audit.measure import AuditBatch, AuditedClassifier
from advmix.audit.settings import FIT, NO_REFERENCE, AuditConfig
from advmix.classifiers.networks import load_classifier
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.classifiers.wrapper import Classifier, with_size
from advmix.data.datasets import Data, OwnImages, open_data
from advmix.data.images import ImageSet, to_float
from advmix.data.photos.load import Native
from advmix.encoders.autoencoder import FILE, is_ready_made
from advmix.encoders.network import encoded
from advmix.encoders.store import PHOTOS, PoolOptions, open_latents
from advmix.generators.style import NetworkConfig
from advmix.mixing import SearchOptions, calibrated, with_layers
from advmix.pools import LATENTS, FittedModel, check_size, data_for, data_of, load, open_generator, own_data
from advmix.report.tables import RESULTS
from advmix.training.autoencode import style_config
from advmix.training.reference import (
    ReferenceClassifier,
    check_independent,
    named_reference,
    no_reference,
)
from advmix.utils.device import local_first
from advmix.utils.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

CALIBRATION_IMAGES = 100
"""Images on which the scale of a classifier's logits is measured."""


GENERATOR = "generator"
"""Where an audit keeps a generator of its own."""


def audit_parts(folder: Path, generator: Path, latents: Path | None, pool: PoolOptions) -> tuple[Path, Path | str]:
    """Where generator and pool of an audit are: what `load` takes.

    Args:
        folder: the audit's, with what it made itself.
        generator: as the audit's settings name it.
        latents: likewise.
        pool: likewise.
    """
    made = folder / GENERATOR if generator == FIT else generator
    return made, latents or (PHOTOS if pool.pool == PHOTOS else folder / LATENTS)


@dataclass(frozen=True, eq=False)
class AuditInputs:
    """All that an audit is about, open; what is None is made by the audit.

    Attributes:
        data: whose test images are audited.
        classifiers: that are asked.
        model: generator and pool, on the device.
        metadata: of the file of a generator that is there.
        reference: votes whether a mix still shows its label.
        attack: a third-party attack, tried besides.
    """

    data: Data
    classifiers: tuple[OpenClassifier, ...]
    model: FittedModel | None = None
    metadata: dict[str, Any] | None = None
    reference: ReferenceClassifier | None = None
    attack: Attack | None = None

    @staticmethod
    def open(config: AuditConfig, fabric: Fabric) -> AuditInputs:
        """Everything that a config names, checked to go together before anything is made.

        Args:
            config: of the audit.
            fabric: the machine; data are read by one of its processes first.

        Raises:
            UserError: missing or damaged files, or parts that do not go together.
        """
        if config.fits and (config.generator / FILE).is_file():
            raise UserError(
                f"--generator {config.generator}: a folder here, and the word for fitting one; name the folder by its "
                "whole path"
            )
        with local_first(fabric):
            data, metadata = audited_data(config)
        images, done = data.test, (config.out / RESULTS).is_file()
        named = zip(config.classifier_names, config.named_classifiers, strict=True)
        opened = tuple(
            replace(open_classifier(options, images.classes, images.shape), name=name) for name, options in named
        )
        attack = open_attack(config.attack)
        inputs = AuditInputs(data, opened, metadata=metadata, attack=None if done else attack)
        inputs = inputs.checked(config, config.reference, fabric.device)
        if config.latents is None or done:
            return inputs
        model = load(config.generator, config.latents, fabric.device, data=data, options=config.pool)
        return replace(inputs, model=model)

    def checked(self, config: AuditConfig, reference: str | OpenClassifier | None, device: torch.device) -> AuditInputs:
        """The same with a reference that is named, where all of it goes together.

        Args:
            config: of the audit.
            reference: votes whether a mix still shows its label.
            device: where classifiers are asked.

        Raises:
            UserError: an attack that fails, or parts that do not go together.
        """
        if self.attack is not None:
            _try_attack(self.attack, self.classifiers, self.data.test[:TRIED], device)
        check_fit(config, self.data, self.metadata, self.classifiers)
        if not reference:
            _check_trainable(self.data)
            return self
        if reference == NO_REFERENCE:
            return replace(self, reference=no_reference(self.data.test))
        votes = named_reference(reference, self.data.train, device, config.trust_code)
        name = reference if isinstance(reference, str) else reference.name
        check_independent(name, votes.network, self.classifiers, self.data.test, device)
        return replace(self, reference=votes)

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """What a run remembers of what it reads."""
        known: dict[str, str | None] = {
            "images": self.data.test.fingerprint,
            "generator": None if self.metadata is None else self.metadata["fingerprint"],
            "reference": None if self.reference is None else self.reference.fingerprint,
            "training set": self.data.train.fingerprint if self.reference is None else None,
        }
        return known | {f"classifier {place}": one.fingerprint for place, one in enumerate(self.classifiers, start=1)}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the test images' groups; empty where there are none."""
        return self.data.photos.groups if isinstance(self.data, OwnImages) else ()

    @property
    def sites(self) -> tuple[str, ...]:
        """Names of the sites that the test images come from; empty where none are known."""
        return self.data.photos.sites if isinstance(self.data, OwnImages) else ()

    def unmeasured(self, config: AuditConfig) -> set[str]:
        """Names of thresholds for which these inputs let no figure be measured, as far as is known before."""
        missing = {name for name, known in (("worst_site", self.sites), ("worst_group", self.groups)) if not known}
        if self.metadata is None:
            return missing
        model, _ = open_generator(config.generator, self.data.config, config.pool, self.data)
        return missing | ({"reconstruction"} if model.generator.exact else set())

    def names(self, rows: Tensor) -> list[str]:
        """What test images are called: their files, or their numbers."""
        if isinstance(self.data, OwnImages):
            return [self.data.photos.test.names[row] for row in rows.tolist()]
        return [f"test image {row}" for row in rows.tolist()]

    @property
    def fitted(self) -> FittedModel:
        """Generator and pool, where they are made."""
        assert self.model is not None
        return self.model

    def fitted_on(self, rows: Tensor) -> int | None:
        """How many of the test images at `rows` `(N,)` the generator was fitted on, pixel by pixel; None where its
        images are unknown, or not there any more.
        """
        if is_ready_made(self.fitted.folder):
            return None
        train = self.data.train
        if train.fingerprint != self.fitted.metadata.get("data_fingerprint"):
            try:
                train = data_of(self.fitted.metadata, self.fitted.folder).train
            except UserError:
                return None
        return self.data.test[rows].count_shared(train)

    def search(self, options: SearchOptions) -> SearchOptions:
        """With the usual z⊥ where none is named: all styles beside a grid, else the two finest layers. Where a
        classifier gives no gradients, as many random candidates as there would have been.
        """
        options = with_layers(options, self.fitted.model.config)
        if all(one.differentiable for one in self.classifiers):
            return options
        return replace(options, restarts=options.restarts * (options.steps + 1), steps=0)


def _check_trainable(data: Data) -> None:
    """Refuse data without training images, of which a reference would be trained, before anything is made."""
    try:
        _ = data.train
    except UserError as error:
        raise UserError(
            f"{error}; name a --reference, or leave labels unchecked: --reference {NO_REFERENCE}"
        ) from error


TRIED = 4

"""Images on which an attack is tried before anything is made."""


def _try_attack(attack: Attack, opened: Sequence[OpenClassifier], images: ImageSet, device: torch.device) -> None:
    """What an attack raises it shall raise before anything is made."""
    pixels, labels = (tensor.to(device) for tensor in images.batch(slice(None)))
    for one in opened:
        try:
            still_right(one.network.to(device), attack, with_size(pixels, one.side), labels, seed=0)
        except UserError as error:
            doubt = "" if one.differentiable else f"; {one.name} gives no gradients, name an attack that needs none"
            raise UserError(f"{error}{doubt}") from error


def audited_data(config: AuditConfig) -> tuple[Data, dict[str, Any] | None]:
    """The data set that is named, in the generator's size; or that of the latents, the generator or, where there is
    none, the classifier. And what the generator's file says, where there is one already.

    Raises:
        UserError: images of another size than the generator's, or none at all.
    """
    if config.fits:
        return open_data(config.data, config.seed) if config.data.data else _classifiers_own(config), None
    model, metadata = open_generator(config.generator, config.data, config.pool)
    made, source = metadata, config.generator
    if config.latents is not None:
        made, source = open_latents(config.latents, model, metadata).index, config.latents
    if "data" not in made and not config.data.data:
        return _classifiers_own(config), metadata
    return data_for(made, source, config.data, config.seed, model.generator), metadata


def check_fit(
    config: AuditConfig, data: Data, metadata: dict[str, Any] | None, opened: Sequence[OpenClassifier]
) -> None:
    """What does not go together with the generator is said before anything is made.

    Args:
        config: of the audit.
        data: what is audited.
        metadata: of the generator's file; None where one will be fitted.
        opened: the classifiers.

    Raises:
        UserError: layers that it does not have, classifiers of other channels, or images that cannot be fitted.
    """
    if metadata is None:
        network: NetworkConfig = style_config(data.train, config.fit)
    else:
        model = open_generator(config.generator, data.config, config.pool, data)[0]
        check_size(data.test, model.generator)
        network = model.config
    with_layers(config.search, network).split(network.layers)
    for one in opened:
        _check_channels(one, network.channels)


def _check_channels(opened: OpenClassifier, channels: int) -> None:
    if opened.image is not None and opened.image[0] != channels:
        raise UserError(f"{opened.name}: for images of {opened.image[0]} channels, but the generator's have {channels}")


def _classifiers_own(config: AuditConfig) -> Data:
    """The images of the first classifier that says which it was trained on."""
    folder = next((one.folder for one in config.named_classifiers if one.folder is not None), None)
    if folder is None:
        raise UserError("audit: nothing says which images; name images with --data, or a generator with --generator")
    return own_data(load_classifier(folder)[1], folder, config.data)


def audited_classifier(opened: OpenClassifier, inputs: AuditInputs, device: torch.device) -> AuditedClassifier:
    """A classifier with the size of the images that it is shown."""
    small = inputs.fitted.side(inputs.data.test)
    network, side = opened.network, opened.side or small
    if opened.image is not None and side != small:
        network = Classifier(network, size=side).eval()
    shown = side if is_native(opened, inputs.data, small) else small
    sample = inputs.data.test[:CALIBRATION_IMAGES].batch(slice(None))[0].to(device)
    return AuditedClassifier(network.to(device), shown, calibrated(network, with_size(sample, shown)))


def is_native(opened: OpenClassifier, data: Data, small: int) -> bool:
    """Whether a classifier is shown larger images than the generator's of `small` pixels, read from their files."""
    return (opened.side or small) > small and isinstance(data, OwnImages)


@contextmanager
def batches(inputs: AuditInputs, classifiers: Sequence[AuditedClassifier]) -> Iterator[AuditImages]:
    """Reads the test images, in every size that some classifier is shown."""
    small = inputs.fitted.side(inputs.data.test)
    sides = sorted({one.side for one in classifiers} - {small})
    context = inputs.data.native() if sides and isinstance(inputs.data, OwnImages) else nullcontext(None)
    with context as native:
        yield AuditImages(inputs, tuple(sides), native)


@dataclass(frozen=True, eq=False)
class AuditImages:
    """The test images of a inputs, some at a time."""

    inputs: AuditInputs
    sides: tuple[int, ...]
    native: Native | None

    def read(self, start: int, rows: Tensor) -> AuditBatch:
        """The images at `rows` `(B,)`, the first of which is number `start` of all that are audited."""
        inputs, device = self.inputs, self.inputs.fitted.pool.styles.device
        images = inputs.data.test[rows]
        groups = sites = torch.zeros_like(rows)
        if isinstance(inputs.data, OwnImages):
            test = inputs.data.photos.test
            groups, sites = test.groups[rows], test.sites[rows]
        native = {side: self.pixels(rows, side).to(device) for side in self.sides}
        latents = encoded(images, inputs.fitted.encoder)
        pixels, labels = (part.to(device) for part in images.batch(slice(None)))
        return AuditBatch(start, rows, groups, sites, labels, pixels, native, latents)

    def pixels(self, rows: Tensor, side: int) -> Tensor:
        """`(B, C, side, side)` in [0, 1]."""
        if self.native is None or side not in self.sides:
            return self.inputs.data.test.batch(rows)[0]
        return to_float(self.native.pixels(self.inputs.names(rows), side))
