"""Ways to train the photo autoencoder, by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from advmix.classifiers.networks import conv_net
from advmix.commands.demo import RunSettings
from advmix.data.images import ImageSet, slices, to_bytes, to_float
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import Encoder, encoded
from advmix.encoders.optimize import Activations
from advmix.latents import Latents
from advmix.metrics import predict
from advmix.mixing import Mixer, RandMix, SearchOptions, with_layers
from advmix.training.autoencode import AutoencoderTrainee, FitOptions, style_shape
from advmix.training.classify import TrainOptions
from advmix.training.methods import BaselineOptions, Recipe
from advmix.training.objectives import Adversarial, Augment, Mixing, Mixup, Nominal, Objective
from advmix.utils.config import check_values
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import derive, global_seed
from experiments.cells import check_seeds
from experiments.controls import LONG, REFIT, FilteredMixing
from experiments.faces.dataset import SIZE, Stress
from experiments.faces.survival_loss import SurvivalTrainee

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BASE = "base"


@dataclass(frozen=True)
class Variant:
    """What is another than in the studies' own generator.

    Args:
        meaning: in words.
        changes: fields of `FitOptions`.
        longer: times the steps.
        survival_weight: of a classifier's cross-entropy on mixes.
        perp: layers that are z⊥ unless a study is told others; none for all styles, beside a grid.
    """

    meaning: str
    changes: tuple[tuple[str, Any], ...] = ()
    longer: int = 1
    survival_weight: float = 0.0
    perp: tuple[int, ...] = ()

    def options(self, fit: FitOptions, side: int) -> FitOptions:
        """How it is trained, for images of this size."""
        longer = {"fit_steps": self.longer * fit.steps(side)} if self.longer > 1 else {}
        return replace(fit, **{**longer, **dict(self.changes)})

    @property
    def is_taught(self) -> bool:
        """Whether it learns from a classifier: by its features, or by what it recognises."""
        return self.survival_weight > 0 or dict(self.changes).get("perceptual_weight", 0) > 0

    def trainee(
        self, images: ImageSet, options: FitOptions, seed: int, fabric: Fabric, teacher: nn.Module | None
    ) -> AutoencoderTrainee:
        """Generator and encoder, to be trained.

        Args:
            images: without labels.
            options: how they are trained, as `options` says.
            seed: fixes them.
            fabric: the machine.
            teacher: on its device; trained on the labelled images alone. What it takes the others for stands for their
                labels, so that no more labels are used.
        """
        if not self.is_taught:
            return AutoencoderTrainee(images, options, seed, fabric)
        assert teacher is not None
        if not self.survival_weight:
            features = Activations(teacher.requires_grad_(False))
            return AutoencoderTrainee(images, options, seed, fabric, features=features)
        logits = predict(teacher, images, fabric.device)
        images = ImageSet(images.pixels, logits.argmax(dim=1), tuple(map(str, range(logits.shape[1]))))
        return SurvivalTrainee(images, options, seed, fabric, self.survival_weight, teacher)


VARIANTS = {
    BASE: Variant("the studies' own"),
    "longer": Variant("four times the steps", longer=4),
    "perceptual": Variant("with the error of a classifier's features", (("perceptual_weight", 0.1),)),
    "survival": Variant("a classifier must recognise mixes", survival_weight=0.1),
    "grid4": Variant("a grid of 4 channels", (("grid_channels", 4),)),
    "grid16": Variant("a grid of 16 channels", (("grid_channels", 16),)),
    "vector": Variant("styles alone, no grid", (("grid_channels", 0),), perp=(-4, -3, -2, -1)),
}


def check_variant(name: str, flag: str) -> None:
    """Refuse a name that is none.

    Raises:
        UserError: naming the flag and all variants.
    """
    if name not in VARIANTS:
        raise UserError(f"{flag} {name}: unknown; choose from {' '.join(VARIANTS)}")


METHODS = ("nominal", "mixup", "linf4", "linf8", "randmix", "advmix")

CONTROLS = (
    "nominal-long",
    "randmix-long",
    "jitter",
    "augmix",
    "reconstructed",
    "advmix-small",
    "pretrained",
    "advmix-filtered",
    "advmix-decoded",
)

NEEDS_ALL = ("randmix", "randmix-long", "advmix", "advmix-filtered", "advmix-decoded", "reconstructed", "pretrained")

"""Methods that use the generator of all training images; `advmix-small` has one that saw the labelled ones alone."""

RADII = {"linf4": 4 / 255, "linf8": 8 / 255}

REFERENCE = "reference"

"""Not a method that is compared: a network of another kind, trained with another seed on the same labels."""

FILTERED = "advmix-filtered"

DECODED = "advmix-decoded"

"""Trains on mixes as they are decoded; the others add the residual `x - dec(enc(x))`, as does every search that judges.
"""

PRETRAINED = "pretrained"

"""The one method whose network is that of an encoder."""


def base_of(method: str) -> str:
    """The method whose features are refitted; any other is its own."""
    return method.removesuffix(REFIT)


def reference_net(classes: int) -> nn.Module:
    """A residual network with four blocks (ResNet-10, He et al., 2016) for three channels: unlike `conv_net` it has
    shortcuts, a pooled stem and three times the depth.
    """
    from torchvision.models.resnet import BasicBlock, ResNet

    network: nn.Module = ResNet(BasicBlock, [1, 1, 1, 1], num_classes=classes)
    return network.to(memory_format=torch.channels_last)


class EncoderClassifier(nn.Module):
    """A copy of an encoder with a linear layer on its latents: what the encoder's training alone is worth.

    Args:
        encoder: where the weights come from; they are trained further.
        latents: of any image, for their number.
        classes: of the output.
    """

    def __init__(self, encoder: Encoder, latents: Latents, classes: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.linear = nn.Linear(sum(part[0].numel() for part in latents.tensors().values()), classes)

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] to logits."""
        latents = self.encoder(images)
        logits: Tensor = self.linear(torch.cat([part.flatten(1) for part in latents.tensors().values()], dim=1))
        return logits


