"""Attacks as functions `(model, x, y) -> x`: our search among them, and to foolbox and back.

>>> attack = MixAttack(AdvMix(model.generator, model.split, restarts=5, steps=5), model)
>>> worse = attack(model, images, labels)              # images in [0, 1], and so is what comes back
>>> attack = FoolboxAttack(foolbox.attacks.LinfPGD(), epsilon=8 / 255)
>>> to_foolbox(mix_attack)(fmodel, images, labels, epsilons=None)
"""

from __future__ import annotations

import functools
import inspect
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from advmix.candidates import Loss
from advmix.data.images import ImageSet, slices
from advmix.encoders.network import Encoder
from advmix.latents import Latents
from advmix.mixing import Mixer, calibrated, cross_entropy
from advmix.utils.errors import UserError, blame
from advmix.utils.memory import RowBudget
from advmix.utils.progress import track
from advmix.utils.torch_tools import answers, derive, eval_mode, frozen, global_seed

Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]

"""A classifier (images in [0, 1] to logits), images `(B, C, H, W)` in [0, 1] and labels `(B,)` to images of the same
shape and range that the classifier may get wrong.
"""


class EncodedPool(Protocol):
    """Latents that are borrowed, and the encoder that made them: a `FittedModel`, or anything that has both. Without
    latents the images of a batch are each other's donors.
    """

    @property
    def encoder(self) -> Encoder: ...

    @property
    def pool(self) -> Latents | None: ...


