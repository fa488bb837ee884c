"""A network of another's, tried on noise before it is asked about images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from advmix.classifiers.answers import Answer
from advmix.classifiers.found import blame
from advmix.classifiers.wrapper import Classifier
from advmix.errors import UserError
from advmix.seeds import generator

IMAGES = 6
SIDE = 64
"""Of the images, where nothing says what it will be asked about."""
ROUNDING = {torch.float16: 1e-2, torch.bfloat16: 3e-2}
"""How far from one the sum of probabilities may be, by type; else a thousandth."""

SPREAD = 0.5
"""Of answers that are several probabilities; logits of a network without training may be in [0, 1] too, but close."""


class FailedError(UserError):
    """A network raises something of its own."""


@dataclass(frozen=True, eq=False)
class Trial:
    """What became of it.

    Attributes:
        outputs: of the network itself, K >= 1.
        differentiable: whether gradients reach the images.
        notes: what else a person should know.
    """

    outputs: int
    differentiable: bool
    notes: tuple[str, ...] = ()


def noise(network: Classifier, image: tuple[int, int, int] | None) -> Tensor:
    """Images to try a network on, `(B, C, H, W)`: of what it will be asked about, or else as it wants them."""
    height, width = (network.size, network.size) if isinstance(network.size, int) else network.size or (SIDE, SIDE)
    shape = (IMAGES, *(image or (network.channels or 3, height, width)))
    return torch.rand(shape, generator=generator(0, "classifier", "trial"))


def tried(network: Classifier, name: str, images: Tensor) -> Trial:
    """Ask a network about all images, about one of them, and about all again.

    Raises:
        UserError: it raises (`FailedError`), or answers with something else than scores, or not always alike.
    """
    found, differentiable = _asked(network, name, images)
    scores = found.scores
    if not scores.isfinite().all():
        raise UserError(f"{name}: answers are not finite; are these its weights?")
    if (
        scores.shape[1] == 1
        and not differentiable
        and torch.equal(scores, scores.round())
        and scores.unique().numel() > 1
    ):
        raise UserError(f"{name}: answers with whole numbers: classes, not their scores; let it return its logits")
    with torch.no_grad():
        one, again = (_ask(network, name, part).scores.to(images) for part in (images[:1], images))
    if one.shape[1] != scores.shape[1]:
        raise UserError(f"{name}: has {scores.shape[1]} outputs for {len(images)} images and {one.shape[1]} for one")
    notes = [found.note] if found.note else []
    if again.shape != scores.shape or not torch.allclose(scores, again, rtol=1e-3, atol=1e-4):
        notes.append("answers vary from call to call")
    return Trial(scores.shape[1], differentiable, tuple(notes))


def _asked(network: Classifier, name: str, images: Tensor) -> tuple[Answer, bool]:
    """The answer, and whether gradients reach the images; a network that bears none is asked without."""
    watched = images.clone().requires_grad_()
    try:
        with torch.enable_grad():
            found = _ask(network, name, watched)
            reached = _has_gradient(found.scores, watched)
        return Answer(found.scores.detach().to(images), found.note), reached
    except FailedError as error:
        try:
            with torch.no_grad():
                found = _ask(network, name, images)
            return Answer(found.scores.to(images), found.note), False
        except FailedError:
            raise error from error.__cause__


def _ask(network: Classifier, name: str, images: Tensor) -> Answer:
    """The answer, or one line that says what is wrong."""
    try:
        return network.ask(images)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    except (Exception, SystemExit) as error:
        size = "; if it wants another size, say so with --input-size" if network.size is None else ""
        _, channels, height, width = network.shown(images).shape
        raise FailedError(
            f"{name}: fails on images of {height}x{width} pixels and {channels} channels: {blame(error)}{size}"
        ) from error


def _has_gradient(scores: Tensor, images: Tensor) -> bool:
    """Whether one reaches the images that says something: of zero it does not. Outputs are weighed unequally, because
    the probabilities of a softmax always add up to one.
    """
    if not scores.requires_grad:
        return False
    weights = torch.arange(1, scores[0].numel() + 1).view(scores[0].shape).to(scores)
    try:
        (gradient,) = torch.autograd.grad((scores * weights).sum(), images, allow_unused=True)
    except RuntimeError:
        return False
    return gradient is not None and bool(gradient.isfinite().all() and gradient.any())


@torch.no_grad()
def find_probabilities(network: Classifier, images: Tensor) -> None:
    """Find out whether a network ends in a softmax or sigmoids, and let the wrapper make logits of these.

    Probabilities leave [0, 1] on no image: neither on noise, nor on black and white, nor on noise so strong that a
    logit would.
    """
    centred = 2 * images - 1
    plain = network.scores(images)
    slack = ROUNDING.get(network.ask(images).scores.dtype, 1e-3)
    if plain.shape[1] > 1 and plain.min() >= 0 and ((plain.sum(dim=1) - 1).abs() < slack).all():
        network.probabilities = True
        return
    strong = [torch.zeros_like(images), torch.ones_like(images), 30 * centred, -30 * centred, 1000 * centred]
    try:
        answers = torch.cat([plain, *map(network.scores, strong)])
    except Exception:  # a network may refuse what is no image; then nothing is known, and logits are the rule
        return
    within = bool(((answers >= 0) & (answers <= 1)).all() and answers.any())
    network.probabilities = within and plain.shape[1] == 1
    network.independent = within and plain.shape[1] > 1 and bool(answers.max() - answers.min() > SPREAD)
