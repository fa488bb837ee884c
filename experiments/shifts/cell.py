"""One training and what its classifier is worth: at home, at made sites, at the sites."""

from __future__ import annotations

import time
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from torch import Tensor, nn

from advmix.calibration import brier_score, calibration_error, sensitivity_at_specificity
from advmix.commands.fit import fit
from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.encoders.network import encoded, start_latents
from advmix.intervals import balanced_share
from advmix.metrics import predict
from advmix.mixing import RandMix, usual_split
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.normalisation import estimate_norm, norm_layers
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import answers, eval_mode, generator
from experiments.shifts.donors import donor_images, lent_by_sites
from experiments.shifts.forecast_baselines import mean_confidence, thresholded_confidence
from experiments.shifts.made_shifts import MADE_SHIFTS, make_shift
from experiments.shifts.methods import METHODS, Ingredients
from experiments.shifts.networks import make_network
from experiments.shifts.sets import ShiftImages, SiteImages, open_set
from experiments.shifts.twins import measure_twins
from experiments.shifts.worst_case import withstood

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from experiments.shifts.study import ShiftsConfig

Record = dict[str, Any]

_STATISTICS = Path("statistics")


@dataclass(frozen=True)
class ShiftCell:
    """One training.

    Args:
        set_name: of the images.
        network: its name.
        method: its name.
        donors: of a method that borrows; else empty.
        budget: epochs, as a multiple of those of the study.
        seed: of the training, and of what is drawn of the images.
    """

    set_name: str
    network: str
    method: str
    donors: str
    budget: int
    seed: int

    @property
    def name(self) -> str:
        """Of its file."""
        parts = (self.set_name, self.network, self.method, self.donors, f"x{self.budget}", f"seed{self.seed}")
        return "_".join(part for part in parts if part)

    @property
    def key(self) -> Record:
        """As it is in its row."""
        return {
            "set": self.set_name,
            "network": self.network,
            "method": self.method,
            "donors": self.donors,
            "budget": self.budget,
            "seed": self.seed,
        }


class ShiftTrainee(ClassifierTrainee):
    """A classifier whose losses are computed in bfloat16 where that is safe, its weights and logits in float32."""

    def __init__(self, *parts: Any, precision: str) -> None:
        super().__init__(*parts)
        self.bf16 = precision == "bf16"

    def loss(self, step: int) -> Tensor:
        """The objective on the step's batch."""
        with torch.autocast(self.fabric.device.type, torch.bfloat16, enabled=self.bf16):
            return super().loss(step)


def measure_cell(cell: ShiftCell, config: ShiftsConfig, fabric: Fabric) -> Record:
    """Train, and measure."""
    images = set_images(cell.set_name, config, cell.seed)
    network, seconds = train_cell(cell, config, images, fabric)
    return {**cell.key, "cpu_seconds": seconds, **measure(network, images, fabric.device, cell.seed)}


@lru_cache(maxsize=2)
def set_images(name: str, config: ShiftsConfig, seed: int) -> ShiftImages:
    """The images of a set; those of the last two are kept."""
    return open_set(name, config.data_folder, config.size, config.train_images, seed)


def train_cell(cell: ShiftCell, config: ShiftsConfig, images: ShiftImages, fabric: Fabric) -> tuple[nn.Module, float]:
    """A trained classifier, and the CPU seconds that it took."""
    method = METHODS[cell.method]
    network = make_network(cell.network, len(images.train.classes), cell.seed)
    network.register_forward_hook(_in_float32)
    donors = donor_images(cell.donors, images, config.picture_folder, config.out) if method.borrows else None
    begun = time.process_time()
    objective = method.make(Ingredients(images, donors, lambda: fitted_generator(cell.set_name, config)))
    options = TrainOptions(epochs=cell.budget * config.epochs, flip=images.flip)
    parts = method.wrap(network), objective, images.train, options, cell.seed, fabric
    loop = Loop(cell.name, options.steps(images.train))
    loop.train(ShiftTrainee(*parts, precision=config.precision))
    trained = method.finish(network.eval(), images, cell.seed)
    return trained, round(time.process_time() - begun, 1)


FIT: dict[str, Any] = {"fit_batch": 32, "grid_channels": 8, "l1_weight": 1.0}
"""As `fit` has it for photographs above 32 pixels, at every size."""


def fitted_generator(set_name: str, config: ShiftsConfig) -> Autoencoder:
    """Generator and encoder, fitted once to images of home, without their labels: the same ones for all seeds."""
    folder = make_folder(config.out / "fitted") / set_name
    with FileLock(folder.with_suffix(".lock")):
        images = set_images(set_name, config, 0).train
        return fit(images, out=folder, device=config.device, resume=True, **FIT).model


def _in_float32(network: nn.Module, inputs: Any, logits: Tensor) -> Tensor:
    return logits.float()


SEARCHED = 250
"""Images of home, at most, on which a worst case is looked for: styles near those of the new sites."""


