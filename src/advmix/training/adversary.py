"""What trains a discriminator, and what it tells a generator: the part that all adversarial training has in common.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018): non-saturating
logistic loss and R1; R1 every few steps as in "Analyzing and Improving the Image Quality of StyleGAN" (2020),
appendix B.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.training.discriminator import Discriminator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

BETAS = (0.0, 0.99)


class DiscriminatorLoss(nn.Module):
    """Logistic loss on real and fake images, and R1; all in one pass, as several processes and bf16 want it."""

    def __init__(self, discriminator: nn.Module) -> None:
        super().__init__()
        self.discriminator = discriminator

    def forward(self, real: Tensor, fake: Tensor, r1_weight: float) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] to the loss `()`; without R1 where its weight is 0."""
        logits = self.discriminator(real.requires_grad_(r1_weight > 0)).float()
        loss = F.softplus(-logits).mean() + F.softplus(self.discriminator(fake).float()).mean()
        return loss + r1_weight * r1_penalty(logits, real) if r1_weight else loss


class Adversary:
    """A discriminator with its loss and its own Adam at a constant rate.

    Args:
        discriminator: images `(B, C, H, W)` in [-1, 1] to logits `(B,)`.
        fabric: the machine.
        lr: learning rate.
        r1_weight: of R1.
        r1_every: steps between two uses of R1, whose weight is multiplied by as much.
    """

    def __init__(
        self, discriminator: Discriminator, fabric: Fabric, lr: float, r1_weight: float, r1_every: int
    ) -> None:
        self.discriminator, self.fabric = discriminator, fabric
        self.r1_weight, self.r1_every = r1_weight, r1_every
        whole = DiscriminatorLoss(discriminator)
        self.wrapped, self.optimizer = fabric.setup(whole, adam(whole, lr))

    def loss(self, real: Tensor, fake: Tensor, step: int) -> Tensor:
        """The discriminator's loss `()` on images in [-1, 1], which keep no history."""
        lazy = self.r1_every * self.r1_weight if step % self.r1_every == 0 else 0.0
        loss: Tensor = self.wrapped(real, fake, lazy)
        return loss

    def generator_loss(self, fake: Tensor) -> Tensor:
        """The generator's loss `()` on images in [-1, 1]; the discriminator gathers no gradients from it."""
        with frozen(self.discriminator), self.fabric.autocast():
            logits = self.discriminator(fake)
        return F.softplus(-logits.float()).mean()

    def update(self, loss: Tensor) -> None:
        """Change the discriminator by its loss."""
        descend(self.fabric, self.optimizer, loss)

    def parts(self) -> dict[str, Any]:
        """Everything that has a state, by name."""
        return {"discriminator": self.discriminator, "discriminator optimizer": self.optimizer}


def adam(network: nn.Module, lr: float) -> torch.optim.Adam:
    """The optimiser of both networks."""
    return torch.optim.Adam(network.parameters(), lr=lr, betas=BETAS)


def descend(fabric: Fabric, optimizer: Any, loss: Tensor) -> None:
    """One step of an optimiser down its own loss."""
    optimizer.zero_grad()
    fabric.backward(loss)
    optimizer.step()


def r1_penalty(logits: Tensor, real: Tensor) -> Tensor:
    """Half the mean squared gradient of `logits` `(B,)` in the images `real` `(B, C, H, W)`; differentiable once more.

    Mescheder et al., "Which Training Methods for GANs do actually Converge?" (2018), equation 9. It alone leaves the
    discriminator's last bias without a gradient, which several processes do not forgive; hence the zero.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    return 0.5 * gradient.square().sum(dim=(1, 2, 3)).mean() + 0 * logits.sum()


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """No gradients for its weights meanwhile; they go through it."""
    try:
        network.requires_grad_(False)
        yield
    finally:
        network.requires_grad_(True)
