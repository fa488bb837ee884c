"""A classifier for a new site: the forecast, the candidates, the choice."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.adapt.inputs import AdaptInputs, Site, make_inputs, open_inputs, open_site, untrainable
from advmix.adapt.measure import (
    WEIGHTS_OF,
    SiteStyles,
    choose,
    hurts,
    mean_confidence,
    right_as_it_is,
    right_with_styles,
    share_entry,
)
from advmix.adapt.page import render_adapt, site_pictures
from advmix.adapt.results import REPORT, AdaptResult, Entry, TriedClassifier, results_of, write_classifier
from advmix.adapt.settings import AdaptConfig, SiteOptions
from advmix.adapt.words import adapt_table, forecast_sentences, outcome_sentences
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.data.datasets import Images, image_set, open_images
from advmix.data.images import ImageSet
from advmix.data.photos.decode import PhotoShape
from advmix.encoders.autoencoder import DEFAULT_GENERATOR
from advmix.pools import remembered
from advmix.report.tables import RESULTS
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.normalisation import LEAST_IMAGES, estimate_norm, norm_layers
from advmix.training.objectives import Mixing
from advmix.utils.device import in_first_process, local_first, make_fabric
from advmix.utils.files import atomic_write, folder_for, read_json, with_folder, write_json
from advmix.utils.progress import PhaseTimer, console, quietly, track
from advmix.utils.runs import open_run

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def run_adapt(config: AdaptConfig) -> AdaptResult:
    """Adapt, unless `out` holds the finished result already.

    Raises:
        UserError: bad input.
    """
    fabric = make_fabric(config.device, config.machines)
    with quietly(not fabric.is_global_zero):
        with local_first(fabric):
            inputs = open_inputs(config, fabric.device)
        return adapt(replace(config, data=remembered(config.data)), inputs, fabric)


def adapt_classifier(
    classifier: nn.Module | OpenClassifier | str | Path,
    home: Images,
    site: str | Path | Tensor | ImageSet,
    *,
    site_target: str | None = None,
    generator: str | Path = DEFAULT_GENERATOR,
    strength: float = 1.0,
    donors: int = 5,
    epochs: int = 5,
    batch: int = 64,
    lr: float = 3e-3,
    keep_home: bool = False,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
) -> AdaptResult:
    """A classifier for a new site, from unlabelled images of it: the call behind `advmix adapt`.

    >>> result = adapt_classifier("torchvision:resnet18", images, "new-hospital")
    >>> print(result)
    >>> result.classifier                        # for open_classifier and --classifier

    Args:
        classifier: as `open_classifier` takes it.
        home: labelled images: what `open_images` returned, or anything that it takes.
        site: a folder as `--new-site` has it; images `(N, C, H, W)`; or an `ImageSet`, whose labels are reported alone.
        site_target: column of the site's labels, which are reported alone.
        generator: what is a style.
        strength: how far towards the style of an image of the site, in [0, 1].
        donors: images of the site whose styles each image of home is tested with.
        epochs: passes over the training images.
        batch: images per step.
        lr: peak learning rate.
        keep_home: whether one classifier shall serve home and site.
        seed: fixes donors, and the order of images.
        out: folder for everything; by default a temporary one, which goes with the result.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped, in `out`.

    Raises:
        UserError: bad input.
    """
    fabric, data = make_fabric(device), open_images(home, seed=seed)
    opened = open_classifier(classifier, data.train.classes, data.train.shape)
    named = str(site) if isinstance(site, str | Path) else "images in memory"
    options = SiteOptions(named, site_target)
    read = open_site(options, data, seed) if named == str(site) else _given(site, data.train)  # type: ignore[arg-type]
    with folder_for(out) as folder:
        config = AdaptConfig(
            opened.name,
            data=data.config,
            site=options,
            generator=Path(generator),
            strength=strength,
            donors=donors,
            train=TrainOptions(epochs=epochs, batch=batch, lr=lr),
            keep_home=keep_home,
            seed=seed,
            out=folder,
            device=device,
            resume=resume,
        )
        result = adapt(config, make_inputs(opened, data, read, config, fabric.device), fabric)
    return result if out is not None else with_folder(result, folder)


def _given(site: Tensor | ImageSet, home: ImageSet) -> Site:
    """Images in memory; labels of an `ImageSet` are of home's classes."""
    if isinstance(site, ImageSet):
        order = torch.tensor([home.classes.index(name) if name in home.classes else -1 for name in site.classes])
        return Site(ImageSet(site.pixels, torch.zeros_like(site.labels), home.classes), order[site.labels])
    labels = torch.zeros(len(site), dtype=torch.int64)
    return Site(image_set((site, labels), home.classes, PhotoShape(), None))


def adapt(config: AdaptConfig, inputs: AdaptInputs, fabric: Fabric) -> AdaptResult:
    """The forecast and all that follows, in `config.out`, unless that holds the finished result already.

    Args:
        config: its settings; what they name is not read again.
        inputs: everything that is there.
        fabric: the machine.

    Raises:
        UserError: the folder holds something else.
    """
    with open_run(config.out, "adapt", config, config.resume, inputs.fingerprints, fabric=fabric) as run:
        if not in_first_process(fabric, (config.out / RESULTS).is_file):
            _Adaptation(config, inputs, fabric, run).write()
        results = read_json(config.out / RESULTS)
        console.print(adapt_table(results))
        for sentence in outcome_sentences(results):
            console.print(f"  {sentence}", markup=False)
        kept = "" if results["adapted"] is None else f"Classifier: {config.out / results['adapted']}, "
        console.print(f"{kept}report: {config.out / REPORT}, numbers: {config.out / RESULTS}", markup=False)
        return AdaptResult(results, config.out)


