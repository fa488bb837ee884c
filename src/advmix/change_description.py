"""What changed between two pictures: exposure, contrast, saturation and the colour of the light.

>>> description = describe_changes(before, after)
>>> description.exposure, description.explained          # stops, and how much of the change the five terms explain

The model is the chain of named changes (`advmix.named_changes`): gains of the channels in linear light, then contrast
about the mean grey, then saturation about the grey of each pixel. Its five numbers minimise the squared difference in
linear light; least squares by Levenberg and Marquardt (Marquardt, "An algorithm for least-squares estimation of
nonlinear parameters", 1963).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from advmix.classifiers.wrapper import LUMA
from advmix.linear_light import KNEE, OFFSET, POWER, SLOPE, channel_gains, from_linear, light_terms, to_linear
from advmix.utils.torch_tools import eval_mode

FITTED_SIDE = 32
"""Pixels across and down, at most, that the fit looks at: a regular part of a larger image."""

FIT_STEPS, SMALL_STEP = 12, 1e-4
"""At most; and the fit ends where no number moves by more."""

PRIOR = 1e-5
"""What a stop, or a factor more by 1, costs in the fit, as a share of the mean squared light: terms of which an image
says nothing, like the saturation of a grey one, stay as they are."""

CLIPPED = 0.5 / 255
"""So near to black or white a pixel's value is unknown, and its part of the fit is left out."""

DESCRIBED_TOGETHER = 500
"""Images in memory at once, 60 kB each."""

TERMS = ("exposure", "contrast", "saturation", "temperature", "tint")
PARTS = (*TERMS, "other")
"""In the order of `ChangeDescription.effects`; the last is what the terms do not explain."""

DOUBLE = 2
"""Of the effect on pixels of what is not explained: to an unrelated picture the terms explain about a half, by taking
away the contrast of the old one, and yet nothing of what changed."""


@dataclass(frozen=True, eq=False)
class ChangeDescription:
    """What changed in N images, `(N,)` each but for the effects.

    Attributes:
        exposure: light of a grey pixel, in stops; one less is half of it.
        contrast: factor about the mean grey, as `v2.functional.adjust_contrast` has it.
        saturation: factor about each pixel's grey, as `v2.functional.adjust_saturation` has it; 1 for grey images.
        temperature: red against blue, in stops of linear light; below 0 is bluer. 0 for grey images.
        tint: green against red and blue, in stops; below 0 is pinker. 0 for grey images.
        explained: share of the squared change in linear light that these five make, in [0, 1]; 1 where nothing changed.
        effects: `(N, 6)`, how much each of `PARTS` does. To pixels: the root mean square by which it alone changes
            them, in [0, 1], counted double for what is not explained. To a classifier (`describe_flips`): by how many
            logits it lifts the best wrong class against the label, the mean of what it does alone and of what is
            missing without it.
    """

    exposure: Tensor
    contrast: Tensor
    saturation: Tensor
    temperature: Tensor
    tint: Tensor
    explained: Tensor
    effects: Tensor

    def __len__(self) -> int:
        return len(self.explained)

    def __getitem__(self, index: Tensor | slice) -> ChangeDescription:
        return ChangeDescription(*(getattr(self, part.name)[index] for part in fields(self)))

    def to_tensor(self) -> Tensor:
        """All numbers of each change, `(N, 12)`."""
        plain = torch.stack([getattr(self, part.name) for part in fields(self)[:-1]], dim=1)
        return torch.cat([plain, self.effects], dim=1)

    @staticmethod
    def from_tensor(numbers: Tensor) -> ChangeDescription:
        """The inverse of `to_tensor`."""
        names = [part.name for part in fields(ChangeDescription)[:-1]]
        plain = dict(zip(names, numbers[:, : len(names)].unbind(1), strict=True))
        return ChangeDescription(**plain, effects=numbers[:, len(names) :])

    @staticmethod
    def cat(parts: Sequence[ChangeDescription]) -> ChangeDescription:
        """All of them, one after the other."""
        names = [part.name for part in fields(ChangeDescription)]
        return ChangeDescription(*(torch.cat([getattr(one, name) for one in parts]) for name in names))

    def to_dict(self, row: int) -> dict[str, float]:
        """Of one image, as it goes into `results.json`."""
        return {name: float(getattr(self, name)[row]) for name in (*TERMS, "explained")}


def describe_changes(before: Tensor, after: Tensor) -> ChangeDescription:
    """The change of light, contrast and colour that explains the difference of two pictures best; on the CPU.

    Args:
        before: `(N, C, H, W)` in [0, 1], C being 1 or 3.
        after: of the same shape. What is black or white there is left out of the fit.
    """
    parts = zip(before.split(DESCRIBED_TOGETHER), after.split(DESCRIBED_TOGETHER), strict=True)
    return ChangeDescription.cat([_describe_part(_looked_at(first), _looked_at(second)) for first, second in parts])