@dataclass(frozen=True, eq=False)
class Kit:
    """What recipes are made of.

    Args:
        images: labelled.
        model: generator and encoder of the method.
        search: Algorithm 1's settings.
        baseline: settings of the other methods.
        seed: of the first weights.
        reference: says which mixes lost their label, for `advmix-filtered`.
    """

    images: ImageSet
    model: Autoencoder | None
    search: SearchOptions
    baseline: BaselineOptions
    seed: int
    reference: nn.Module | None = None

    def recipe(self, method: str) -> Recipe:
        """What a method trains with."""
        images = reconstructed(self.images, self.autoencoder) if method == "reconstructed" else self.images
        objective = self._objective(method.removesuffix(LONG))
        return Recipe(self.network(method), objective, images, {})

    @property
    def autoencoder(self) -> Autoencoder:
        """Generator and encoder, where they are needed."""
        assert self.model is not None
        return self.model

    def network(self, method: str) -> nn.Module:
        """The classifier, with its first weights."""
        channels, classes = int(self.images.pixels.shape[1]), len(self.images.classes)
        if method == REFERENCE:
            with global_seed(derive(self.seed, REFERENCE)):
                return reference_net(classes)
        with global_seed(self.seed):
            if method != PRETRAINED:
                return conv_net(classes, channels)
            encoder = self.autoencoder.encoder
            with torch.no_grad():
                latents = encoder(self.images.batch(slice(0, 1))[0].to(next(encoder.parameters()).device))
            return EncoderClassifier(encoder, latents, classes).cpu()

    def _objective(self, method: str) -> Objective:
        baseline, weight = self.baseline, self.baseline.clean_weight
        if method == "mixup":
            return Mixup(len(self.images.classes), baseline.mixup_alpha)
        if method in RADII:
            return Adversarial(RADII[method], baseline.linf_steps)
        if method in ("jitter", "augmix"):
            return Augment(_transform(method, baseline.jitter), weight)
        if method in ("randmix", "advmix", "advmix-small", DECODED):
            return self._mixing(method)
        if method == FILTERED:
            assert self.reference is not None
            return FilteredMixing(self._mixing(method), self.reference)
        return Nominal()

    def _mixing(self, method: str) -> Mixing:
        model = self.autoencoder
        split = self.search.split(model.generator.layers)
        mixer: Mixer = RandMix(model.generator, split) if method == "randmix" else self.search.mixer(model.generator)
        pool, residual = encoded(self.images, model.encoder), self.baseline.residual and method != DECODED
        return Mixing(mixer, pool, self.baseline.clean_weight, model.encoder, residual)