class _Adaptation:
    """One run."""

    def __init__(self, config: AdaptConfig, inputs: AdaptInputs, fabric: Fabric, run: str) -> None:
        self.config, self.inputs, self.fabric, self.run = config, inputs, fabric, run
        self.styles = SiteStyles(inputs.model, config.strength, config.seed)
        self.clock = PhaseTimer(config.out if fabric.is_global_zero else None)

    def write(self) -> None:
        """Everything up to the files; where the results are, all is done."""
        config, inputs = self.config, self.inputs
        first = TriedClassifier.of(inputs.opened)
        entries = [self.measured(first)]
        for sentence in forecast_sentences(entries[0]):
            console.print(f"  {sentence}", markup=False)
        candidates, left_out = self.candidates(first)
        entries += [self.measured(candidate) for candidate in candidates]
        for entry, hurt in zip(entries, hurts(entries, config.keep_home), strict=True):
            entry["hurts"] = hurt
        in_first_process(self.fabric, lambda: self.report(entries, [first, *candidates], left_out))

    def report(self, entries: list[Entry], candidates: list[TriedClassifier], left_out: dict[str, str]) -> None:
        """The files."""
        config, inputs = self.config, self.inputs
        chosen = choose(entries, config.keep_home)
        adapted = None if "training" in left_out else write_classifier(config, inputs, candidates[chosen])
        results = results_of(config, inputs, entries, chosen, left_out, adapted)
        with self.clock("report"):
            page = render_adapt(results, site_pictures(inputs, self.styles, config.pictures, config.seed))
        atomic_write(config.out / REPORT, page.encode())
        write_json(config.out / RESULTS, {**results, "phases": self.clock.seconds})

    def candidates(self, first: TriedClassifier) -> tuple[list[TriedClassifier], dict[str, str]]:
        """What is tried beside the classifier as it is, and why something is not."""
        why = untrainable(self.inputs.opened)
        if why is not None:
            return [], {"training": why}
        trained = self.trained(first.copied("styles"))
        why = self.without_norm(first)
        if why is not None:
            return [trained], {"normalisation": why}
        both = [self.normalised(one.copied(name)) for one, name in ((first, "normalisation"), (trained, "both"))]
        return [both[0], trained, both[1]], {}

    def without_norm(self, candidate: TriedClassifier) -> str | None:
        """Why normalisation statistics are not taken from the site."""
        count = len(self.inputs.site.images)
        if not norm_layers(candidate.network):
            return "the classifier has no layers of batch normalisation"
        if count < LEAST_IMAGES:
            return f"{count} images of the site are too few: with fewer than {LEAST_IMAGES} its statistics do harm"
        return None

    def trained(self, candidate: TriedClassifier) -> TriedClassifier:
        """Trained on, with the styles of the site."""
        config, images, model = self.config, self.inputs.home.train, self.inputs.model
        candidate.network.requires_grad_(True)
        places = torch.full((len(images),), -1)
        styles = self.styles
        objective = Mixing(styles.mixer, model.pool, 0.5, model.encoder, styles.residual, places, together=True)
        options = config.train.times(1, images)
        trainee = ClassifierTrainee(candidate.network, objective, images, options, config.seed, self.fabric)
        loop = Loop("train on", options.steps(images), config.out, self.run, config.checkpoint_seconds)
        with self.clock("train"):
            loop.train(trainee)
        candidate.network.requires_grad_(False)
        return candidate

    def normalised(self, candidate: TriedClassifier) -> TriedClassifier:
        """With the normalisation statistics of the site."""
        network = candidate.network.to(self.fabric.device)
        estimate_norm(network, self.inputs.site.images, self.fabric.device, self.config.seed)
        return candidate

    def forecast_of(self, candidate: TriedClassifier) -> nn.Module:
        """What is asked about images of home with styles of the site. Statistics of the site are those of such images
        then: what is done to the site is done to its imitation.
        """
        if WEIGHTS_OF[candidate.name] == candidate.name:
            return candidate.network
        network = candidate.copied(candidate.name).network
        estimate_norm(network, self.imitation, self.fabric.device, self.config.seed)
        return network

    @cached_property
    def imitation(self) -> ImageSet:
        """As many images of home as there are of the site, with its styles."""
        return self.styles.imitate(self.inputs.home.train, len(self.inputs.site.images))

    def measured(self, candidate: TriedClassifier) -> Entry:
        """How right it is, on what is known; the truth is reported alone."""
        home, site, fabric = self.inputs.home, self.inputs.site, self.fabric
        network, truth = candidate.network.to(fabric.device), site.labelled
        with self.clock("measure"), track("with styles", len(home.validation) + len(home.test)) as advance:
            parts: dict[str, Any] = {}
            asked = self.forecast_of(candidate)
            for name, images in (("validation", home.validation), ("test", home.test)):
                hits = right_with_styles(asked, images, self.styles, self.config.donors, advance, fabric)
                parts[name] = {"home": self.share(right_as_it_is(network, images, fabric), images)}
                parts[name]["styles"] = self.share(hits, images)
            return {
                "name": candidate.name,
                "validation": parts["validation"],
                **parts["test"],
                "confidence": mean_confidence(network, site.images, fabric),
                "truth": None if truth is None else self.share(right_as_it_is(network, truth, fabric), truth),
            }

    @staticmethod
    def share(hits: Tensor, images: ImageSet) -> Entry:
        """As it goes into the results."""
        return share_entry(hits, images.labels, images.classes)
