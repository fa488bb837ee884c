"""The settings of `advmix adapt`."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from advmix.classifiers.settings import ClassifierOptions
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import DEFAULT_GENERATOR
from advmix.training.classify import TrainOptions
from advmix.utils.config import check_values
from advmix.utils.device import MachineOptions
from advmix.utils.errors import UserError


@dataclass(frozen=True)
class SiteOptions:
    """The new site.

    Args:
        new_site: its images: a folder or .zip archive, `torchvision:NAME` or `hf:NAME`. No labels are looked for.
        new_site_target: column of the site's labels, where it has some; `class` of folders of classes. How right the
            classifier is there is then reported, and used for nothing.
        new_site_images: at most so many of them, drawn at random.
    """

    new_site: str = ""
    new_site_target: str | None = None
    new_site_images: int = 2000

    def __post_init__(self) -> None:
        object.__setattr__(self, "new_site", str(self.new_site))
        check_values(self, "new_site_images", least=2)


@dataclass(frozen=True)
class AdaptConfig(ClassifierOptions):
    """A classifier for a new site, from unlabelled images of it.

    Says first what to expect there: accuracy on labelled images of home with the styles of the site, what style alone
    costs. Then trains on with these styles, takes the statistics of normalisation layers anew, both each by itself and
    together, and keeps what does best on images of home with the styles of the site.

    Writes classifier/ (name it with --classifier), report.html, results.json and config.json.

    Args:
        data: labelled images of home; by default those of the classifier's folder. Trained on is the training part,
            chosen by the validation part (half of the test part, where there is none), and reported the test part.
        site: the new site.
        generator: what is a style: a ready-made generator (`statistics`, `statistics:KIND`, `photo`), or a folder that
            fit wrote.
        strength: how far towards the style of an image of the site, in [0, 1].
        donors: images of the site whose styles each image of home is tested with.
        train: how it is trained on.
        keep_home: whether one classifier shall serve home and site: then statistics of the site must not cost more
            than two points at home. Weights never may.
        pictures: at most so many of each kind in the report.
        seed: fixes donors, order of images, and what data are drawn at random.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        machines: how many processes share each batch, and take turns with the images that are tested.
        resume: go on with a run that was stopped; it ends in the same files as one that was not.
        checkpoint_seconds: time between checkpoints.
    """

    data: DataConfig = field(default_factory=lambda: DataConfig(data=""))
    site: SiteOptions = field(default_factory=SiteOptions)
    generator: Path = DEFAULT_GENERATOR
    strength: float = 1.0
    donors: int = 5
    train: TrainOptions = field(default_factory=lambda: TrainOptions(epochs=5))
    keep_home: bool = False
    pictures: int = 9
    seed: int = 0
    out: Path = Path("runs/adapt")
    device: str = "auto"
    machines: MachineOptions = field(default_factory=MachineOptions)
    resume: bool = False
    checkpoint_seconds: float = 20.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_values(self, "strength", within=(0, 1))
        check_values(self, "donors", least=1)
        check_values(self, "pictures checkpoint_seconds", least=0)
        if not self.site.new_site:
            raise UserError("adapt: name the images of the new site with --new-site")
