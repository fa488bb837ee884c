"""Ways to train the photo autoencoder, by name."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from advmix.audit.evaluate import predict
from advmix.data import ImageSet
from advmix.encoders import Autoencoder, fingerprint
from advmix.encoders.autoencoder import FILE, load_autoencoder, save_autoencoder
from advmix.encoders.features import Activations
from advmix.engine import make_fabric
from advmix.runs import open_run
from advmix.studies.celeba.bench import ALL, CELLS, Bench, FitPart
from advmix.studies.celeba.study import fit_jobs
from advmix.studies.cell import naming
from advmix.studies.share import work
from advmix.training.autoencode import FitOptions, reconstruction_mse
from advmix.training.loop import Loop
from advmix.training.mixes import MixOptions, MixTrainee

BASE = "base"


@dataclass(frozen=True)
class Variant:
    """What is another than in the studies' generator.

    Args:
        meaning: in words.
        changes: fields of `FitOptions`.
        longer: times the steps.
        mix: what is asked of mixes.
    """

    meaning: str
    changes: tuple[tuple[str, Any], ...] = ()
    longer: int = 1
    mix: MixOptions = field(default_factory=MixOptions)

    def options(self, fit: FitOptions, side: int) -> FitOptions:
        """How it is trained, for images of this size."""
        return replace(fit, **{"fit_steps": self.longer * fit.steps(side), **dict(self.changes)})


VARIANTS = {
    BASE: Variant("as in the other studies"),
    "longer": Variant("four times the steps", longer=4),
    "perceptual": Variant("with the error of a classifier's features", (("perceptual_weight", 0.1),)),
    "adversarial": Variant("a discriminator on reconstructions and mixes", mix=MixOptions(adversarial_weight=0.1)),
    "survival": Variant("a classifier must recognise mixes", mix=MixOptions(survival_weight=0.1)),
    "grid4": Variant("a grid of 4 channels", (("grid_channels", 4),)),
    "grid16": Variant("a grid of 16 channels", (("grid_channels", 16),)),
    "vector": Variant("styles alone, no grid", (("grid_channels", 0),)),
}


@dataclass(frozen=True)
class VariantPart(FitPart):
    """What makes a variant."""

    variant: str
    mix: MixOptions


def fit_variant(bench: Bench, name: str, classifier: nn.Module) -> tuple[Autoencoder, dict[str, Any]]:
    """The autoencoder of a variant, trained first where it is not there; on the device, with what its file says.

    Args:
        bench: whose unlabelled images it is trained on; `base` is the bench's own generator.
        name: of the variant.
        classifier: trained on the labelled images alone. Its features compare images, and it must recognise mixes:
            what it takes the unlabelled images for stands for their labels, so that no more labels are used.
    """
    if name == BASE:
        work(list(fit_jobs(bench, [ALL])))
        return bench.generator(ALL)
    images, out = bench.faces.unlabelled, bench.home(ALL).with_name(f"{bench.home(ALL).name}-{name}")
    variant, side = VARIANTS[name], int(images.pixels.shape[-1])
    options = variant.options(bench.config.fit, side)
    part = VariantPart(options, bench.seed, out, name, variant.mix)
    inputs = {"images": images.fingerprint, "classifier": fingerprint(classifier)}
    with naming(CELLS):
        run = open_run(out, "study photo-autoencoder: fit", part, True, inputs)
    if not (out / FILE).is_file():
        trainee = _trainee(bench, variant, options, classifier)
        loop = Loop(f"seed {bench.seed}: {name}", options.steps(side), out, run)
        loop.train(trainee)
        model = trainee.model.eval()
        mse = reconstruction_mse(model, images, bench.device)
        facts = {"data_fingerprint": images.fingerprint, "images": len(images), "reconstruction_mse": mse}
        save_autoencoder(out, model, {**facts, "fit_seconds": round(loop.seconds, 2)})
        loop.finish()
    model, metadata = load_autoencoder(out)
    return model.to(bench.device), metadata


def _trainee(bench: Bench, variant: Variant, options: FitOptions, classifier: nn.Module) -> MixTrainee:
    images, mix = bench.faces.unlabelled, variant.mix
    reference = classifier if mix.survival_weight else None
    if reference is not None:
        guessed = predict(classifier, images, bench.device).argmax(dim=1)
        images = ImageSet(images.pixels, guessed, bench.faces.labelled.classes)
    features = Activations(classifier.requires_grad_(False)) if options.perceptual_weight else None
    fabric = make_fabric(bench.config.device)
    return MixTrainee(images, options, bench.seed, fabric, mix, reference=reference, features=features)
