"""Settings of `advmix study celeba`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from advmix.errors import UserError
from advmix.options import require
from advmix.report.style import REFIT
from advmix.studies.celeba.faces import SIZE, Stress
from advmix.studies.celeba.recipes import CONTROLS, DECODED, METHODS, base_of
from advmix.studies.celeba.variants import BASE, VARIANTS, check_variant
from advmix.studies.cell import CellSettings
from advmix.studies.settings import check_seeds
from advmix.training.autoencode import FitOptions, style_shape
from advmix.training.classify import TrainOptions
from advmix.training.methods import BaselineOptions, SearchOptions, with_layers

PARTS = ("select", "test")
STYLES = tuple(range(6))
"""All styles of the generator with a grid: light, colour, contrast. The grid is z∥. Without one the same layers are the
coarse ones: pose and shape.
"""
IDLE = (
    ("fit", "perceptual_weight", "a teacher comes with the variant; give --variant perceptual"),
    ("baseline", "linf_radius", "linf4 and linf8 have their own, 4/255 and 8/255"),
    ("baseline", "best_of", "randmix-best is no method of this study"),
)
"""Shared settings that would change nothing here but the names of folders."""


@dataclass(frozen=True)
class FaceSettings(CellSettings):
    """What the studies of faces have in common: the same generators and classifiers, in the same folders.

    Args:
        data: folder, zip or csv of faces, as for `advmix data`.
        data_dir: folder of torchvision's data sets, for --data torchvision:CelebA.
        size: side of the images in pixels, to which they are resized, a multiple of 4; 32 is four times as fast as 64.
        persons: column of who is on an image; no person is in two parts, and intervals are over persons.
        labelled: training images with labels, drawn at random under each seed; None for all but those of the persons
            held out.
        variant: how generator and encoder are trained: base longer perceptual adversarial survival grid4 grid16 vector.
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
    search: SearchOptions = field(default_factory=lambda: SearchOptions(perp=()))
    baseline: BaselineOptions = field(default_factory=lambda: BaselineOptions(residual=True))
    cells: Path = Path("runs/cells")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self, "labelled", least=2)
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
        """The settings of `advmix study celeba` with the same parts."""
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
        require(self, "resamples", least=2)
        require(self, "tint", within=(0, 1))
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
