"""What the studies on painted digits have in common: the data set, how its cells are made, and where they are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advmix.data import DataConfig
from advmix.errors import UserError
from advmix.studies.cell import Cell, CellSettings
from advmix.studies.origin import Origin
from advmix.training.methods import SearchOptions

REFERENCE = "ceiling"
"""How the classifier was trained that says what an image shows: on unbiased colours."""


@dataclass(frozen=True)
class StudySettings(CellSettings):
    """Digits under a look, in cells.

    Args:
        data: `mnist`, `digits` (no download), `fashion-mnist` or `kmnist`.
        data_dir: folder in torchvision's layout.
        look: `colored`, `double-colored` or `wildlife`.
        train_images: default all 1,297 of `digits`, 12,000 of the others.
        test_images: default all.
        cells: folder of all that is trained; shared by the studies.
    """

    data: str = "mnist"
    data_dir: Path = Path("data")
    look: str = "colored"
    train_images: int | None = None
    test_images: int | None = None
    cells: Path = Path("runs/cells")

    def data_config(self, **others: Any) -> DataConfig:
        """The data set; `others` are the fields of `DataConfig` that a study varies."""
        ours = {
            "data": self.data,
            "data_dir": self.data_dir,
            "look": self.look,
            "train_images": self.train_images,
            "test_images": self.test_images,
        }
        return DataConfig(**{**ours, **others})

    def cell(self, seed: int, data: DataConfig, origin: Origin | None = None) -> Cell:
        """A data set under a seed, with generator and latents of some origin."""
        return make_cell(self.cells, data, seed, self, origin)


@dataclass(frozen=True)
class OneSpreadSettings(StudySettings):
    """The same, where one spread of the colours is enough.

    Args:
        color_std: standard deviation of the colours in training.
    """

    color_std: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.data_config()

    def data_config(self, **others: Any) -> DataConfig:
        """The data set."""
        return super().data_config(color_std=self.color_std, **others)


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse an empty list, and a seed named twice.

    Raises:
        UserError: repeating the list.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds {' '.join(map(str, seeds))}: name at least one, and none twice")


def make_cell(root: Path, data: DataConfig, seed: int, settings: CellSettings, origin: Origin | None = None) -> Cell:
    """The cell of a data set under a seed, in a folder that says which it is. Every study takes its cells from here.

    Another regime has a folder of its own. Another encoder or split shares the cell's generator, and has a subfolder
    for the rest.
    """
    origin = origin or Origin()
    regime, encoder = origin.folder_tags
    spread = f"std{data.color_std:g}" if data.color_variance is None else f"var{data.color_variance:g}"
    look = "" if data.look == "colored" else f"-{data.look}"
    target = "" if data.target == "digit" else f"-{data.target}"
    size = "" if data.train_images is None else f"-{data.train_images}"
    name = f"{data.data}{size}{look}-{spread}{target}{regime and '-'}{regime}-seed{seed}"
    subfolder = "-".join(filter(None, (encoder, _split_tag(settings.search))))
    return Cell(root / name, data, seed, settings, subfolder, origin=origin)


def _split_tag(search: SearchOptions) -> str:
    if (search.perp, search.perp_grid) == (SearchOptions().perp, SearchOptions().perp_grid):
        return ""
    return f"perp{'.'.join(map(str, search.perp))}{'grid' if search.perp_grid else ''}"
