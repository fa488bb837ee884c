"""The audit's own reference: a network unlike those that it usually judges, and quick to train on a CPU."""

from __future__ import annotations

from torch import Tensor, nn

WIDTH, DEPTH, KERNEL = 96, 4, 5


class Residual(nn.Module):
    """`x + f(x)`."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` to the same shape."""
        out: Tensor = x + self.inner(x)
        return out


def patch_net(classes: int, channels: int, side: int) -> nn.Sequential:
    """ConvMixer (Trockman and Kolter, "Patches Are All You Need?", 2022), small: patches, then depthwise and pointwise
    convolutions in turn, all at one resolution of 8x8 patches, or 16x16 from 64 pixels on.

    Args:
        classes: K.
        channels: C of the images.
        side: H and W.

    Returns:
        Images `(B, C, H, W)` in [0, 1] to logits `(B, K)`.
    """
    size = max(1, side // (16 if side >= 64 else 8))
    parts: list[nn.Module] = [nn.Conv2d(channels, WIDTH, size, stride=size), nn.GELU(), nn.BatchNorm2d(WIDTH)]
    for _ in range(DEPTH):
        depthwise = nn.Conv2d(WIDTH, WIDTH, KERNEL, padding=KERNEL // 2, groups=WIDTH)
        parts.append(Residual(nn.Sequential(depthwise, nn.GELU(), nn.BatchNorm2d(WIDTH))))
        parts += [nn.Conv2d(WIDTH, WIDTH, 1), nn.GELU(), nn.BatchNorm2d(WIDTH)]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(WIDTH, classes))