@torch.no_grad()
def reconstructed(images: ImageSet, model: Autoencoder) -> ImageSet:
    """What the generator makes of a set."""
    latents = encoded(images, model.encoder)
    parts = [to_bytes(model.generator(latents[part])).cpu() for part in slices(len(images), 256)]
    return ImageSet(torch.cat(parts), images.labels, images.classes)


def _transform(method: str, strength: float) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    if method == "jitter":
        jitter: Callable[[Tensor], Tensor] = v2.ColorJitter(strength, strength, strength, strength)
        return jitter
    augmix = v2.AugMix()
    return lambda image: to_float(augmix(to_bytes(image))[None])[0]


PARTS = ("select", "test")

STYLES = tuple(range(6))

"""All styles of the generator with a grid: light, colour, contrast. The grid is z∥. Without one the same layers are the
coarse ones: pose and shape.
"""

IDLE = (
    ("fit", "perceptual_weight", "a teacher comes with the variant; give --variant perceptual"),
    ("baseline", "linf_radius", "linf4 and linf8 have their own, 4/255 and 8/255"),
)

"""Shared settings that would change nothing here but the names of folders."""


@dataclass(frozen=True)
class FaceSettings(RunSettings):
    """What the studies of faces have in common: the same generators and classifiers, in the same folders.

    Args:
        data: folder, zip or csv of faces, as for `advmix data`.
        data_dir: folder of torchvision's data sets, for --data torchvision:CelebA.
        size: side of the images in pixels, to which they are resized, a multiple of 4; 32 is four times as fast as 64.
        persons: column of who is on an image; no person is in two parts, and intervals are over persons.
        labelled: training images with labels, drawn at random under each seed; None for all but those of the persons
            held out.
        variant: how generator and encoder are trained: base longer perceptual survival grid4 grid16 vector.
        cells: folder of all that is trained; shared by the studies.
    """

    data: str = "data/celeba"
    data_dir: Path = Path("data")
    size: int = SIZE
    persons: str = "identity"
    labelled: int | None = 5000
    variant: str = BASE
    fit: FitOptions = field(default_factory=lambda: FitOptions(grid_channels=8, l1_weight=1.0))
    train: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=10, flip=True))
    search: SearchOptions = field(default_factory=SearchOptions)
    baseline: BaselineOptions = field(default_factory=lambda: BaselineOptions(residual=True))
    cells: Path = Path("runs/cells")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "labelled", least=2)
        check_variant(self.variant, "--variant")
        for group, name, why in IDLE:
            options = getattr(self, group)
            given = getattr(options, name)
            if given != getattr(type(options)(), name):
                raise UserError(f"--{name.replace('_', '-')} {given}: {why}")
        variant = VARIANTS[self.variant]
        network = style_shape(3, self.size, variant.options(self.fit, self.size))
        if network.grid_shape is None and self.search.perp == STYLES:
            raise UserError(
                f"--perp {' '.join(map(str, STYLES))}: the styles beside a grid, but without one (--grid-channels 0) "
                "the coarse layers, pose and shape; name the finest ones, --perp -2 -1"
            )
        search = self.search if self.search.perp else replace(self.search, perp=variant.perp)
        object.__setattr__(self, "search", with_layers(search, network))

    def with_variant(self, name: str) -> Self:
        """The same, but for the way in which the generator is trained and, where none was named, the z⊥ with it."""
        usual = replace(self, search=replace(self.search, perp=())).search.perp
        named = () if self.search.perp == usual else self.search.perp
        return replace(self, variant=name, search=replace(self.search, perp=named))

    def study(self, target: str, **others: Any) -> CelebaConfig:
        """The settings of `python -m experiments celeba` with the same parts."""
        names = {item.name for item in fields(FaceSettings)}
        return CelebaConfig(**{**{name: getattr(self, name) for name in names}, "target": target, **others})


