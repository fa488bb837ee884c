"""What an audit is made of: images, generator, pool, and the classifiers that are asked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.measure import AuditBatch, AuditedClassifier
from advmix.audit.settings import AuditConfig
from advmix.classifiers import Classifier, OpenClassifier, load_classifier
from advmix.classifiers.wrapper import with_size
from advmix.data import Data, open_data, to_float
from advmix.data.datasets import OwnImages
from advmix.data.photos import Native
from advmix.encoders import Autoencoder, Encoder, encoded, load_autoencoder
from advmix.encoders.store import LatentStore, open_latents
from advmix.generators import NetworkConfig, read_network
from advmix.latents import Latents
from advmix.mixing import calibrated
from advmix.pools import data_for, data_of, load, own_data
from advmix.training.autoencode import style_config
from advmix.training.methods import SearchOptions, with_layers
from advmix.utils.errors import UserError
from advmix.utils.files import hexdigest

CALIBRATION_IMAGES = 100
"""Images on which the scale of a classifier's logits is measured."""


@dataclass(frozen=True, eq=False)
class AuditInputs:
    """Images, and what mixes them; networks and pool are on one device.

    Attributes:
        data: whose test images are audited.
        model: generator and encoder network.
        metadata: of the generator's file.
        encoder: the one that made the pool.
        pool: latents of the generator's training images.
        store: where these lie.
    """

    data: Data
    model: Autoencoder
    metadata: dict[str, Any]
    encoder: Encoder
    pool: Latents
    store: LatentStore

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the test images' groups; empty where there are none."""
        return self.data.photos.groups if isinstance(self.data, OwnImages) else ()

    def names(self, rows: Tensor) -> list[str]:
        """What test images are called: their files, or their numbers."""
        if isinstance(self.data, OwnImages):
            return [self.data.photos.test.names[row] for row in rows.tolist()]
        return [f"test image {row}" for row in rows.tolist()]

    def fitted_on(self, rows: Tensor) -> int | None:
        """How many of the test images at `rows` `(N,)` the generator was fitted on, pixel by pixel; None where its
        images are unknown, or not there any more.
        """
        train = self.data.train
        if train.fingerprint != self.metadata.get("data_fingerprint"):
            try:
                train = data_of(self.metadata, self.store.folder).train
            except UserError:
                return None
        known = {hexdigest(image) for image in train.pixels}
        return sum(hexdigest(image) in known for image in self.data.test.pixels[rows])

    def search(self, options: SearchOptions, gradients: bool) -> SearchOptions:
        """With the usual z⊥ where none is named: all styles beside a grid, else the two finest layers; without
        gradients as many random candidates as there would have been.
        """
        options = with_layers(options, self.model.config)
        if gradients:
            return options
        return replace(options, restarts=options.restarts * (options.steps + 1), steps=0)


def open_audit_inputs(data: Data, generator: Path, latents: Path, device: torch.device) -> AuditInputs:
    """Everything read from its folders.

    Raises:
        UserError: missing or damaged files, or images that are not of the generator's size.
    """
    parts = load(generator, latents, device)
    return AuditInputs(data, parts.model, parts.metadata, parts.encoder, parts.pool, parts.store)


def audited_data(config: AuditConfig) -> tuple[Data, dict[str, Any] | None]:
    """The data set that is named, in the generator's size; or that of the latents, the generator or, where there is
    none, the classifier. And what the generator's file says, where there is one already.

    Raises:
        UserError: images of another size than the generator's, or none at all.
    """
    if config.generator is None:
        return open_data(config.data, config.seed) if config.data.data else _classifiers_own(config), None
    model, metadata = load_autoencoder(config.generator)
    made, source = metadata, config.generator
    if config.latents is not None:
        made, source = open_latents(config.latents, model, metadata).index, config.latents
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
        network = read_network(metadata, str(config.generator))
    with_layers(config.search, network).split(network.layers)
    for one in opened:
        _check_channels(one, network.channels)


def _check_channels(opened: OpenClassifier, channels: int) -> None:
    if opened.image is not None and opened.image[0] != channels:
        raise UserError(f"{opened.name}: for images of {opened.image[0]} channels, but the generator's have {channels}")


def _classifiers_own(config: AuditConfig) -> Data:
    """The images of the first classifier that says which it was trained on."""
    folder = next((one.folder for one in config.subjects if one.folder is not None), None)
    if folder is None:
        raise UserError("audit: nothing says which images; name images with --data, or a generator with --generator")
    return own_data(load_classifier(folder)[1], folder, config.data)


def audited_classifier(opened: OpenClassifier, case: AuditInputs, device: torch.device) -> AuditedClassifier:
    """A classifier with the size of the images that it is shown."""
    small = case.model.generator.resolution
    network, side = opened.network, opened.side or small
    if opened.image is not None and side != small:
        network = Classifier(network, size=side).eval()
    shown = side if is_native(opened, case.data, small) else small
    sample = case.data.test[:CALIBRATION_IMAGES].batch(slice(None))[0].to(device)
    return AuditedClassifier(network.to(device), shown, calibrated(network, with_size(sample, shown)))


def is_native(opened: OpenClassifier, data: Data, small: int) -> bool:
    """Whether a classifier is shown larger images than the generator's of `small` pixels, read from their files."""
    return (opened.side or small) > small and isinstance(data, OwnImages)


@contextmanager
def batches(case: AuditInputs, subjects: Sequence[AuditedClassifier]) -> Iterator[AuditImages]:
    """Reads the test images, in every size that some classifier is shown."""
    small = case.model.generator.resolution
    sides = sorted({subject.side for subject in subjects} - {small})
    context = case.data.native() if sides and isinstance(case.data, OwnImages) else nullcontext(None)
    with context as native:
        yield AuditImages(case, tuple(sides), native)


@dataclass(frozen=True, eq=False)
class AuditImages:
    """The test images of a case, some at a time."""

    case: AuditInputs
    sides: tuple[int, ...]
    native: Native | None

    def read(self, start: int, rows: Tensor) -> AuditBatch:
        """The images at `rows` `(B,)`, the first of which is number `start` of all that are audited."""
        case, device = self.case, self.case.pool.styles.device
        images = case.data.test[rows]
        groups = case.data.photos.test.groups[rows] if isinstance(case.data, OwnImages) else torch.zeros_like(rows)
        native = {side: self.pixels(rows, side).to(device) for side in self.sides}
        latents = encoded(images, case.encoder)
        return AuditBatch(
            start, rows, groups, images.labels.to(device), images.batch(slice(None))[0].to(device), native, latents
        )

    def pixels(self, rows: Tensor, side: int) -> Tensor:
        """`(B, C, side, side)` in [0, 1]."""
        if self.native is None or side not in self.sides:
            return self.case.data.test.batch(rows)[0]
        return to_float(self.native.pixels(self.case.names(rows), side))