def measure(network: nn.Module, images: ShiftImages, device: torch.device, seed: int) -> Record:
    """What is known of a classifier in a row of the results.

    Args:
        network: on its device.
        images: of the set.
        device: where to ask it.
        seed: of the donors of the forecast, and of the order in which statistics are taken.
    """
    chosen_by = images.chosen_by
    at_validation = predict(network, chosen_by, device)
    made = {name: predict(network, make_shift(name, chosen_by), device) for name in MADE_SHIFTS}
    some = images.home[torch.randperm(len(images.home), generator=generator(seed, "shifts", "worst case"))[:SEARCHED]]
    safe = withstood(network, some, lent_by_sites(images), device, seed)
    return {
        "worst_case": balanced_share(safe, some.labels).value,
        "validation": balanced(at_validation, chosen_by.labels),
        "made": {name: balanced(answer, chosen_by.labels) for name, answer in made.items()},
        "home": scores(predict(network, images.home, device), images.home.labels),
        "sites": {
            name: measure_site(network, images, site, at_validation, device, seed)
            for name, site in images.sites.items()
        },
    }


def measure_site(
    network: nn.Module, images: ShiftImages, site: SiteImages, validation: Tensor, device: torch.device, seed: int
) -> Record:
    """What it is worth at a site, as it is and with normalisation statistics of its unlabelled images, and what was
    forecast of that, from unlabelled images and labels of home.
    """
    judged, labels = site.judged, images.chosen_by.labels
    unlabelled = predict(network, site.unlabelled, device)
    found = {
        "as_it_is": scores(predict(network, judged, device), judged.labels),
        "forecast": {
            "styles": forecast_by_styles(network, images.chosen_by, site.unlabelled, device, seed),
            "mean_confidence": mean_confidence(unlabelled),
            "thresholded_confidence": thresholded_confidence(validation, labels, unlabelled),
        },
        "answers": packed(predict(network, site.images, device).argmax(dim=1)),
    }
    if norm_layers(network):
        other = deepcopy(network)
        estimate_norm(other, site.unlabelled, device, seed)
        found["estimated"] = scores(predict(other, judged, device), judged.labels)
    if site.twins is not None:
        found["twins"] = measure_twins(network, site, device, seed)
    return found


def balanced(answer: Tensor, labels: Tensor) -> float:
    """Balanced accuracy of probabilities `(N, C)`."""
    return balanced_share(answers(answer) == labels, labels).value


def scores(answer: Tensor, labels: Tensor) -> Record:
    """All that is said of probabilities `(N, C)` of labelled images."""
    every = torch.ones(1, len(labels), dtype=torch.float64)
    right = answers(answer) == labels
    return {
        "balanced": balanced(answer, labels),
        "accuracy": float(right.double().mean()),
        "brier": float(brier_score(answer, labels, every)),
        "calibration_error": float(calibration_error(answer, labels, every)),
        "sensitivity": one_against_all(answer, labels),
        "right": packed(right.long()),
    }


def one_against_all(answer: Tensor, labels: Tensor) -> float:
    """Sensitivity at 90 % specificity of each class against all others, mean over the classes that occur."""
    every = torch.ones(1, len(labels), dtype=torch.float64)
    found = []
    for label in labels.unique().tolist():
        shown = torch.stack([1 - answer[:, label], answer[:, label]], dim=1)
        found.append(float(sensitivity_at_specificity(shown, (labels == label).long(), every)))
    return sum(found) / len(found)


def packed(digits: Tensor) -> str:
    """Numbers from 0 to 9, `(N,)`, as so many characters."""
    return "".join(map(str, digits.tolist()))


def unpacked(digits: str) -> Tensor:
    """The numbers of `packed`."""
    return torch.tensor([int(digit) for digit in digits])


FORECAST_IMAGES = 500
"""Of home's validation images, at most, each with the styles of two images of the site."""


@torch.no_grad()
def forecast_by_styles(network: nn.Module, home: ImageSet, site: ImageSet, device: torch.device, seed: int) -> float:
    """Balanced accuracy on images of home with the styles of a site: means and deviations of colour."""
    model, _ = load_autoencoder(_STATISTICS)
    mixer = RandMix(model.generator, usual_split((), False, model.config))
    pool = encoded(site, model.encoder, styles_only=True)
    rows = torch.randperm(len(home), generator=generator(seed, "shifts", "forecast"))[:FORECAST_IMAGES]
    shown = home[rows]
    right = []
    with eval_mode(network) as (inner,):
        for turn, part in ((turn, part) for turn in range(2) for part in slices(len(shown), 250)):
            pixels, labels = shown.batch(part)
            start = start_latents(model.generator, model.encoder, pixels, None, True)
            rng = generator(seed, "shifts", "forecast", turn, part.start)
            mix = mixer(None, start, labels, pool, rng=rng).images
            right.append(answers(inner(mix.to(device))).cpu() == labels)
    return balanced_share(torch.cat(right), shown.labels.repeat(2)).value
