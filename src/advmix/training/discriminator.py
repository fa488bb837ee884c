"""StyleGAN's discriminator: images to one number, high for those that look real.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks" (2018), appendix C; minibatch
standard deviation from "Progressive Growing of GANs" (2018), section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.encoders.optimize import Activations
from advmix.generators.layers import RELU_GAIN, SLOPE, EqualizedConv2d, EqualizedLinear
from advmix.generators.style import check_sizes
from advmix.utils.errors import UserError
from advmix.utils.files import read_tensors, write_tensors
from advmix.utils.torch_tools import frozen, rebuilt, stated

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FILE, KIND = "discriminator.safetensors", "discriminator"

GROUP = 4

"""Images that are compared in the minibatch standard deviation."""


def blur(x: Tensor) -> Tensor:
    """Low-pass filter [1, 2, 1] along both axes, `(B, C, H, W)` to the same shape: two averages over 2x2 pixels."""
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1, padding=1), 2, stride=1)


def group_size(count: int) -> int:
    """Images of a group in a batch of `count`: as many as divide both 4 and the batch."""
    return math.gcd(count, GROUP)


def minibatch_std(x: Tensor) -> Tensor:
    """`x`, `(B, C, H, W)`, with one more channel that tells each group of images how much its features vary.

    A group is `group_size(B)` neighbours in the batch.
    """
    size = group_size(len(x))
    groups = x.unflatten(0, (-1, size))
    deviation = (groups.var(dim=1, correction=0) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    channel = deviation.repeat_interleave(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1)


class Halving(nn.Module):
    """A convolution, then blur and a convolution with stride 2: half the side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(inputs, inputs, 3)
        self.down = EqualizedConv2d(inputs, outputs, 3, stride=2)
        self.activate = nn.LeakyReLU(SLOPE)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inputs, H, W)` to `(B, outputs, H/2, W/2)`."""
        x = self.activate(self.conv(x))
        activated: Tensor = self.activate(self.down(blur(x)))
        return activated


class Discriminator(nn.Module):
    """The mirror of the generator: 3x3 convolutions and halvings down to 4x4 pixels, then two linear layers.

    Args:
        channels: of the images.
        widths: feature channels at each resolution, from 4 pixels up, as in `StyleGanConfig`.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.widths = channels, tuple(widths)
        fine_to_coarse = list(reversed(widths))
        self.from_image = EqualizedConv2d(channels, fine_to_coarse[0], 1)
        pairs = pairwise(fine_to_coarse)
        self.halvings = nn.Sequential(*(Halving(inputs, outputs) for inputs, outputs in pairs))
        self.conv = EqualizedConv2d(widths[0] + 1, widths[0], 3)
        self.hidden = EqualizedLinear(16 * widths[0], widths[0], RELU_GAIN)
        self.out = EqualizedLinear(widths[0], 1)
        self.activate = nn.LeakyReLU(SLOPE)
        self.to(memory_format=torch.channels_last)

    def forward(self, signed: Tensor) -> Tensor:
        """Images `(B, C, H, W)` in [-1, 1] to logits `(B,)`."""
        x = self.halvings(self.activate(self.from_image(signed)))
        x = self.activate(self.conv(minibatch_std(x)))
        logits: Tensor = self.out(self.activate(self.hidden(x.flatten(1))))
        return logits[:, 0]


class DiscriminatorFeatures(nn.Module):
    """What a discriminator sees in images, for losses that compare them: it has learned without labels.

    What comes after the halvings is left out: there an image is compared with its batch, and features must be its own.

    Args:
        discriminator: trained.
    """

    def __init__(self, discriminator: Discriminator) -> None:
        super().__init__()
        trunk = nn.Sequential(discriminator.from_image, discriminator.activate, discriminator.halvings)
        self.activations = Activations(trunk, (Halving,))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images `(B, C, H, W)` in [0, 1] to what each halving makes of them, `(B, width, H/2, W/2)` and so on."""
        found: list[Tensor] = self.activations(images * 2 - 1)
        return found


def save_discriminator(folder: Path, network: Discriminator) -> None:
    """Write `discriminator.safetensors`: weights and shape."""
    shape = {"channels": network.channels, "widths": list(network.widths)}
    write_tensors(folder / FILE, KIND, network.state_dict(), shape)


def load_discriminator(folder: Path) -> Discriminator:
    """Read it, in eval mode.

    Raises:
        UserError: missing or damaged.
    """
    path = folder / FILE
    tensors, shape = read_tensors(path, KIND)
    channels, widths = stated(shape, "channels", int, path), stated(shape, "widths", list, path)
    try:
        check_sizes({"channels": channels, "widths": tuple(widths)}, "channels widths")
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return rebuilt(lambda: Discriminator(channels, widths), tensors, path, "a discriminator of these widths")


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
