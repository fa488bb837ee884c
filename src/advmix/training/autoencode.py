"""`fit`: style generator and encoder trained together, by reconstruction, on one set of images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder
from advmix.generators.style import StyleConfig
from advmix.training.loop import Trainee
from advmix.utils.config import check_values
from advmix.utils.device import check_batch, own_part
from advmix.utils.errors import UserError
from advmix.utils.progress import track
from advmix.utils.torch_tools import draw_seed, eval_mode, generator, global_seed

if TYPE_CHECKING:
    from lightning_fabric import Fabric

STARTS = ("scratch", "photo", "auto")

WIDTHS = {16: (64, 64, 32), 32: (64, 64, 32, 32), 64: (64, 64, 32, 32, 16)}
"""Feature channels at each resolution, from 4 pixels up, for images of each size."""
GRID_WIDTHS = (64, 64, 32)
"""The same where z∥ is a spatial grid, from a quarter of the image's side up."""
GRID_STYLE_DIM = 32


@dataclass(frozen=True)
class FitOptions:
    """How generator and encoder are trained.

    Args:
        start: first weights: `scratch`, random ones; `photo`, those of the ready-made generator, for colour images and
            with a quarter of the steps; `auto`, the second where it is possible.
        fit_steps: optimisation steps; default 600 at 16x16 pixels, 1,500 above; a quarter of them from `photo`.
        fit_batch: images per step, over all devices.
        fit_lr: peak learning rate of Adam, one cycle.
        latent_noise: standard deviation of the noise added to the latents before decoding.
        latent_penalty: weight of the latents' mean square.
        grid_channels: channels of a spatial z∥ of a quarter of the image's side, for photographs; 0 for a code of
            styles alone. Default 0 up to 32 pixels, 8 above.
        l1_weight: of the mean absolute pixel error beside the mean squared one. Default 0 up to 32 pixels, 1 above.
        perceptual_weight: of the mean squared error of a network's features.
    """

    start: str = "scratch"
    fit_steps: int | None = None
    fit_batch: int = 64
    fit_lr: float = 4e-3
    latent_noise: float = 0.1
    latent_penalty: float = 1e-3
    grid_channels: int | None = None
    l1_weight: float | None = None
    perceptual_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise UserError(f"--start {self.start}: unknown; choose from {' '.join(STARTS)}")
        check_values(self, "fit_steps fit_batch fit_lr", above=0)
        check_values(self, "latent_noise latent_penalty grid_channels l1_weight perceptual_weight", least=0)

    def steps(self, resolution: int) -> int:
        """The number of steps for images of this size."""
        usual = 600 if resolution <= 16 else 1500
        return self.fit_steps or (usual // 4 if self.start == "photo" else usual)

    def begun(self, channels: int, resolution: int) -> FitOptions:
        """The same with `auto` decided for images of this size."""
        if self.start != "auto":
            return self
        possible = channels == 3 and resolution > 32 and resolution % 4 == 0 and self.grid_channels is None
        return replace(self, start="photo" if possible else "scratch")

    def grid(self, resolution: int) -> int:
        """Channels of the spatial grid for images of this size."""
        return (0 if resolution <= 32 else 8) if self.grid_channels is None else self.grid_channels

    def l1(self, resolution: int) -> float:
        """Weight of the mean absolute error for images of this size."""
        return (0.0 if resolution <= 32 else 1.0) if self.l1_weight is None else self.l1_weight


def style_config(images: ImageSet, options: FitOptions) -> StyleConfig:
    """The network for images of this size and these channels: four pixels to start with, double after double; or from
    a grid of a quarter of their side.
    """
    channels, resolution = images.shape[:2]
    return style_shape(channels, resolution, options)


def style_shape(channels: int, resolution: int, options: FitOptions) -> StyleConfig:
    """The same, where only the size of the images is known yet.

    Raises:
        UserError: a size that `fit` does not take.
    """
    if options.begun(channels, resolution).start == "photo":
        return _photo_shape(channels, resolution, options)
    grid = options.grid(resolution)
    if grid and resolution % 4 == 0:
        return StyleConfig(resolution, channels, GRID_STYLE_DIM, GRID_WIDTHS, resolution // 4, grid)
    if grid or resolution not in WIDTHS:
        sizes = "a multiple of 4" if grid else ", ".join(map(str, WIDTHS))
        near = _nearest(resolution, [4 * max(resolution // 4 + more, 2) for more in (0, 1)] if grid else WIDTHS)
        raise UserError(f"images of {resolution} pixels: fit takes {sizes}; read them with --size {near}")
    return StyleConfig(resolution=resolution, channels=channels, widths=WIDTHS[resolution])


def _photo_shape(channels: int, resolution: int, options: FitOptions) -> StyleConfig:
    """The shape of `photo`, for images of one size."""
    photo = load_autoencoder(Path("photo"))[0].config
    assert isinstance(photo, StyleConfig)
    if channels != photo.channels or resolution % 4 or options.grid_channels not in (None, photo.grid_channels):
        raise UserError(
            f"--start photo: for colour images whose side is a multiple of 4, and {photo.grid_channels} grid channels; "
            "use --start scratch"
        )
    return replace(photo, resolution=resolution, start=resolution // 4, working_size=0)


def _nearest(size: int, known: Iterable[int]) -> str:
    """`"16 or 32"`, those on both sides of a size."""
    below, above = [one for one in known if one < size], [one for one in known if one > size]
    return " or ".join(map(str, below[-1:] + above[:1]))


class AutoencoderTrainee(Trainee):
    """Pixel error in [-1, 1], perceptual error, noise on the latents, a small latent penalty; Adam, one cycle.

    Args:
        images: what is reconstructed.
        options: how.
        seed: fixes the first weights and every batch.
        fabric: the machine.
        config: shape of the network; default `style_config(images, options)`.
        features: images in [0, 1] to tensors, for the perceptual error; on the machine's device.
        compiled: see `Trainee`.

    Raises:
        UserError: a batch that cannot be shared out among the devices, or a size that `fit` does not take.
    """

    def __init__(
        self,
        images: ImageSet,
        options: FitOptions,
        seed: int,
        fabric: Fabric,
        config: StyleConfig | None = None,
        features: nn.Module | None = None,
        compiled: bool = False,
    ) -> None:
        if (features is not None) != (options.perceptual_weight > 0):
            raise UserError(f"--perceptual-weight {options.perceptual_weight}: goes together with --features")
        check_batch(fabric, "--fit-batch", options.fit_batch)
        options = options.begun(*images.shape[:2])
        config = config or style_config(images, options)
        with global_seed(seed):
            self.model = Autoencoder(config)
        if options.start == "photo":
            self.model.load_state_dict(load_autoencoder(Path("photo"))[0].state_dict())
        steps = options.steps(config.resolution)
        super().__init__(self.model, fabric, options.fit_lr, steps, betas=(0.9, 0.99), compiled=compiled)
        self.config, self.images, self.options, self.seed, self.features = config, images, options, seed, features
        self.own = own_part(fabric, options.fit_batch)

    def loss(self, step: int) -> Tensor:
        """Reconstruction error plus penalty on a random batch."""
        _, signed, noise_seed = self.batch(step)
        part = (self.options.fit_batch, self.own) if self.fabric.world_size > 1 else None
        noise = self.model.draw_noise(signed, self.options.latent_noise, noise_seed, part)
        decoded, size = self.wrapped(signed, *noise)
        return self.penalised_error(decoded, signed, size)

    def batch(self, step: int) -> tuple[Tensor, Tensor, int]:
        """Of this process's part of a step's batch the places in the image set `(B,)` and images `(B, C, H, W)` in
        [-1, 1]; and the seed of the noise on the whole batch's latents.
        """
        rng = generator(self.seed, "fit", step)
        index = torch.randint(len(self.images), (self.options.fit_batch,), generator=rng)[self.own]
        signed = (self.images.batch(index)[0] * 2 - 1).to(self.fabric.device)
        return index, signed, draw_seed(rng)

    def penalised_error(self, decoded: Tensor, signed: Tensor, size: Tensor) -> Tensor:
        """Error of reconstructions, and the penalty on the latents' mean square `size`."""
        return self.error(decoded, signed) + self.options.latent_penalty * size

    def error(self, decoded: Tensor, signed: Tensor) -> Tensor:
        """Of reconstructions: squared, absolute, perceptual."""
        total, l1 = F.mse_loss(decoded, signed), self.options.l1(signed.shape[-1])
        if l1:
            total = total + l1 * F.l1_loss(decoded, signed)
        if self.features is not None:
            total = total + self.options.perceptual_weight * perceptual_error(self.features, decoded, signed)
        return total


def perceptual_error(features: nn.Module, decoded: Tensor, signed: Tensor) -> Tensor:
    """Mean squared error of features, averaged over the layers, of images in [-1, 1] (Johnson et al., 2016)."""
    with eval_mode(features) as (network,):
        with torch.no_grad():
            wanted = network((signed + 1) / 2)
        found = network((decoded + 1) / 2)
    pairs = zip(found, wanted, strict=True) if isinstance(found, list) else [(found, wanted)]
    return torch.stack([F.mse_loss(*pair) for pair in pairs]).mean()


ERROR_IMAGES = 5000
"""Reconstructing more says nothing new, and takes minutes for photographs."""


@torch.no_grad()
def reconstruction_mse(model: Autoencoder, images: ImageSet, device: torch.device) -> float:
    """Mean squared error of reconstructions, in [-1, 1] units squared: of all images, or of `ERROR_IMAGES` that lie
    evenly in the set's order.
    """
    if len(images) > ERROR_IMAGES:
        images = images[torch.linspace(0, len(images) - 1, ERROR_IMAGES, dtype=torch.float64).long()]
    total = 0.0
    with track("reconstruct", len(images)) as advance:
        for part in slices(len(images), 256):
            signed = (images.batch(part)[0] * 2 - 1).to(device)
            total += float(F.mse_loss(model(signed)[0].clamp(-1, 1), signed)) * len(signed)
            advance(len(signed), "")
    return total / len(images)
