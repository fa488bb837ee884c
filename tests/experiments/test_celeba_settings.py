"""What the settings of the face studies make of each other. Nothing is trained."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from running import parse

from advmix.data.images import ImageSet
from advmix.mixing import SearchOptions
from advmix.training.autoencode import style_shape
from advmix.utils.errors import UserError
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import Faces, load, load_cues
from experiments.faces.settings import CelebaConfig
from experiments.faces.study import open_faces

STYLES = (0, 1, 2, 3, 4, 5)


@pytest.mark.parametrize(
    ("study", "flags", "perp"),
    [
        ("celeba", [], STYLES),
        ("celeba-survival", ["--size", "32"], STYLES),
        ("celeba", ["--grid-channels", "0"], (8, 9)),
        ("celeba-marginalize", ["--grid-channels", "0", "--size", "32"], (6, 7)),
        ("celeba", ["--grid-channels", "0", "--perp", "4", "5"], (4, 5)),
    ],
)
def test_usual_layers_are_those_of_the_generator(study: str, flags: list[str], perp: tuple[int, ...]) -> None:
    config = parse(["study", study, *flags])
    assert config.search.perp == config.evaluation().perp == perp
    shape = style_shape(3, config.size, config.fit)
    assert config.search.split(shape.layers).perp == perp


def test_coarse_layers_are_not_taken_for_styles() -> None:
    saved = CelebaConfig()
    with pytest.raises(UserError, match=r"--perp 0 1 2 3 4 5: .*--grid-channels 0.*--perp -2 -1"):
        replace(saved, fit=replace(saved.fit, grid_channels=0))
    assert replace(saved, search=SearchOptions(perp=STYLES)) == saved


class Squares:
    """What torchvision's CelebA offers, of grey squares: two of each person, the lighter one smiling."""

    attr_names = ("Male", "Smiling", "")

    def __init__(self, root: str, split: str, download: bool) -> None:
        if not (Path(root) / "celeba").is_dir():
            raise RuntimeError("Dataset not found or corrupted.")
        count, first = {"train": (40, 0), "valid": (8, 100), "test": (8, 200)}[split]
        places = torch.arange(count)
        self.attr = torch.stack([places // 2 % 2, places % 2], dim=1)
        self.identity = first + places[:, None] // 2

    def __len__(self) -> int:
        return len(self.attr)

    def __getitem__(self, place: int) -> tuple[Image.Image, None]:
        return Image.new("RGB", (18, 22), (100 + 100 * int(self.attr[place, 1]),) * 3), None


def test_torchvisions_faces_are_read_from_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchvision.datasets.CelebA", Squares)
    (tmp_path / "celeba").mkdir()
    flags = ["--data", "torchvision:CelebA", "--size", "32", "--labelled", "8", "--seeds", "0", "--judge", "test"]
    also = ["--also", "torchvision:CelebA", "--also-target", "Smiling"]
    config = parse(["study", "celeba", *flags, *also, "--data-dir", str(tmp_path)])
    faces, other = open_faces(config)
    judged = faces[0].judged
    assert (len(judged), len(faces[0].persons.unique())) == (16, 8)
    assert torch.equal(judged.pixels[:, 0, 16, 16] > 150, judged.labels == 1)
    assert other is not None
    assert len(other) == 56
    photos = load("torchvision:CelebA", "Smiling", "identity", 32, tmp_path)
    cues = load_cues("torchvision:CelebA", "Male", photos, tmp_path)
    assert (cues.values.tolist(), cues.classes) == ([0, 0, 1, 1] * 10, ("not Male", "Male"))
    with pytest.raises(UserError, match=f"cannot be read from {tmp_path / 'elsewhere'}.*--data-dir"):
        open_faces(replace(config, data_dir=tmp_path / "elsewhere"))


def bench_of(config: CelebaConfig) -> Bench:
    images = ImageSet(torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.arange(2), ("a", "b"))
    return Bench(config, 0, Faces(images, images, images, torch.arange(2)))


def places(config: CelebaConfig) -> tuple[str, str]:
    bench = bench_of(config)
    return bench.home(ALL).name, bench.folder.name


def test_settings_have_folders_of_their_own_and_the_usual_ones_keep_their_names(tmp_path: Path) -> None:
    usual = CelebaConfig(cells=tmp_path)
    longer = replace(usual, train=replace(usual.train, epochs=20))
    stronger = replace(usual, search=replace(usual.search, steps=5))
    grid = replace(usual, fit=replace(usual.fit, grid_channels=4))
    home, folder = places(usual)
    assert folder == "celeba-Smiling-5000-seed0"
    assert home.endswith("-seed0")
    assert {places(config)[0] for config in (usual, longer, stronger)} == {home}
    assert places(grid)[0].startswith(f"{home}-")
    survival = usual.with_variant("survival")
    assert places(usual.with_variant("longer"))[0] == f"{home}-longer"
    assert re.fullmatch(f"{home}-survival-[0-9a-f]{{8}}", places(survival)[0])
    assert re.fullmatch(f"{places(grid)[0]}-survival-[0-9a-f]{{8}}", places(grid.with_variant("survival"))[0])
    assert len({places(config)[1] for config in (usual, longer, stronger, grid, survival)}) == 5
    assert survival.with_variant("base") == usual
    assert places(replace(usual, worst_steps=9, judge="test")) == (home, folder)


def test_layers_that_were_named_stay_named_under_another_variant() -> None:
    usual = CelebaConfig()
    named = replace(usual, search=replace(usual.search, perp=(4, 5)))
    assert usual.with_variant("vector").search.perp == (-4, -3, -2, -1)
    assert named.with_variant("vector").search.perp == (4, 5)
    assert named.with_variant("survival").search.perp == (4, 5)
    assert places(named.with_variant("survival"))[0] == places(usual.with_variant("survival"))[0]


@pytest.mark.parametrize(("variant", "is_taught"), [("base", False), ("longer", False), ("survival", True)])
def test_generators_that_learn_from_other_classifiers_are_kept_apart(variant: str, is_taught: bool) -> None:
    usual = CelebaConfig().with_variant(variant)
    longer = replace(usual, train=replace(usual.train, epochs=20))
    others = [usual, longer, replace(usual, target="Young"), replace(usual, labelled=100)]
    assert len({places(config)[0] for config in others}) == (4 if is_taught else 1)
