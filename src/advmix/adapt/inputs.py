"""What `advmix adapt` reads: home, the site, the classifier, the generator of styles."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advmix.adapt.settings import AdaptConfig, SiteOptions
from advmix.classifiers.formats import Exported
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.commands.predict import Sources
from advmix.data.datasets import Data, OwnImages, open_data
from advmix.data.images import ImageSet
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_pictures, open_source
from advmix.data.photos.rows import class_names, first_few, hold_out
from advmix.encoders.network import encoded
from advmix.encoders.store import PoolOptions
from advmix.pools import FittedModel, check_size, open_generator
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator

UNKNOWN = -1
"""In the place of a label."""


@dataclass(frozen=True, eq=False)
class Home:
    """Labelled images.

    Attributes:
        data: the data set.
        train: trained on.
        validation: by these is chosen.
        test: these are reported.
        own_validation: whether the data set has a validation part of its own.
    """

    data: Data
    train: ImageSet
    validation: ImageSet
    test: ImageSet
    own_validation: bool

    @staticmethod
    def of(data: Data) -> Home:
        """The parts of a data set; half of the test part is for validation where there is none."""
        splits = data.photos.splits if isinstance(data, OwnImages) else {}
        if "val" in splits and "test" in splits:
            return Home(data, data.train, splits["val"].images, data.test, True)
        held = hold_out(data.test.labels.tolist(), [f"{place:09d}" for place in range(len(data.test))], 0.5, 0)
        mask = torch.zeros(len(data.test), dtype=torch.bool)
        mask[sorted(held)] = True
        if not mask.any():
            raise UserError(
                f"{data.config.data or 'home'}: {len(mask)} test images are too few to choose by; hold more"
            )
        return Home(data, data.train, data.test[mask], data.test[~mask], False)


@dataclass(frozen=True, eq=False)
class Site:
    """Images of the new site.

    Attributes:
        images: its images; their labels are not known here.
        truth: `(N,)`, classes of home, -1 where unknown; None where no labels are given. It is reported alone.
    """

    images: ImageSet
    truth: Tensor | None = None

    @property
    def labelled(self) -> ImageSet | None:
        """The images whose labels are given."""
        if self.truth is None:
            return None
        known = self.truth >= 0
        return ImageSet(self.images.pixels[known], self.truth[known], self.images.classes)


@dataclass(frozen=True, eq=False)
class AdaptInputs:
    """All that takes part, open."""

    opened: OpenClassifier
    home: Home
    site: Site
    model: FittedModel

    @property
    def fingerprints(self) -> dict[str, str | None]:
        """Of what is read."""
        home, truth = self.home, self.site.labelled
        return {
            "classifier": self.opened.fingerprint,
            "images": " ".join(part.fingerprint for part in (home.train, home.validation, home.test)),
            "site": self.site.images.fingerprint,
            "truth": None if truth is None else truth.fingerprint,
            "generator": self.model.metadata["fingerprint"],
        }


def open_inputs(config: AdaptConfig, device: torch.device) -> AdaptInputs:
    """Everything that the settings name.

    Raises:
        UserError: bad input.
    """
    photos = config.data.photos
    shape = None if config.data.is_painted or not config.data.data else (photos.channels, photos.size, photos.size)
    opened = open_classifier(config, image=shape)
    data = _home_data(config, opened)
    return make_inputs(opened, data, open_site(config.site, data, config.seed), config, device)


def make_inputs(
    opened: OpenClassifier, data: Data, site: Site, config: AdaptConfig, device: torch.device
) -> AdaptInputs:
    """The same of what is open.

    Raises:
        UserError: parts that do not go together.
    """
    if len(site.images) < 2:
        raise UserError(
            f"--new-site {config.site.new_site}: {len(site.images)} image; 2 are needed at least, 100 are better"
        )
    if site.images.shape != data.train.shape:
        shown = [
            f"{shape[1]}x{shape[2]} pixels in {shape[0]} channels" for shape in (site.images.shape, data.train.shape)
        ]
        raise UserError(f"--new-site {config.site.new_site}: images of {shown[0]}, but those of home have {shown[1]}")
    opened = opened.named(data.train.classes)
    return AdaptInputs(opened, Home.of(data), site, _styles_of(site.images, data, config, device))


def _home_data(config: AdaptConfig, opened: OpenClassifier) -> Data:
    """The labelled images, in the size that the classifier wants where nothing else is said."""
    sources, flags = Sources(opened, config.folder), config.data
    if flags.data and not flags.is_painted:
        flags = replace(flags, photos=sources.shaped(flags.photos))
    own = None if flags.data else sources.data(flags)
    return own or open_data(flags, config.seed)


def open_site(options: SiteOptions, home: Data, seed: int) -> Site:
    """The images of a site, in the shape of those of home; with their labels where a column of them is named.

    Raises:
        UserError: no images, or no such labels.
    """
    channels, side, _ = home.train.shape
    photos = home.config.photo_options()
    read = replace(photos, channels=channels, size=side, limit=options.new_site_images, target=None)
    rng = generator(seed, "adapt", "site")
    try:
        pixels, names, _ = load_pictures(options.new_site, read, "test", rng)
        truth = None if options.new_site_target is None else _labels(options, read, names, home.train.classes)
    except UserError as error:
        raise UserError(str(error).replace("--data", "--new-site")) from error
    return Site(ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), home.train.classes), truth)


def _labels(options: SiteOptions, read: PhotoOptions, names: Sequence[str], classes: tuple[str, ...]) -> Tensor:
    """Class of each image, -1 where it has none, or one that home has not."""
    column = str(options.new_site_target)
    with closing(open_source(options.new_site, read)) as source:
        if column not in source.labels:
            raise UserError(
                f"--new-site-target {column}: {options.new_site} has no such column; there are "
                f"{first_few(source.labels)}"
            )
        values = {row.name: row.values[column] for row in source.rows if not source.lacks(row, column)}
        called = class_names(values.values(), column, source.classes.get(column, ()))
    places = {name: place for place, name in enumerate(classes)}
    found = [places.get(called.get(values.get(name, ""), ""), UNKNOWN) for name in names]
    if max(found) == UNKNOWN:
        there = f"{first_few(called.values(), 3)}, but home has {first_few(classes, 3)}"
        raise UserError(
            f"--new-site-target {column}: labels of {options.new_site} are {there}; give them the names of home"
        )
    return torch.tensor(found)


def _styles_of(site: ImageSet, home: Data, config: AdaptConfig, device: torch.device) -> FittedModel:
    """The generator, with the styles of the site as its pool."""
    model, metadata = open_generator(config.generator, home.config, PoolOptions(), home)
    check_size(home.train, model.generator)
    check_size(site, model.generator)
    pool = encoded(site, model.to(device).encoder, styles_only=model.generator.any_size)
    return FittedModel(model, pool, metadata, config.generator, None, torch.full((len(pool),), UNKNOWN))


def untrainable(opened: OpenClassifier) -> str | None:
    """Why a classifier cannot be trained on; None where it can."""
    core = opened.core
    if isinstance(core, Exported):
        return (
            "a file with a fixed graph, whose weights cannot be trained; name the network that it was made from "
            "(torchvision:NAME, timm:NAME, package.module:function) with its --weights"
        )
    if core is None or not opened.differentiable:
        return "gives no gradients, so that it cannot be trained"
    kinds = {weight.dtype for weight in core.parameters() if weight.is_floating_point()}
    if not kinds <= {torch.float32, torch.float64}:
        return (
            f"has weights of {', '.join(sorted(str(kind).removeprefix('torch.') for kind in kinds))}; train in float32"
        )
    return None if kinds else "has no weights that could be trained"
