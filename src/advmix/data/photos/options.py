"""How a user's images are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from advmix.data.photos.pixels import CROPS
from advmix.errors import UserError
from advmix.options import require


@dataclass(frozen=True)
class PhotoShape:
    """Which of a user's images are read, and in which shape.

    Args:
        group: columns of other things that are known (`Male`, `background`): they are counted against the classes.
        size: width and height of the images as they are used, in pixels.
        channels: 3 (RGB) or 1 (grey).
        crop: `centre` (the largest square in the middle), `pad` (all of it, on a black square) or `stretch`.
        holdout: share of every class that becomes the test, in [0, 1), where the data have none of their own.
        split_seed: which images are held out. Not the seed of a run: runs of different seeds share the test.
        split_by: column of what must not be in two splits, a person for example.
        limit: at most so many images of every split, drawn at random; default all.
        skip_broken: leave out images that cannot be read; by default they are an error.
        download: whether torchvision and Hugging Face may fetch what is missing.
    """

    group: tuple[str, ...] = ()
    size: int = 64
    channels: int = 3
    crop: str = "centre"
    holdout: float = 0.2
    split_seed: int = 0
    split_by: str | None = None
    limit: int | None = None
    skip_broken: bool = False
    download: bool = False

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise UserError(f"--crop {self.crop}: unknown; choose from {' '.join(CROPS)}")
        if self.channels not in (1, 3):
            raise UserError(f"--channels {self.channels}: must be 1 (grey) or 3 (RGB)")
        require(self, "size limit", least=1)
        require(self, "holdout", least=0)
        if self.holdout >= 1:
            raise UserError(f"--holdout {self.holdout}: must be less than 1")


@dataclass(frozen=True)
class PhotoOptions(PhotoShape):
    """The same, with what is recognised on them.

    Args:
        target: column of the labels; may be left out where there is one column, or one is called class, label or
            target.
        data_dir: folder of torchvision's data sets.
    """

    target: str | None = None
    data_dir: Path = Path("data")
