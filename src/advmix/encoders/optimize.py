"""Perceptual features of any module, for losses that compare images by what a network sees in them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.encoders.network import Encoder
from advmix.generators.base import Generator, State
from advmix.latents import Latents, Split
from advmix.utils.config import check_values
from advmix.utils.memory import RowBudget
from advmix.utils.torch_tools import eval_mode
from advmix.utils.torch_tools import generator as seeded


class Activations(nn.Module):
    """The outputs of all inner modules of some kinds, in the order in which they run.

    >>> maps = Activations(network)(images)                  # after every ReLU
    >>> maps = Activations(vgg16().features, (nn.MaxPool2d,))(images)

    Args:
        module: any network; its parameters are not touched.
        kinds: types of the inner modules to listen to.
    """

    def __init__(
        self, module: nn.Module, kinds: tuple[type[nn.Module], ...] = (nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU)
    ) -> None:
        super().__init__()
        self.module, self.kinds = module, kinds
        if not any(isinstance(inner, kinds) for inner in module.modules()):
            raise ValueError(f"no {' or '.join(kind.__name__ for kind in kinds)} in {type(module).__name__}")

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images as the module wants them to a list of tensors."""
        found: list[Tensor] = []

        def listen(_: nn.Module, __: object, output: Tensor) -> None:
            found.append(output.clone())

        hooks = [
            inner.register_forward_hook(listen) for inner in self.module.modules() if isinstance(inner, self.kinds)
        ]
        try:
            self.module(images)
        finally:
            for hook in hooks:
                hook.remove()
        return found


@dataclass(frozen=True)
class OptimizeOptions:
    """Settings of Algorithm 2; the paper's are not known to us, these are our own choice.

    Args:
        optimize_steps: of Adam.
        optimize_lr: learning rate of Adam, decayed along a cosine.
        pixel_weight: of the mean squared pixel error, images in [-1, 1].
        feature_weight: of the mean squared error of the features.
        mixing_weight: of the mixing loss; 0 switches it off.
        optimize_seed: fixes the random partners.
        one_style: W instead of W+: all layers of an image have one style, as those that a mapping network makes.
    """

    optimize_steps: int = 200
    optimize_lr: float = 0.05
    pixel_weight: float = 1.0
    feature_weight: float = 1.0
    mixing_weight: float = 0.1
    optimize_seed: int = 0
    one_style: bool = False

    def __post_init__(self) -> None:
        check_values(
            self, "optimize_steps optimize_lr pixel_weight feature_weight mixing_weight optimize_seed", least=0
        )


@dataclass(frozen=True, eq=False)
class Encoding:
    """What the optimisation found, and how.

    Attributes:
        latents: length B.
        losses: `(steps + 1, B)`, the total loss of each image before each step and at the end.
        frames: reconstructions in [0, 1], `(frames, B, C, H, W)`, at the steps in `frame_steps`.
        frame_steps: which steps.
        frame_seconds: wall-clock seconds from the start, the network's guess included, until each of these was decoded.
    """

    latents: Latents
    losses: Tensor
    frames: Tensor
    frame_steps: tuple[int, ...]
    frame_seconds: tuple[float, ...] = ()