@dataclass(frozen=True)
class CelebaConfig(FaceSettings):
    """Errors of every method on faces, with intervals over persons: table, figure, results.json.

    Generator and encoder see all training images without labels, classifiers only `--labelled` of them. Goes on where
    it was stopped, and may be started in any number of processes, on any machines that share the folders.

    Args:
        target: column of what is recognised.
        judge: `select` (persons held out of the training split: for choosing settings) or `test` (the splits `val` and
            `test` together: to be looked at once, with everything chosen).
        tint: a positive control: mixes each training image with a colour of its class by this weight, and each judged
            one with that of a random class.
        stress: a spurious correlation on purpose (--cue); judged on a balanced test.
        also: folder, zip or csv of images of the same classes from another source, on which every classifier is judged
            as well, apart.
        also_target: its column of labels.
        methods: nominal mixup linf4 linf8 randmix advmix, controls nominal-long randmix-long jitter augmix
            reconstructed advmix-small pretrained advmix-filtered advmix-decoded; in a stress test also METHOD-refit of
            any of them.
        seeds: every one fixes the labelled images and all that is trained.
        resamples: of the bootstrap.
        out: folder for table and figure.
    """

    target: str = "Smiling"
    judge: str = "select"
    tint: float = 0.0
    stress: Stress = field(default_factory=Stress)
    also: str | None = None
    also_target: str | None = None
    methods: tuple[str, ...] = METHODS
    seeds: tuple[int, ...] = (0, 1, 2)
    resamples: int = 2000
    out: Path = Path("runs/study/celeba")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seeds(self.seeds)
        check_values(self, "resamples", least=2)
        check_values(self, "tint", within=(0, 1))
        if self.judge not in PARTS:
            raise UserError(f"--judge {self.judge}: unknown; choose from {' '.join(PARTS)}")
        self._check_stress()
        known = METHODS + CONTROLS
        for name in self.methods:
            if base_of(name) not in known:
                raise UserError(f"--methods {name}: unknown; choose from {' '.join(known)}")
        if "nominal" not in self.methods or len(set(self.methods)) < len(self.methods):
            names = " ".join(self.methods)
            raise UserError(f"--methods {names}: nominal must be among them, to compare with, and none twice")
        if DECODED in self.methods and not self.baseline.residual:
            raise UserError(f"--methods {DECODED}: leaves out the residual, which --no-residual takes from all of them")

    def _check_stress(self) -> None:
        for name in self.methods:
            if name.endswith(REFIT) and self.stress.cue is None:
                raise UserError(f"--methods {name}: refits on balanced groups, which a stress test has (--cue COLUMN)")
            if base_of(name) not in self.methods:
                raise UserError(f"--methods {name}: refits {base_of(name)}, which must be among them")
        if self.stress.cue is not None and (self.judge == "select" or self.tint):
            raise UserError(
                f"--cue {self.stress.cue}: a stress test has a test of its own, whose settings are chosen elsewhere; "
                "use it with --judge test, and without --tint"
            )
        if self.also_target is not None and self.also is None:
            raise UserError(f"--also-target {self.also_target}: goes together with --also")
