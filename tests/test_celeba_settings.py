"""What the settings of the face studies make of each other. Nothing is trained."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advmix.cli import parse
from advmix.errors import UserError
from advmix.studies.celeba.settings import CelebaConfig
from advmix.training.autoencode import style_shape
from advmix.training.methods import SearchOptions

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
