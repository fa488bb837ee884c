"""Projected gradient descent on pixels: the l_p adversarial training that the paper compares with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.encoders.network import Encoder
from advmix.latents import Latents
from advmix.mixing import Mixer, any_place, draw_all_donors
from advmix.utils.torch_tools import draw_seed, eval_mode, global_seed, rows_drawn, send

Norm = Literal["linf", "l2"]


def _expand(values: Tensor, like: Tensor) -> Tensor:
    return values.view(-1, *[1] * (like.ndim - 1))


def project_ball(delta: Tensor, radius: float, norm: Norm) -> Tensor:
    """The nearest perturbation of at most `radius` in the norm, per example."""
    if norm == "linf":
        return delta.clamp(-radius, radius)
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
    return delta * _expand((radius / length).clamp(max=1), delta)


def random_ball(shape: torch.Size, radius: float, norm: Norm, rng: torch.Generator | None) -> Tensor:
    """A uniform draw from the ball, on the CPU."""
    count, own = rows_drawn(rng, shape[0])
    drawn = (count, *shape[1:])
    if norm == "linf":
        return (torch.rand(drawn, generator=rng)[own] * 2 - 1) * radius
    delta = torch.randn(drawn, generator=rng)[own]
    numbers = delta[0].numel()
    length = delta.flatten(1).norm(dim=1).clamp_min(1e-12)
    return delta * _expand(radius * torch.rand(count, generator=rng)[own] ** (1 / numbers) / length, delta)


def pgd(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    steps: int = 7,
    step_size: float | None = None,
    norm: Norm = "linf",
    rng: torch.Generator | None = None,
) -> Tensor:
    """PGD with a random start (Madry et al., 2018), clamped to [0, 1]; the classifier is in eval mode meanwhile.

    Args:
        classifier: images in [0, 1] to logits.
        images: `(B, C, H, W)` in [0, 1].
        labels: `(B,)`.
        radius: of the ball, in pixel values of [0, 1].
        steps: gradient steps.
        step_size: length of one step; `2.5 * radius / steps` by default.
        norm: `linf` or `l2`.
        rng: CPU random generator; torch's global one when None.

    Returns:
        Adversarial images, detached, the same shape, in [0, 1] and within `radius` of `images`.
    """
    length = 2.5 * radius / max(steps, 1) if step_size is None else step_size
    delta = random_ball(images.shape, radius, norm, rng).to(images)
    adversarial = (images + delta).clamp(0, 1)
    with eval_mode(classifier) as (model,):
        for _ in range(steps):
            adversarial = adversarial.detach().requires_grad_()
            loss = F.cross_entropy(model(adversarial), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, adversarial)
            if norm == "linf":
                step = gradient.sign()
            else:
                step = gradient / _expand(gradient.flatten(1).norm(dim=1).clamp_min(1e-12), gradient)
            delta = project_ball(adversarial.detach() + length * step - images, radius, norm)
            adversarial = (images + delta).clamp(0, 1)
    return adversarial.detach()


@dataclass(frozen=True, eq=False)
class Batch:
    """Images `(B, C, H, W)` in [0, 1], labels `(B,)` and the examples' indices in the training set `(B,)`.

    `augmented` images are not those of the training set any more, so that their latents are not in the pool. Of the
    batch of several processes each one trains on the rows `own`, and sees the others' only where its objective asks.
    """

    images: Tensor
    labels: Tensor
    index: Tensor
    augmented: bool = False
    own: slice = field(default_factory=lambda: slice(None))

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        return replace(self, images=send(self.images, device), labels=send(self.labels, device))


class Objective(ABC):
    """A scalar loss of a classifier on a batch.

    >>> loss = objective(classifier, batch, rng)
    >>> loss.backward()

    The classifier comes in train mode and is left in it; only its parameters receive gradients; all randomness is
    `rng`'s.
    """

    sees_whole_batch = False
    """Whether a process must see the images of the others, too, to draw the same as one process would."""

    @abstractmethod
    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor: ...


class Nominal(Objective):
    """Cross-entropy: `CE(f(x), y)`."""

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        return F.cross_entropy(classifier(batch.images), batch.labels)


class Mixup(Objective):
    """Convex combinations of two images and their labels (Zhang et al., 2018), torchvision's `MixUp`.

    Args:
        classes: number of classes.
        alpha: of the Beta distribution of the weight.
    """

    sees_whole_batch = True

    def __init__(self, classes: int, alpha: float = 1.0) -> None:
        from torchvision.transforms.v2 import MixUp

        self.mixup = MixUp(num_classes=classes, alpha=alpha)

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        with global_seed(draw_seed(rng)):
            images, targets = self.mixup(batch.images, batch.labels)
        return F.cross_entropy(classifier(images[batch.own]), targets[batch.own])


class Adversarial(Objective):
    """l_p adversarial training (Madry et al., 2018): `CE(f(pgd(x)), y)`.

    Args:
        radius: in pixel values of [0, 1].
        steps: of PGD.
        norm: `linf` or `l2`.
    """

    def __init__(self, radius: float = 0.1, steps: int = 7, norm: Norm = "linf") -> None:
        self.radius, self.steps, self.norm = radius, steps, norm

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        images = pgd(
            classifier, batch.images, batch.labels, radius=self.radius, steps=self.steps, norm=self.norm, rng=rng
        )
        return F.cross_entropy(classifier(images), batch.labels)


class WithCopy(Objective):
    """`clean_weight * CE(f(x), y) + (1 - clean_weight) * CE(f(copy), y) + consistency * KL(f(x), f(copy))`, where
    subclasses say what the copy is.

    Args:
        clean_weight: in [0, 1]; 0 is the paper's risk.
        together: whether images and copies are one batch to the classifier, so that batch normalisation sees what it
            keeps statistics of; by default each is a batch of its own.
        consistency: weight of the Kullback-Leibler divergence of the answer to the copy from that to the image, which
            is a constant in it; at least 0. With a clean weight of 1 it takes the place of the copy's cross-entropy.
    """

    def __init__(self, clean_weight: float = 0.5, together: bool = False, consistency: float = 0.0) -> None:
        if not 0 <= clean_weight <= 1:
            raise ValueError(f"clean_weight must be between 0 and 1, not {clean_weight}")
        if consistency < 0:
            raise ValueError(f"consistency must be at least 0, not {consistency}")
        self.clean_weight, self.together, self.consistency = clean_weight, together, consistency

    @abstractmethod
    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """The variation of each own image that is trained on beside it: `(B, C, H, W)` in [0, 1]."""

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        copy, images, labels = self.copy(classifier, batch, rng), batch.images[batch.own], batch.labels[batch.own]
        if self.together:
            of_copy, of_image = classifier(torch.cat([copy, images])).chunk(2)
            return self._weighted(of_copy, of_image, labels)
        seen = self.clean_weight or self.consistency
        return self._weighted(classifier(copy), classifier(images) if seen else None, labels)

    def _weighted(self, of_copy: Tensor, of_image: Tensor | None, labels: Tensor) -> Tensor:
        """Of logits `(B, C)`; those of images that do not count may be None."""
        loss = (1 - self.clean_weight) * F.cross_entropy(of_copy, labels)
        if of_image is None:
            return loss
        loss = loss + self.clean_weight * F.cross_entropy(of_image, labels)
        return loss + self.consistency * divergence(of_copy, of_image) if self.consistency else loss


def divergence(of_copy: Tensor, of_image: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the answers to copies from those to their images, which are constants, in nats,
    mean over the images (Zhang et al., "Theoretically principled trade-off between robustness and accuracy", 2019; Xie
    et al., "Unsupervised data augmentation for consistency training", 2020). Of logits `(B, C)`.
    """
    target = of_image.detach().float().softmax(dim=1)
    return F.kl_div(of_copy.float().log_softmax(dim=1), target, reduction="batchmean")


