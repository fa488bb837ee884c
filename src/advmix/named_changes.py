"""Changes that have a name and a unit, without any generator: what each costs a classifier.

>>> rows = measure_changes(network, images, labels, seed=0)      # a dict per change, as JSON
>>> print(rows[0]["name"], rows[0]["strength_at_5_percent"], rows[0]["unit"])

Light and colour are changed as `torchvision.transforms.v2` does it, exposure and the colour of the light in linear
light (`advmix.linear_light`). What a change of place uncovers takes the nearest pixel of the image, not black.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from advmix.data.images import slices, to_bytes, to_float
from advmix.intervals import share_of
from advmix.linear_light import channel_gains, from_linear, to_linear
from advmix.utils.memory import RowBudget
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, eval_mode, generator, mistakes, probabilities

CHANGE_BATCH = 100
"""Images that are changed together; what is drawn at random depends on it."""

FEW_FLIPS = 0.05
"""Share of the right answers: the strength at which so many flip is a change's measure."""

Change = Callable[[Tensor, float, torch.Generator], Tensor]


@dataclass(frozen=True)
class NamedChange:
    """One change of images, at five strengths; a mirror has one.

    >>> darker = NAMED_CHANGES["darker"]
    >>> darker(images, 1.0)                     # half of the light

    Attributes:
        name: what it does to an image.
        unit: of its strengths, in words.
        strengths: from the weakest to the strongest.
        neutral: the strength that changes nothing.
        change: images `(B, C, H, W)` in [0, 1], a strength and a random generator on the CPU to images.
        colour: whether it is none of grey images.
    """

    name: str
    unit: str
    strengths: tuple[float, ...]
    neutral: float
    change: Change
    colour: bool = False

    def __call__(self, images: Tensor, strength: float, seed: int = 0, start: int = 0) -> Tensor:
        """Images changed, of the same shape, in [0, 1].

        Args:
            images: `(B, C, H, W)` in [0, 1], C being 1 or 3.
            strength: in `unit`.
            seed: fixes directions, places and noise, which are the same at every strength.
            start: place of the first image among all, in whose stead others are drawn.
        """
        return self.change(images, strength, generator(seed, "named change", self.name, start)).clamp(0, 1)

    def size(self, strength: float) -> float:
        """How far a strength is from the neutral one, in `unit`."""
        return abs(strength - self.neutral)

    def at(self, size: float) -> float:
        """The strength that is so far from the neutral one."""
        return self.neutral + (size if self.strengths[-1] > self.neutral else -size)


def expose(images: Tensor, stops: float) -> Tensor:
    """`2^stops` times the light."""
    return from_linear(to_linear(images) * 2**stops)


def light_up(images: Tensor, temperature: float, tint: float) -> Tensor:
    """The same scene in light of another colour, both in stops; grey keeps its luminance."""
    gains = channel_gains(*images.new_tensor([0, temperature, tint]))
    return from_linear(to_linear(images) * gains[:, None, None])


def either_way(count: int, rng: torch.Generator) -> Tensor:
    """1 or -1 for each image, drawn at random: `(count,)`."""
    return 2.0 * torch.randint(2, (count,), generator=rng) - 1


def turn_hue(images: Tensor, degrees: float, rng: torch.Generator) -> Tensor:
    """By an angle on the colour wheel, either way."""
    from torchvision.transforms.v2 import functional as v2

    ways, turned = either_way(len(images), rng), images.clone()
    for way in (-1, 1):
        turned[ways == way] = v2.adjust_hue(images[ways == way], way * degrees / 360)
    return turned


def blur(images: Tensor, percent: float) -> Tensor:
    """By a Gaussian whose standard deviation is so many percent of the shorter side."""
    from torchvision.transforms.v2 import functional as v2

    deviation = percent / 100 * min(images.shape[-2:])
    reach = min(max(1, round(3 * deviation)), min(images.shape[-2:]) - 1)
    blurred: Tensor = v2.gaussian_blur(images, [2 * reach + 1] * 2, [deviation] * 2)
    return blurred


def add_noise(images: Tensor, percent: float, rng: torch.Generator) -> Tensor:
    """Of every pixel by itself, of a standard deviation of so many percent of the range."""
    return images + percent / 100 * torch.randn(images.shape, generator=rng).to(images)


def compress(images: Tensor, quality: float) -> Tensor:
    """To JPEG and back, by Pillow."""
    return torch.stack([_compressed(image, round(quality)) for image in to_bytes(images).cpu()]).to(images)


def _compressed(pixels: Tensor, quality: int) -> Tensor:
    from torchvision.transforms.v2 import functional as v2

    file = io.BytesIO()
    v2.to_pil_image(pixels).save(file, "JPEG", quality=quality)
    return to_float(v2.pil_to_tensor(Image.open(file))[None])[0]