@dataclass(frozen=True, eq=False, repr=False)
class MixAttack:
    """A mixer's search as an attack: encode, look for the worst `z⊥` of the pool, decode.

    It is bounded by what other images show, not by a distance in pixels: the attacked image may lie far from the
    original. Search images that are not in the pool, or an image may be given its own `z⊥`.

    Args:
        mixer: the search, with the generator; `RandMix` for a random mix.
        model: with the pool whose `z⊥` are borrowed, and the encoder that made it, as `advmix.load` has them;
            networks, pool and images are on one device.
        residual: whether the mix keeps what the generator cannot draw of the image.
        rng: CPU random generator of the donors; torch's global one when None.
        loss: logits and labels to `(B,)`, which is climbed; by default `advmix.mixing.calibrated` on the images.
    """

    mixer: Mixer
    model: EncodedPool
    residual: bool = True
    rng: torch.Generator | None = None
    loss: Loss | None = None

    def __repr__(self) -> str:
        return f"MixAttack({self.mixer!r}, residual={self.residual})"

    @torch.no_grad()
    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Attack`.

        Raises:
            ValueError: the images are of another size than the generator's.
        """
        dec = self.mixer.generator
        shape = tuple(images.shape[1:]) if dec.any_size else (dec.channels, dec.resolution, dec.resolution)
        if images.shape[1:] != shape:
            raise ValueError(f"images are {tuple(images.shape[1:])}, but the generator draws {shape}")
        with eval_mode(self.model.encoder) as (encoder,):
            latents = encoder(images)
        pool, exclude = self.model.pool, None
        if pool is None:
            pool, exclude = latents, torch.arange(len(latents))
        if self.residual:
            latents = dec.complete(latents, images)
        judge = model if self.mixer.needs_classifier else None
        loss = cross_entropy if judge is None else self.loss or calibrated(judge, images)
        return self.mixer(judge, latents, labels, pool, loss=loss, rng=self.rng, exclude=exclude).images


@dataclass(frozen=True)
class FoolboxAttack:
    """An attack of foolbox in our shape.

    Args:
        attack: an instance, `foolbox.attacks.LinfPGD(steps=20)`.
        epsilon: radius in the attack's norm, pixels in [0, 1]; None where the attack looks for the smallest change.
    """

    attack: Any
    epsilon: float | None = None

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `Attack`."""
        with eval_mode(model) as (inner,):
            target = import_foolbox().PyTorchModel(inner, bounds=(0, 1), device=images.device)
            attacked: Tensor = self.attack(target, images, labels, epsilons=self.epsilon)[1]
        return attacked


def to_foolbox(attack: Attack) -> Any:
    """Any attack of our shape as one of foolbox (`MinimizationAttack`, l∞), for evaluation code that is written so.

    It knows no radius: with `epsilons=None` its images count as they are; with a number foolbox clips them to it.
    The criterion is misclassification. The foolbox model may have any bounds.
    """
    foolbox = import_foolbox()

    class FromCallable(foolbox.attacks.base.MinimizationAttack):  # type: ignore[misc, name-defined]
        distance = foolbox.distances.linf

        def __init__(self) -> None:
            self.attack = attack

        def run(self, model: Any, inputs: Any, criterion: Any, *, early_stop: Any = None, **kwargs: Any) -> Any:
            foolbox.attacks.base.raise_if_kwargs(kwargs)
            if not isinstance(criterion := foolbox.attacks.base.get_criterion(criterion), foolbox.Misclassification):
                raise ValueError(f"{attack!r} looks for any wrong class, not for {criterion!r}")
            low, high = model.bounds
            images = (inputs - low) / (high - low)
            found = attack(_Plain(model.transform_bounds((0, 1))), images.raw, criterion.labels.raw)
            return foolbox.attacks.base.ep.astensor(found * (high - low) + low)

    return FromCallable()


class _Plain(nn.Module):
    """A foolbox model as a module; its network's mode is its owner's business."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Images in [0, 1] to logits."""
        logits: Tensor = self.model(images)
        return logits


def import_foolbox() -> Any:
    """The package, imported without its warnings about other packages' futures.

    Raises:
        UserError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import foolbox
            import foolbox.attacks.base
    except ImportError as error:
        raise UserError("foolbox is not installed; pip install 'advmix[attacks]'") from error
    return foolbox


ATTACKED_TOGETHER = 250
"""Images that an attack is given at once, under one seed, where memory is no matter."""

SLACK = 1e-4

"""How far rounding may carry pixels out of [0, 1]."""


@dataclass(frozen=True)
class AttackOptions:
    """An attack that is not ours, tried on the images as they are.

    Args:
        attack: `foolbox:LinfPGD`, any attack of foolbox (an extra), or `package.module:name` of a callable
            `(model, x, y) -> x`, images in [0, 1]; default none.
        attack_args: its settings as a JSON object, `{"epsilon": 0.03, "steps": 20}`: a class is built with them, a
            function is called with them. `epsilon` is the radius of foolbox's attacks.
    """

    attack: str | None = None
    attack_args: str = ""

    def __post_init__(self) -> None:
        if self.attack is None and self.attack_args:
            raise UserError(f"--attack-args {self.attack_args}: goes together with --attack")
        if self.attack is not None and not all(self.attack.partition(":")):
            raise UserError(f"--attack {self.attack}: write foolbox:NAME or package.module:name")


def open_attack(options: AttackOptions) -> Attack | None:
    """The attack that is named; None where none is.

    Raises:
        UserError: no such module or name, or settings that it does not take.
    """
    if options.attack is None:
        return None
    place, _, name = options.attack.partition(":")
    settings = _settings(options.attack_args)
    try:
        return _of_foolbox(name, settings) if place == "foolbox" else _of_module(place, name, settings)
    except (TypeError, ValueError) as error:
        given = f" --attack-args '{options.attack_args}'" if options.attack_args else ""
        raise UserError(f"--attack {options.attack}{given}: {error}") from error


def _settings(text: str) -> dict[str, Any]:
    try:
        settings = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise UserError(f"--attack-args '{text}': not JSON ({error})") from error
    if not isinstance(settings, dict):
        raise UserError(f"--attack-args '{text}': must be a JSON object, such as {{\"epsilon\": 0.03}}")
    return settings


def _of_foolbox(name: str, settings: dict[str, Any]) -> Attack:
    foolbox = import_foolbox()
    kind = getattr(foolbox.attacks, name, None)
    if not inspect.isclass(kind):
        raise ValueError("foolbox has no attack of this name")
    epsilon = settings.pop("epsilon", None)
    attack = kind(**settings)
    if epsilon is None and not isinstance(attack, foolbox.attacks.base.MinimizationAttack):
        raise ValueError("needs its radius, --attack-args '{\"epsilon\": 0.03}'")
    return FoolboxAttack(attack, None if epsilon is None else float(epsilon))


def _of_module(place: str, name: str, settings: dict[str, Any]) -> Attack:
    from advmix.classifiers.zoo import import_own

    try:
        found: Any = getattr(import_own(place), name, None)
    except Exception as error:
        raise ValueError(f"cannot be imported: {blame(error)}") from error
    if not callable(found):
        raise ValueError(f"{place} has no callable {name}")
    if inspect.isclass(found):
        found, settings = found(**settings), {}
    inspect.signature(found).bind(None, None, None, **settings)
    attack: Attack = functools.partial(found, **settings) if settings else found
    return attack


def right_attacked(
    classifier: nn.Module, attack: Attack, images: ImageSet, device: torch.device, *, seed: int = 0
) -> Tensor:
    """Whether each of N images is classified rightly, as it is *and* under the attack: `(N,)` booleans on the CPU.

    Args:
        classifier: images in [0, 1] to logits, on `device`.
        attack: what is tried.
        images: as they are.
        device: of the classifier.
        seed: of torch's random numbers, which attacks draw from.

    Raises:
        UserError: the attack raises, or returns something else than images in [0, 1].
    """
    right, budget = [], RowBudget(ATTACKED_TOGETHER)
    with track("attack", len(images)) as advance:
        for part in slices(len(images), ATTACKED_TOGETHER):
            x, labels = (tensor.to(device) for tensor in images.batch(part))
            right.append(right_in_parts(classifier, attack, x, labels, seed, part.start, budget))
            advance(part.stop - part.start, "")
    return torch.cat(right)


def right_in_parts(
    classifier: nn.Module, attack: Attack, images: Tensor, labels: Tensor, seed: int, start: int, budget: RowBudget
) -> Tensor:
    """The same for images `(B, C, H, W)` in [0, 1] and labels `(B,)` on the classifier's device, as many at once as
    memory allows. An attack that draws at random draws anew for each part: where memory is short, something else.

    Args:
        start: place of the first image among all.
        budget: how many are attacked at once.

    Raises:
        UserError: as above.
    """

    def ask(rows: slice) -> Tensor:
        return still_right(classifier, attack, images[rows], labels[rows], derive(seed, "attack", start + rows.start))

    return torch.cat(budget.parts(ask, len(labels), images.device))


def still_right(classifier: nn.Module, attack: Attack, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The same for one batch: images `(B, C, H, W)` in [0, 1] and labels `(B,)`, on the classifier's device.

    The classifier is left in its modes and without gradients.

    Raises:
        UserError: as above.
    """
    with eval_mode(classifier) as (model,), frozen(model):
        with global_seed(seed):
            attacked = _attacked(attack, model, images, labels)
        _check(attacked, images, attack)
        with torch.no_grad():
            before, after = (answers(model(shown)) == labels for shown in (images, attacked.detach()))
    both: Tensor = before & after
    return both.cpu()


def _attacked(attack: Attack, model: nn.Module, images: Tensor, labels: Tensor) -> Any:
    try:
        return attack(model, images, labels)
    except UserError:
        raise
    except Exception as error:  # somebody else's code: what it raises is for its user to read
        raise UserError(f"--attack {attack!r}: raised {blame(error)}") from error


def _check(attacked: Any, images: Tensor, attack: Attack) -> None:
    name = f"--attack {attack!r}"
    if not isinstance(attacked, Tensor):
        raise UserError(f"{name}: returns a {type(attacked).__name__}, not a tensor of images")
    if attacked.shape != images.shape:
        raise UserError(f"{name}: returns {tuple(attacked.shape)} for images {tuple(images.shape)}")
    low, high = (float(value) for value in attacked.detach().aminmax())
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise UserError(f"{name}: returns pixels from {low:g} to {high:g}; they must stay in [0, 1]")
