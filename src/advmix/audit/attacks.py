"""Outside attacks inside an audit: any callable `(model, x, y) -> x` by its name, and what it leaves right.

>>> attack = open_attack(AttackOptions("foolbox:LinfPGD", '{"epsilon": 0.03}'))
>>> right_attacked(classifier, attack, data.test, device)
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from advmix.answers import answers
from advmix.attacks import Attack, FoolboxAttack, import_foolbox
from advmix.classifiers.found import blame, import_own
from advmix.data import ImageSet, slices
from advmix.errors import UserError
from advmix.modes import evaluating
from advmix.progress import track
from advmix.seeds import derive, global_seed

BATCH = 250
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
    right = []
    with track("attack", len(images)) as advance:
        for part in slices(len(images), BATCH):
            x, labels = (tensor.to(device) for tensor in images.batch(part))
            right.append(still_right(classifier, attack, x, labels, derive(seed, "attack", part.start)))
            advance(part.stop - part.start, "")
    return torch.cat(right)


def still_right(classifier: nn.Module, attack: Attack, images: Tensor, labels: Tensor, seed: int) -> Tensor:
    """The same for one batch: images `(B, C, H, W)` in [0, 1] and labels `(B,)`, on the classifier's device.

    The classifier is left in its modes and without gradients.

    Raises:
        UserError: as above.
    """
    with evaluating(classifier) as (model,), _frozen(model):
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


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    """Without gradients for weights: others' attacks may call `backward()`."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_()


def _check(attacked: Any, images: Tensor, attack: Attack) -> None:
    name = f"--attack {attack!r}"
    if not isinstance(attacked, Tensor):
        raise UserError(f"{name}: returns a {type(attacked).__name__}, not a tensor of images")
    if attacked.shape != images.shape:
        raise UserError(f"{name}: returns {tuple(attacked.shape)} for images {tuple(images.shape)}")
    low, high = (float(value) for value in attacked.detach().aminmax())
    if not (low >= -SLACK and high <= 1 + SLACK):
        raise UserError(f"{name}: returns pixels from {low:g} to {high:g}; they must stay in [0, 1]")