def resample(images: Tensor, matrices: Tensor, offsets: Tensor) -> Tensor:
    """Bilinear; what lies outside takes the nearest pixel.

    Args:
        images: `(B, C, H, W)`.
        matrices: `(B, 2, 2)`, from a place in the new image to one in the old, in half sides from the centre, x first.
        offsets: `(B, 2)`, added to it.
    """
    maps = torch.cat([matrices, offsets[..., None]], dim=2).to(images)
    grid = functional.affine_grid(maps, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def shift(images: Tensor, percent: float, rng: torch.Generator) -> Tensor:
    """By so many percent of the side: left, right, up or down."""
    ways = torch.stack([either_way(len(images), rng), torch.zeros(len(images))], dim=1)
    upright = torch.rand(len(images), 1, generator=rng) < 0.5
    offsets = 2 * percent / 100 * torch.where(upright, ways.flip(1), ways)
    return resample(images, torch.eye(2).expand(len(images), 2, 2), offsets)


def rotate(images: Tensor, degrees: float, rng: torch.Generator) -> Tensor:
    """About the centre, either way."""
    angles = either_way(len(images), rng) * np.deg2rad(degrees)
    height, width = images.shape[-2:]
    cosine, sine = angles.cos(), angles.sin()
    rows = [cosine, -sine * height / width, sine * width / height, cosine]
    return resample(images, torch.stack(rows, dim=1).view(-1, 2, 2), torch.zeros(len(images), 2))


def zoom(images: Tensor, factor: float) -> Tensor:
    """About the centre, as if seen from nearer (above 1) or from farther away, where edges are continued outwards."""
    from torchvision.transforms.v2 import functional as v2

    height, width = images.shape[-2:]
    if factor < 1:
        images = v2.resize(images, [max(1, round(factor * height)), max(1, round(factor * width))], antialias=True)
        across, down = width - images.shape[-1], height - images.shape[-2]
        sides = [across // 2, across - across // 2, down // 2, down - down // 2]
        return functional.pad(images, sides, mode="replicate")
    return resample(images, torch.eye(2).expand(len(images), 2, 2) / factor, torch.zeros(len(images), 2))


def crop(images: Tensor, percent: float, rng: torch.Generator) -> Tensor:
    """A part of so many percent of the sides, anywhere, made as large as the image."""
    part = percent / 100
    offsets = (1 - part) * (2 * torch.rand(len(images), 2, generator=rng) - 1)
    return resample(images, part * torch.eye(2).expand(len(images), 2, 2), offsets)


def by_torchvision(name: str, divisor: float = 1.0) -> Change:
    """A function of `torchvision.transforms.v2.functional` of images and a strength."""

    def change(images: Tensor, strength: float, _: torch.Generator) -> Tensor:
        from torchvision.transforms.v2 import functional as v2

        changed: Tensor = getattr(v2, name)(images, strength / divisor)
        return changed

    return change


STOPS = (0.25, 0.5, 1, 2, 3)
NAMED_CHANGES: Mapping[str, NamedChange] = {
    change.name: change
    for change in (
        NamedChange("darker", "stops", STOPS, 0, lambda x, s, _: expose(x, -s)),
        NamedChange("brighter", "stops", STOPS, 0, lambda x, s, _: expose(x, s)),
        NamedChange("less contrast", "× contrast", (0.8, 0.6, 0.4, 0.25, 0.1), 1, by_torchvision("adjust_contrast")),
        NamedChange("more contrast", "× contrast", (1.25, 1.5, 2, 3, 4), 1, by_torchvision("adjust_contrast")),
        NamedChange("gamma, darker", "power", (1.2, 1.5, 2, 3, 4), 1, by_torchvision("adjust_gamma")),
        NamedChange("gamma, brighter", "power", (0.85, 0.7, 0.5, 0.35, 0.25), 1, by_torchvision("adjust_gamma")),
        NamedChange("greyer", "× saturation", (0.8, 0.6, 0.4, 0.2, 0), 1, by_torchvision("adjust_saturation"), True),
        NamedChange(
            "more colourful", "× saturation", (1.25, 1.5, 2, 3, 4), 1, by_torchvision("adjust_saturation"), True
        ),
        NamedChange("hue", "degrees", (10, 30, 60, 120, 180), 0, turn_hue, True),
        NamedChange("warmer", "stops, red to blue", STOPS, 0, lambda x, s, _: light_up(x, s, 0), True),
        NamedChange("bluer", "stops, red to blue", STOPS, 0, lambda x, s, _: light_up(x, -s, 0), True),
        NamedChange("greener", "stops of green", STOPS, 0, lambda x, s, _: light_up(x, 0, s), True),
        NamedChange("pinker", "stops of green", STOPS, 0, lambda x, s, _: light_up(x, 0, -s), True),
        NamedChange("blur", "% of the side", (0.5, 1, 2, 3, 5), 0, lambda x, s, _: blur(x, s)),
        NamedChange("noise", "% of the range", (1, 2, 5, 10, 20), 0, add_noise),
        NamedChange("JPEG", "quality", (80, 50, 25, 10, 5), 100, lambda x, s, _: compress(x, s)),
        NamedChange("shift", "% of the side", (3, 6, 12, 18, 25), 0, shift),
        NamedChange("rotation", "degrees", (5, 10, 20, 30, 45), 0, rotate),
        NamedChange("nearer", "× size", (1.1, 1.25, 1.5, 2, 3), 1, lambda x, s, _: zoom(x, s)),
        NamedChange("farther", "× size", (0.9, 0.75, 0.6, 0.5, 0.35), 1, lambda x, s, _: zoom(x, s)),
        NamedChange("crop", "% of the side kept", (95, 90, 80, 65, 50), 100, crop),
        NamedChange("mirror", "left and right", (1,), 0, lambda x, _, __: x.flip(3)),
    )
}
"""By name, in the order of pages. Saturation 0 is greyscale. Hue and rotation turn either way and a shift goes any of
four ways, drawn at random for each image; a crop is anywhere. Of blur and noise the strength is a standard deviation.
"""


def changes_for(channels: int) -> list[NamedChange]:
    """Those that there are of images of one channel or three."""
    return [change for change in NAMED_CHANGES.values() if channels == 3 or not change.colour]


def measure_changes(
    network: nn.Module, images: Tensor, labels: Tensor, seed: int = 0, device: torch.device | None = None
) -> list[dict[str, Any]]:
    """What every named change costs a classifier, those first that flip its answers most easily.

    Args:
        network: images in [0, 1] to logits, `(B, C, H, W)` to `(B, K)`.
        images: `(N, C, H, W)`, in [0, 1] or uint8, in the size that the network is shown; C is 1 or 3.
        labels: `(N,)`, class indices, on any device.
        seed: fixes directions, places and noise.
        device: of the network; that of the images by default.

    Returns:
        For each change, as JSON values: `name`, `unit`, `neutral`; `images` and `right`, how many of them are answered
        rightly as they are; `unanswered`, how many are answered with what is no number at some strength; `strengths`,
        from the weakest, each with `strength` in the unit, `accuracy` of all images, and `flips`, the share of the
        right answers that it turns wrong (null where there are none; an answer that is no number is no flip),
        both with their Wilson intervals; `strength_at_5_percent`, where 5 % of the right
        answers flip, between two strengths by a line, null where no strength flips as many; and `example`, null or the
        `image`, `strength` and wrong `answer` of a flip: of the weakest strength that flips any, the answer that loses
        most of its probability.
    """
    labels, changes, budget = labels.cpu(), changes_for(images.shape[1]), RowBudget()
    with torch.no_grad(), eval_mode(network) as (model,), track("named changes", len(changes) + 1) as advance:

        def answer(shown: Tensor) -> Tensor:
            parts = budget.parts(lambda rows: probabilities(model(shown[rows])), len(shown), shown.device)
            return torch.cat(parts)

        def ask(change: Callable[[Tensor, int], Tensor]) -> Tensor:
            """Probabilities `(N, K)` after a change of images, the first of which has a place among all."""
            parts = slices(len(images), CHANGE_BATCH)
            return torch.cat([answer(change(_floats(images[part]).to(device), part.start)) for part in parts])

        plain = ask(lambda batch, _: batch)
        advance(1, "")
        rows = []
        for change in changes:
            asked = [ask(partial(_changed, change, strength, seed)) for strength in change.strengths]
            rows.append(_change_row(change, plain, asked, labels))
            advance(1, change.name)
    return sorted(rows, key=_difficulty)


def changed_example(row: Mapping[str, Any], images: Tensor, seed: int = 0) -> Tensor:
    """The example of a row of `measure_changes` after the change, `(C, H, W)` in [0, 1].

    Args:
        row: whose `example` is not null.
        images: those that were measured.
        seed: of the measurement.
    """
    place, strength = row["example"]["image"], row["example"]["strength"]
    start = place // CHANGE_BATCH * CHANGE_BATCH
    batch = _floats(images[start : start + CHANGE_BATCH])
    return NAMED_CHANGES[row["name"]](batch, strength, seed, start)[place - start]


def flips_at(row: Mapping[str, Any], strength: float) -> float | None:
    """The share of the right answers that a change flips at any strength, by lines between those that were measured;
    beyond the strongest its share. None where there were no right answers.

    Args:
        row: of `measure_changes`.
        strength: in its unit.
    """
    if row["right"] == 0:
        return None
    sizes, flips = _flip_curve(row)
    return float(np.interp(NAMED_CHANGES[row["name"]].size(strength), sizes, flips))


def _floats(images: Tensor) -> Tensor:
    return images if images.is_floating_point() else to_float(images)


def _changed(change: NamedChange, strength: float, seed: int, images: Tensor, start: int) -> Tensor:
    return change(images, strength, seed, start)


def _change_row(change: NamedChange, plain: Tensor, asked: Sequence[Tensor], labels: Tensor) -> dict[str, Any]:
    right = answers(plain) == labels
    measured, unanswered = [], torch.zeros(len(labels), dtype=torch.bool)
    for strength, found in zip(change.strengths, asked, strict=True):
        seen = answers(found)
        unanswered |= seen < 0
        accuracy, flips = share_of(seen == labels), share_of(mistakes(seen, labels), right)
        measured.append(
            {
                "strength": strength,
                "accuracy": accuracy and accuracy.to_dict(),
                "flips": flips and flips.to_dict(),
            }
        )
    row: dict[str, Any] = {
        "name": change.name,
        "unit": change.unit,
        "neutral": change.neutral,
        "images": len(labels),
        "right": int(right.sum()),
        "unanswered": int(unanswered.sum()),
        "strengths": measured,
    }
    row["strength_at_5_percent"] = _strength_of_few(row)
    return row | {"example": _example(change, plain, asked, labels)}


def _example(change: NamedChange, plain: Tensor, asked: Sequence[Tensor], labels: Tensor) -> dict[str, Any] | None:
    right, of_label = answers(plain) == labels, labels[:, None]
    for strength, found in zip(change.strengths, asked, strict=True):
        flipped = right & mistakes(answers(found), labels)
        if flipped.any():
            lost = (plain - found).gather(1, of_label)[:, 0]
            image = int(torch.where(flipped, lost, -torch.inf).argmax())
            return {"image": image, "strength": strength, "answer": int(answers(found)[image])}
    return None


def _flip_curve(row: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Sizes from nothing up, and shares of flips that never fall: the running maximum."""
    size = NAMED_CHANGES[row["name"]].size
    sizes = [0.0, *(size(one["strength"]) for one in row["strengths"])]
    flips = np.maximum.accumulate([0.0, *(one["flips"]["value"] for one in row["strengths"])])
    return sizes, flips.tolist()


def _strength_of_few(row: Mapping[str, Any]) -> float | None:
    """Where the share of flips first reaches `FEW_FLIPS`; of a mirror, which has one strength, that or None."""
    if not row["right"]:
        return None
    change, (sizes, flips) = NAMED_CHANGES[row["name"]], _flip_curve(row)
    if flips[-1] < FEW_FLIPS:
        return None
    if len(sizes) == 2:
        return change.strengths[0]
    return change.at(float(np.interp(_reached(flips), range(len(sizes)), sizes)))


def _reached(flips: Sequence[float]) -> float:
    """Of shares that never fall: the place among them, counted from 0, where they reach `FEW_FLIPS`."""
    place = next(place for place, share in enumerate(flips) if share >= FEW_FLIPS)
    low, high = flips[place - 1], flips[place]
    return place - 1 + (FEW_FLIPS - low) / (high - low)


def _difficulty(row: Mapping[str, Any]) -> tuple[float, float]:
    """Small where answers flip easily: how many of the strengths it takes, of a mirror one; then, how few flip at the
    strongest.
    """
    if not row["right"]:
        return float("inf"), 0.0
    flips = _flip_curve(row)[1]
    if flips[-1] < FEW_FLIPS:
        return float("inf"), -flips[-1]
    return (_reached(flips) if len(flips) > 2 else 1.0), -flips[-1]


def unanswered_words(changes: Sequence[Mapping[str, Any]]) -> str:
    """What a reader must know of answers that are no numbers; nothing where there are none.

    Args:
        changes: of `measure_changes`.
    """
    broken = [row for row in changes if row["unanswered"]]
    if not broken:
        return ""
    most = max(broken, key=lambda row: int(row["unanswered"]))
    return (
        f"Under {len(broken):,} of the {len(changes):,} changes some answers are no number (NaN or infinite), most "
        f"under “{most['name']}” ({most['unanswered']:,} of {most['images']:,} images): there it is not right, and "
        "this counts as no flip."
    )
