"""Pictures of free photographs, made changes of them, and what styles alone carry of these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from advmix.encoders.autoencoder import Autoencoder
from experiments.learned_style.made_changes import FAMILIES
from experiments.learned_style.reproduction import mixes

SHOWN = ("gamma 2", "coloured background", "grey foreground", "light from the left", "blur")


def draw_reproductions(models: Mapping[str, Autoencoder], images: Tensor, path: Path) -> None:
    """A row for each of some changes: an image, the changed image, and the image with the changed one's styles.

    Args:
        models: by name.
        images: `(B, 3, H, W)` in [0, 1], one for each row in turn.
        path: of the PNG.
    """
    changes = {name: change for family in FAMILIES.values() for name, change in family.items() if name in SHOWN}
    heads = ["photograph", "changed", *models]
    figure = Figure(figsize=(1.1 * len(heads), 1.25 * len(changes)), layout="constrained")
    axes = figure.subplots(len(changes), len(heads))
    for row, (name, change) in enumerate(changes.items()):
        image = images[row % len(images)][None]
        changed = change(image).clamp(0, 1)
        shown = [image, changed, *(mixes(model, image, changed) for model in models.values())]
        for axis, head, picture in zip(axes[row], heads, shown, strict=True):
            axis.imshow(picture[0].permute(1, 2, 0).clamp(0, 1).numpy())
            axis.set(xticks=[], yticks=[])
            if row == 0:
                axis.set_title(head.replace("statistics:", "").replace(":", "\n"), fontsize=7)
        axes[row][0].set_ylabel(name.replace(" ", "\n", 1), fontsize=7)
    figure.savefig(path, dpi=80)