def _looked_at(images: Tensor) -> Tensor:
    """`(B, C, P)`: at most `FITTED_SIDE` pixels across and down, evenly spaced."""
    down, across = (-(-length // FITTED_SIDE) for length in images.shape[-2:])
    return images.detach().cpu().float()[:, :, ::down, ::across].flatten(2)


@torch.no_grad()
def _describe_part(before: Tensor, after: Tensor) -> ChangeDescription:
    light, wanted = to_linear(before), to_linear(after)
    known = ((after > CLIPPED) & (after < 1 - CLIPPED)).float()
    numbers = _fit(light, wanted, known)
    log_gains, contrast, saturation = numbers[:, :-2], numbers[:, -2], numbers[:, -1]
    terms = dict(zip(("exposure", "temperature", "tint"), light_terms(log_gains.exp2()), strict=True))
    terms |= {"contrast": contrast, "saturation": saturation}
    drawn = _drawn(light, numbers)
    left = (to_linear(drawn) - wanted).square().sum(dim=(1, 2))
    change = (wanted - light).square().sum(dim=(1, 2))
    explained = torch.where(change > 0, 1 - left / change.clamp_min(1e-30), 1.0).clamp(0, 1)
    moved = [_drawn(light, _numbers(terms, {name}, light.shape[1])) - before for name in TERMS]
    effects = torch.stack([part.square().mean(dim=(1, 2)).sqrt() for part in (*moved, DOUBLE * (after - drawn))], dim=1)
    return ChangeDescription(**terms, explained=explained, effects=effects)


def describe_flips(network: nn.Module, labels: Tensor, before: Tensor, after: Tensor) -> ChangeDescription:
    """The same, with the effects on a classifier of the changes that flip its right answers: on pixels, a change of
    light is large, and may be nothing to it.

    Args:
        network: images in [0, 1] to logits `(N, K)`, on the device of the images.
        labels: `(N,)`, class indices, on the device.
        before: `(N, C, H, W)` in [0, 1], in the size that the network is shown.
        after: of the same shape.
    """
    described = describe_changes(before, after)
    with torch.no_grad(), eval_mode(network) as (model,):
        flips = ((margins(model(before), labels) < 0) & (margins(model(after), labels) >= 0)).cpu()
        if flips.any():
            rows = flips.to(before.device)
            found = _effects_on(model, labels[rows], before[rows], after[rows], described[flips])
            described.effects[flips] = found.to(described.effects).nan_to_num(0, 0, 0)
    return described


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the best wrong class is above the label, `(B, K)` and `(B,)` to `(B,)`."""
    wrong = logits.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return wrong - logits.gather(1, labels[:, None])[:, 0]


def _effects_on(
    model: nn.Module, labels: Tensor, before: Tensor, after: Tensor, described: ChangeDescription
) -> Tensor:
    """The effects on a classifier, `(B, 6)`."""
    terms = {name: getattr(described, name).to(before) for name in TERMS}
    light = to_linear(before).flatten(2)

    def drawn(parts: Set[str]) -> Tensor:
        return _drawn(light, _numbers(terms, parts, before.shape[1])).view_as(before)

    rest = after - drawn({*TERMS})

    def reached(parts: Set[str]) -> Tensor:
        made = drawn(parts) + rest if "other" in parts else drawn(parts)
        return margins(model(made.clamp(0, 1)), labels)

    nothing, whole = reached(set()), reached({*PARTS})
    return torch.stack([(reached({part}) - nothing + whole - reached({*PARTS} - {part})) / 2 for part in PARTS], dim=1)


NEUTRAL = {"exposure": 0.0, "contrast": 1.0, "saturation": 1.0, "temperature": 0.0, "tint": 0.0}
"""Values of the terms that change nothing."""


def _numbers(terms: Mapping[str, Tensor], parts: Set[str], channels: int) -> Tensor:
    """The numbers of the model, `(B, C + 2)`, where no other terms change anything."""
    kept = {name: terms[name] if name in parts else torch.full_like(terms[name], NEUTRAL[name]) for name in TERMS}
    if channels == 1:
        log_gains = kept["exposure"][:, None]
    else:
        log_gains = channel_gains(kept["exposure"], kept["temperature"], kept["tint"]).log2()
    return torch.cat([log_gains, kept["contrast"][:, None], kept["saturation"][:, None]], dim=1)


def _drawn(light: Tensor, numbers: Tensor) -> Tensor:
    """Pixels in [0, 1] after a change."""
    return _predict(light, numbers)[0].clamp(0, 1)


def _predict(light: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The model.

    Args:
        light: linear, before the change, `(B, C, P)`.
        numbers: `log2` of the gains of the channels, factors of contrast and saturation, `(B, C + 2)`.

    Returns:
        Pixels after the change, not clipped; pixels after the gains; the grey of these, `(B, 1, P)`; its mean.
    """
    gains, contrast, saturation = numbers[:, :-2], numbers[:, -2, None, None], numbers[:, -1, None, None]
    exposed = from_linear(light * gains.exp2()[..., None])
    grey = (exposed * _luma(light)[:, None]).sum(dim=1, keepdim=True)
    mean = grey.mean(dim=2, keepdim=True)
    colour = grey + saturation * (exposed - grey)
    return mean + contrast * (colour - mean), exposed, grey, mean


def _luma(light: Tensor) -> Tensor:
    return light.new_tensor(LUMA if light.shape[1] == 3 else (1.0,))


def _fit(light: Tensor, wanted: Tensor, known: Tensor) -> Tensor:
    """The numbers of the model, `(B, C + 2)`, that bring `light` nearest to `wanted` where it is `known`; all
    `(B, C, P)`.
    """
    channels, count = light.shape[1], known.sum(dim=(1, 2)).clamp_min(1)
    prior = PRIOR * ((wanted * known).square().sum(dim=(1, 2)) / count).clamp_min(1e-8)
    neutral = torch.cat([light.new_zeros(len(light), channels), light.new_ones(len(light), 2)], dim=1)
    means = [(part * known).sum(dim=2).clamp_min(1e-6) for part in (wanted, light)]
    start = neutral.clone()
    start[:, :channels] = (means[0] / means[1]).log2().clamp(-8, 8)
    found, trial = neutral, start
    loss = torch.full_like(count, torch.inf)
    damping, system = torch.full_like(count, 1e-3), None
    for _ in range(FIT_STEPS):
        off, slopes = _residual_and_slopes(light, wanted, known, trial)
        cost = off.square().sum(dim=(1, 2)) / count + prior * (trial - neutral).square().sum(dim=1)
        better = cost < loss
        matrix = torch.einsum("bkcp,blcp->bkl", slopes, slopes) / count[:, None, None]
        down = torch.einsum("bkcp,bcp->bk", slopes, off) / count[:, None] + prior[:, None] * (trial - neutral)
        matrix = matrix + torch.diag_embed(prior[:, None].expand(-1, channels + 2))
        system = (matrix, down) if system is None else _chosen(better, (matrix, down), system)
        found, loss = torch.where(better[:, None], trial, found), torch.where(better, cost, loss)
        damping = torch.where(better, damping / 10, damping * 10).clamp(1e-7, 1e3)
        damped = system[0] + torch.diag_embed(damping[:, None] * system[0].diagonal(dim1=1, dim2=2))
        trial = _bounded(found - torch.linalg.solve(damped, system[1]))
        if ((trial - found).abs() < SMALL_STEP).all():
            break
    return found


def _chosen(first: Tensor, ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return (
        torch.where(first[:, None, None], ours[0], theirs[0]),
        torch.where(first[:, None], ours[1], theirs[1]),
    )


def _bounded(numbers: Tensor) -> Tensor:
    """Gains of at most eight stops, factors from 0 to 10."""
    return torch.cat([numbers[:, :-2].clamp(-8, 8), numbers[:, -2:].clamp(0, 10)], dim=1)


def _residual_and_slopes(light: Tensor, wanted: Tensor, known: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor]:
    """What is left in linear light, `(B, C, P)`, and how it moves with each number, `(B, C + 2, C, P)`."""
    pixels, exposed, grey, mean = _predict(light, numbers)
    reached, luma = to_linear(pixels), _luma(light)
    per_pixel = known * torch.where(pixels > KNEE, POWER * reached / (pixels + OFFSET), 1 / SLOPE)
    contrast, saturation = numbers[:, -2, None, None], numbers[:, -1, None, None]
    per_stop = math.log(2) * torch.where(exposed > KNEE, (exposed + OFFSET) / POWER, exposed)
    slopes = []
    for channel, weight in enumerate(luma):
        moved = per_stop[:, channel, None]
        slope = (1 - contrast) * weight * moved.mean(dim=2, keepdim=True) + contrast * (1 - saturation) * weight * moved
        slope = slope.expand_as(light).clone()
        slope[:, channel] += (contrast * saturation * moved)[:, 0]
        slopes.append(slope)
    slopes.append(grey + saturation * (exposed - grey) - mean)
    slopes.append(contrast * (exposed - grey))
    return known * (reached - wanted), torch.stack(slopes, dim=1) * per_pixel[:, None]