class OptimizeEncoder(Encoder):
    """Find latents by gradient descent, all images of a batch at once and independently of each other.

    Args:
        generator: `dec`.
        split: which layers are `z⊥`, for the mixing loss.
        pool: latents whose mean is the start and which lend the random partners of the mixing loss.
        features: any module from images in [0, 1] to a tensor or a list of tensors (`(B, C, H, W)` maps or vectors); a
            pretrained VGG in the paper. None compares pixels alone, and the mixing loss then works on pixels too.
        start: an encoder whose guess is refined; None starts at the pool's mean.
        options: weights, steps and learning rate.
    """

    def __init__(
        self,
        generator: Generator,
        split: Split,
        pool: Latents,
        features: nn.Module | None = None,
        start: Encoder | None = None,
        options: OptimizeOptions | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.features, self.start = generator, features, start
        self.split, self.pool, self.options = split, pool, options or OptimizeOptions()

    def trial(self, images: Tensor) -> None:
        """The first step alone."""
        self.optimize(images * 2 - 1, steps=1)

    def encode_signed(self, images: Tensor) -> Latents:
        """Images in [-1, 1] to latents, as many at once as memory allows."""
        parts = RowBudget().parts(
            lambda rows: self.optimize(images[rows]).latents,
            len(images),
            images.device,
            trial=lambda rows: self.optimize(images[rows], steps=1),
        )
        return Latents.cat(parts)

    def optimize(self, signed: Tensor, frame_steps: Sequence[int] = (), steps: int | None = None) -> Encoding:
        """Images `(B, C, H, W)` in [-1, 1] to latents, with the loss trace and reconstructions on the way; at most so
        many steps.
        """
        options, frames, losses, seconds, begun = self.options, [], [], [], time.perf_counter()
        if steps is not None:
            options = replace(options, optimize_steps=min(steps, options.optimize_steps))
        borrowed = [module for module in (self.generator, self.features, self.start) if module is not None]
        with eval_mode(*borrowed), torch.enable_grad():
            targets = self._features((signed + 1) / 2)
            numbers = self._first(signed)
            optimizer = torch.optim.Adam(numbers, lr=options.optimize_lr)
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(options.optimize_steps, 1))
            for step in range(options.optimize_steps + 1):
                latents = self._latents(numbers)
                state, perp = self.generator.prefix(latents, self.split), self.split.perp_of(latents)
                decoded = self.generator.render_signed(state, perp)
                loss = self._loss(state, perp, decoded, signed, targets, step)
                losses.append(loss.detach())
                if step in frame_steps:
                    frames.append(((decoded.detach() + 1) / 2).clamp(0, 1))
                    _wait_for(decoded.device)
                    seconds.append(time.perf_counter() - begun)
                if step == options.optimize_steps:
                    break
                gradients = torch.autograd.grad(loss.sum(), numbers)
                for number, gradient in zip(numbers, gradients, strict=True):
                    number.grad = gradient
                optimizer.step()
                schedule.step()
        shown = tuple(step for step in sorted(frame_steps) if step <= options.optimize_steps)
        stacked = torch.stack(frames) if frames else signed.new_empty((0, *signed.shape))
        return Encoding(self._latents(numbers).detach(), torch.stack(losses), stacked, shown, tuple(seconds))

    def _first(self, signed: Tensor) -> list[Tensor]:
        if self.start is not None:
            with torch.no_grad():
                first = self.start.encode_signed(signed)
        else:
            count = len(signed)
            grid = None if self.pool.grid is None else self.pool.grid.mean(0).expand(count, -1, -1, -1)
            first = Latents(self.pool.styles.mean(0).expand(count, -1, -1), grid)
        styles = first.styles.mean(dim=1, keepdim=True) if self.options.one_style else first.styles
        parts = [styles] if first.grid is None else [styles, first.grid]
        return [part.detach().clone().requires_grad_() for part in parts]

    def _latents(self, numbers: list[Tensor]) -> Latents:
        """One style is every layer's."""
        styles = numbers[0].expand(-1, self.generator.layers, -1).contiguous()
        return Latents(styles, numbers[1] if len(numbers) > 1 else None)

    def _features(self, images: Tensor) -> list[Tensor]:
        if self.features is None:
            return [images * 2 - 1]
        found = self.features(images)
        return [found] if isinstance(found, Tensor) else list(found)

    def _loss(
        self, state: State, perp: Tensor, decoded: Tensor, signed: Tensor, targets: list[Tensor], step: int
    ) -> Tensor:
        options = self.options
        total = options.pixel_weight * (decoded - signed).square().flatten(1).mean(1)
        if self.features is not None and options.feature_weight:
            found = self._features((decoded + 1) / 2)
            total = total + options.feature_weight * _sum(
                [_distance(*pair) for pair in zip(found, targets, strict=True)]
            )
        if options.mixing_weight:
            total = total + options.mixing_weight * self._mixing_loss(state, perp, targets, step)
        return total

    def _mixing_loss(self, state: State, perp: Tensor, targets: list[Tensor], step: int) -> Tensor:
        """Both crosses with a random partner, each held to the parent that it should follow.

        One partner for the whole batch: what its `z∥` decides is computed for one image, what an image's own decides
        is there already.
        """
        rng, count = seeded(self.options.optimize_seed, "mixing", step), len(perp)
        partner = self.pool[torch.randint(len(self.pool), (1,), generator=rng).to(perp.device)]
        with torch.no_grad():
            their_state, their_perp = self.generator.prefix(partner, self.split), self.split.perp_of(partner)
            theirs = self._features((self.generator.render_signed(their_state, their_perp) + 1) / 2)
            their_state = their_state.repeat(count)
        crosses = ((state, their_perp.expand(count, -1), targets, theirs), (their_state, perp, theirs, targets))
        total = []
        for layout, statistics, layout_from, statistics_from in crosses:
            found = self._features((self.generator.render_signed(layout, statistics) + 1) / 2)
            total += [_layout_distance(*pair) for pair in zip(found, layout_from, strict=True)]
            total += [_statistics_distance(*pair) for pair in zip(found, statistics_from, strict=True)]
        return _sum(total)


def _wait_for(device: torch.device) -> None:
    """Until all that was queued on an accelerator is done: a time read before that means nothing."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _sum(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum(0) if parts else torch.zeros(())


def _distance(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().flatten(1).mean(1)


def _layout_distance(a: Tensor, b: Tensor) -> Tensor:
    """Between what instance normalisation leaves: where things are. A plain vector has no layout but itself."""
    has_layout = a.ndim == 4 and a.shape[2:].numel() > 1
    return _distance(F.instance_norm(a), F.instance_norm(b)) if has_layout else _distance(a, b)


def _statistics_distance(a: Tensor, b: Tensor) -> Tensor:
    """Between mean and standard deviation per channel: what AdaIN sets. A plain vector has none."""
    if a.ndim != 4:
        return a.new_zeros(len(a))
    pairs = zip(_statistics(a), _statistics(b), strict=True)
    return _sum([_distance(*pair) for pair in pairs])


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    return x.mean(dim=(2, 3)), x.var(dim=(2, 3), correction=0).add(1e-6).sqrt()
