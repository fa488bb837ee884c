"""Settings of `python -m experiments smiling`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from advmix.utils.config import Settings, check_values
from advmix.utils.errors import UserError
from experiments.cells import check_seeds
from experiments.faces.settings import PARTS

NETWORKS = ("conv", "resnet18")

VIEWS = ("flip", "randaugment", "jitter", "randmix", "advmix", "half", "randmix-photo", "advmix-photo")

SUPERVISED = ("randaugment", "jitter", "augmix", "randmix", "advmix", "randmix-photo", "advmix-photo")

CONSISTENCY = "consistency-"

BOTH = f"randmix-{CONSISTENCY}randaugment"
"""RandMix beside the labelled images, RandAugment as the view of the others."""

METHODS = ("nominal", "nominal-2x2", *SUPERVISED, *(CONSISTENCY + view for view in VIEWS), BOTH)

USUAL = tuple(method for method in METHODS if not method.endswith("-photo"))


@dataclass(frozen=True)
class RunOptions:
    """How every run is trained: Adam at a constant rate, weights averaged, until they have been better.

    Args:
        steps: at most.
        batch: labelled images per step.
        lr: learning rate.
        decay: of the exponential average of weights and normalisation statistics, per step.
        check_every: steps between two looks at the images that choose.
        patience: looks without a lower error, after which a run ends.
        bf16: train in bfloat16 where torch's autocast does.
    """

    steps: int = 1500
    batch: int = 32
    lr: float = 3e-3
    decay: float = 0.99
    check_every: int = 100
    patience: int = 4
    bf16: bool = True

    def __post_init__(self) -> None:
        check_values(self, "steps check_every patience", least=1)
        check_values(self, "batch", least=2)  # batch normalisation cannot train on one
        check_values(self, "lr", above=0)
        check_values(self, "decay", within=(0, 1))


@dataclass(frozen=True)
class ConsistencyOptions:
    """How unlabelled images are used.

    Args:
        unlabelled_batch: unlabelled images per step.
        weight: of the disagreement beside the labelled loss.
        threshold: of the probability from which an image counts, as in FixMatch; None for the divergence, as in UDA.
    """

    unlabelled_batch: int = 32
    weight: float = 1.0
    threshold: float | None = None

    def __post_init__(self) -> None:
        check_values(self, "unlabelled_batch", least=2)
        check_values(self, "weight", least=0)
        check_values(self, "threshold", within=(0, 1))


@dataclass(frozen=True)
class SmilingConfig(Settings):
    """Every method at its own best number of epochs, with and without unlabelled faces: table, figure, results.json.

    Persons are held out of the training split: one half of them chooses how long each run is trained, the other half
    judges. Unlabelled are all faces of the other persons, whose labels are not looked at but for `--labelled` of them.
    Goes on where it was stopped, run by run, and may be started in any number of processes that share the folders.

    Args:
        data: folder, zip or csv of faces, as for `advmix data`.
        data_dir: folder of torchvision's data sets, for --data torchvision:CelebA.
        target: column of what is recognised.
        persons: column of who is on an image; intervals are over persons.
        size: side of the images in pixels.
        labelled: training images with labels, drawn at random under each seed.
        network: conv (the studies' own, with a head of 4x4 averages) or resnet18 (torchvision's).
        methods: which; nominal among them.
        judge: `select` (the other half of the persons held out) or `test` (the splits `val` and `test` together: to be
            looked at once, with everything chosen).
        jitter: strength of the colour jitter in brightness, contrast, saturation and hue, in [0, 0.5].
        worst_images: worst cases under the style search are looked for on at most so many judged images.
        seeds: every one fixes the labelled images and all that is trained.
        resamples: of the bootstrap.
        finished: `results.json` files, or their folders, of this study with the same settings, whose runs are taken as
            they are.
        device: auto, cpu, cuda, cuda:N or mps.
        cells: folder of all that is trained.
        out: folder for table, figure and results.json.
    """

    data: str = "data/celeba"
    data_dir: Path = Path("data")
    target: str = "Smiling"
    persons: str = "identity"
    size: int = 32
    labelled: int = 1000
    network: str = "conv"
    methods: tuple[str, ...] = USUAL
    judge: str = "select"
    run: RunOptions = field(default_factory=RunOptions)
    consistency: ConsistencyOptions = field(default_factory=ConsistencyOptions)
    jitter: float = 0.5
    worst_images: int = 300
    seeds: tuple[int, ...] = (0, 1, 2)
    resamples: int = 2000
    finished: tuple[Path, ...] = ()
    device: str = "cpu"
    cells: Path = Path("runs/cells")
    out: Path = Path("runs/study/smiling")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seeds(self.seeds)
        check_values(self, "labelled resamples", least=2)
        check_values(self, "size", least=16)
        check_values(self, "worst_images", least=1)
        check_values(self, "jitter", within=(0, 0.5))
        for flag, value, known in (("judge", self.judge, PARTS), ("network", self.network, NETWORKS)):
            if value not in known:
                raise UserError(f"--{flag} {value}: unknown; choose from {' '.join(known)}")
        for name in self.methods:
            if name not in METHODS:
                raise UserError(f"--methods {name}: unknown; choose from {' '.join(METHODS)}")
        if "nominal" not in self.methods or len(set(self.methods)) < len(self.methods):
            names = " ".join(self.methods)
            raise UserError(f"--methods {names}: nominal must be among them, to compare with, and none twice")
        if "nominal-2x2" in self.methods and self.network != "conv":
            raise UserError(f"--methods nominal-2x2: another head of --network conv, not of {self.network}")