class Mixing(WithCopy):
    """RandMix and AdvMix: the copy is a mix of the example's `z∥` with another one's `z⊥`.

    Args:
        mixer: `RandMix(...)` or `AdvMix(...)`.
        pool: latents of the training set, in its order; or of other images, as `places` says.
        clean_weight: see `WithCopy`.
        encoder: of images whose latents the pool does not have: augmented ones, and all where it holds styles alone.
        residual: whether a mix keeps what the generator cannot draw of its image.
        places: `(N,)`, where in the pool each training image is, -1 where it is not; by default in their order.
        together, consistency: see `WithCopy`.
    """

    def __init__(
        self,
        mixer: Mixer,
        pool: Latents,
        clean_weight: float = 0.5,
        encoder: Encoder | None = None,
        residual: bool = False,
        places: Tensor | None = None,
        together: bool = False,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(clean_weight, together, consistency)
        self.mixer, self.pool, self.encoder, self.residual, self.places = mixer, pool, encoder, residual, places

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """The mixer's images. A random mix is not judged, which saves a pass through the classifier."""
        judge = classifier if self.mixer.needs_classifier else None
        own = batch.index if self.places is None else any_place(self.places[batch.index.cpu()], len(self.pool), rng)
        donors = draw_all_donors(self.mixer.search, len(batch.labels), len(self.pool), own, rng)
        return self.mixer(judge, self.latents(batch), batch.labels, self.pool, donors=donors).images

    @torch.no_grad()
    def latents(self, batch: Batch) -> Latents:
        """The batch's own: from a pool of all training images, else encoded.

        Raises:
            ValueError: not in the pool, and there is no encoder.
        """
        if self.places is None and not batch.augmented and not self.mixer.generator.any_size:
            own = self.pool[send(batch.index, self.pool.styles.device)]
        elif self.encoder is None:
            raise ValueError("these images have no latents in the pool: give Mixing an encoder")
        else:
            with eval_mode(self.encoder):
                own = self.encoder(batch.images)
        return self.mixer.generator.complete(own, batch.images) if self.residual else own


class Augment(WithCopy):
    """A usual augmentation: the copy is the image under a random transform, drawn anew for each image.

    >>> Augment(ColorJitter(0.5, 0.5, 0.5, 0.5))

    Args:
        transform: one image `(C, H, W)` in [0, 1] to another one; its randomness is torch's global one, as in
            torchvision.
        clean_weight, together, consistency: see `WithCopy`.
    """

    sees_whole_batch = True

    def __init__(
        self,
        transform: Callable[[Tensor], Tensor],
        clean_weight: float = 0.5,
        together: bool = False,
        consistency: float = 0.0,
    ) -> None:
        super().__init__(clean_weight, together, consistency)
        self.transform = transform

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Transformed images. One by one they are faster on the CPU than by hundreds of small kernels on a GPU."""
        with global_seed(draw_seed(rng)):
            copies = [self.transform(image) for image in batch.images.cpu()]
        return torch.stack(copies[batch.own]).to(batch.images.device).contiguous(memory_format=torch.channels_last)
