"""Styles of other images as data augmentation: one line in a list of transforms, or one in a training loop.

>>> v2.Compose([v2.ToImage(), RandomStyle(p=0.5, pool="new-site/"), v2.ToDtype(torch.float32, scale=True)])
>>> worse = AdversarialStyle(pool="new-site/")(model, images, labels)

Images are encoded when they come, so that there is no index and nothing on the disk.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import PIL.Image
import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from advmix.attacks import MixAttack
from advmix.data.images import ImageSet, to_bytes, to_float
from advmix.data.photos.decode import PhotoShape
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder
from advmix.encoders.network import Encoder, check_side
from advmix.encoders.store import INDEX, PHOTOS, PoolOptions
from advmix.generators.base import Generator
from advmix.generators.style import NetworkConfig
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix, Search, cross_entropy, draw_donors, usual_split
from advmix.pools import FittedModel, load, open_generator, pool_members
from advmix.utils.errors import UserError
from advmix.utils.memory import in_parts
from advmix.utils.torch_tools import eval_mode

Pool = str | Path | Tensor | ImageSet | Latents | FittedModel
"""Where styles are borrowed from: see `open_styles`."""


ON_CPU = 16
"""Images that are mixed at once on a CPU: more do not fit its caches."""

SLACK = 0.25
"""How far pixels may lie outside [0, 1], as after a bicubic resize; normalised images lie further."""


@dataclass(eq=False)
class StylePool:
    """Styles that are borrowed, and the networks that put them into images.

    Attributes:
        generator: `dec`, frozen.
        encoder: `enc`, frozen.
        split: which layers are z⊥.
        pool: styles alone; None where the images of a batch are each other's donors.
    """

    generator: Generator
    encoder: Encoder
    split: Split
    pool: Latents | None
    _copies: dict[torch.device, StylePool] = field(default_factory=dict, init=False, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        """As it is on the CPU: what the workers of a loader are sent."""
        return {**self.__dict__, "_copies": {}}

    def on(self, device: torch.device) -> StylePool:
        """The same on the device of the images, copied once."""
        if device.type == "cpu":
            return self
        if device not in self._copies:
            self._copies[device] = self.copied(device)
        return self._copies[device]

    def copied(self, device: torch.device | str) -> StylePool:
        """A copy on a device."""
        generator, encoder = deepcopy((self.generator, self.encoder))
        pool = None if self.pool is None else self.pool.to(device)
        return StylePool(generator.to(device).eval(), encoder.to(device).eval(), self.split, pool)

    def check(self, images: Tensor) -> None:
        """Refuse images that cannot be mixed; `(B, C, H, W)`, uint8 or floating in [0, 1], are wanted.

        Raises:
            UserError: saying why.
        """
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise UserError(f"images of {images.dtype}: styles are for uint8, or floating numbers in [0, 1]")
        if images.ndim != 4:
            raise UserError(f"images of shape {tuple(images.shape)}: (B, C, H, W), or one (C, H, W), are wanted")
        dec, (channels, height, width) = self.generator, images.shape[1:]
        if channels != dec.channels:
            raise UserError(
                f"images of {channels} channels, but styles of {dec.channels}; convert them, or name "
                f"channels={channels} (of statistics)"
            )
        if dec.any_size:
            check_side(images)
        elif (height, width) != (dec.resolution, dec.resolution):
            size = dec.resolution
            raise UserError(f"images of {width}x{height} pixels, but the generator draws {size}x{size}; resize them")
        if images.is_floating_point() and len(images):
            low, high = (float(value) for value in images.detach().aminmax())
            if not (low >= -SLACK and high <= 1 + SLACK):
                raise UserError(f"images from {low:g} to {high:g}: styles are for [0, 1]; normalise after them")

    def encode(self, images: Tensor) -> Latents:
        """Latents of images `(B, C, H, W)` in [0, 1]."""
        with eval_mode(self.encoder):
            latents: Latents = self.encoder(images)
        return latents

    @torch.no_grad()
    def styles_of(self, images: Tensor) -> Latents:
        """The styles of images as `check` wants them, encoded a batch at a time."""
        self.check(images)
        if not len(images):
            raise UserError("no images; name a pool that has some")
        found = in_parts(lambda rows: self.encode(floats(images[rows])).styles, len(images), images.device)
        return Latents(torch.cat(found))

    @torch.no_grad()
    def mixed(self, images: Tensor, rows: Tensor, donors: Tensor, strengths: Tensor) -> Tensor:
        """Some of the images in other styles.

        Args:
            images: `(B, C, H, W)`, uint8 or floating in [0, 1].
            rows: `(R,)`, which of them.
            donors: `(R,)`, members of the pool.
            strengths: `(R,)`, how far towards the donor's style, in [0, 1].

        Returns:
            `(R, C, H, W)`, float32 in [0, 1].
        """
        styles = (self.styles_of(images) if self.pool is None else self.pool).styles
        at_once = ON_CPU if images.device.type == "cpu" else len(rows)
        parts = zip(*(part.split(at_once) for part in (rows, donors, strengths)), strict=True)
        return torch.cat([self._mix(floats(images[some]), Latents(styles[lent]), far) for some, lent, far in parts])

    def _mix(self, images: Tensor, donors: Latents, strengths: Tensor) -> Tensor:
        latents = self.generator.complete(self.encode(images), images)
        own, lent = self.split.perp_of(latents), self.split.perp_of(donors)
        with eval_mode(self.generator):
            state = self.generator.prefix(latents, self.split)
            return self.generator.render(state, torch.lerp(own, lent, strengths[:, None]))


def floats(images: Tensor) -> Tensor:
    """uint8, or floating in [0, 1], to float32 in [0, 1]."""
    return to_float(images) if images.dtype == torch.uint8 else images.float().clamp(0, 1)


def open_styles(
    pool: Pool | None,
    generator: str | Path = "statistics",
    *,
    perp: Sequence[int] = (),
    pool_images: int = 2000,
    working_size: int | None = None,
    **shape: Any,
) -> StylePool:
    """Whose styles are borrowed, and what puts them into images.

    Args:
        pool: a folder or .zip file of images without labels, `torchvision:NAME` or `hf:NAME`; `photos`, a shipped pool
            of free photographs; a folder that `advmix encode` wrote; images `(N, C, H, W)`, uint8 or floating in
            [0, 1], or an `ImageSet`; `Latents` of the generator; a `FittedModel`, which has a generator of its own.
            None: the other images of the batch.
        generator: `statistics`, `statistics:KIND`, `photo`, or a folder that `fit` wrote.
        perp: layers that are z⊥, as in `SearchOptions`; by default the usual ones.
        pool_images: at most so many images of a folder, drawn at random, the same ones each time.
        working_size: of `photo`, as in `PoolOptions`.
        shape: fields of `PhotoShape`: `channels` of all images, 3 by default; how a folder is read, with `size` (64
            pixels by default), `crop`, `skip_broken`.

    Raises:
        UserError: no such pool or generator, or two that do not go together.
    """
    options, flags = PoolOptions(None, pool_images, working_size), DataConfig(data="", photos=PhotoShape(**shape))
    networks: FittedModel | Autoencoder
    if isinstance(pool, str | Path) and (str(pool) == PHOTOS or (Path(pool) / INDEX).is_file()):
        pool = load(generator, pool, options=options, channels=flags.photos.channels)
    if isinstance(pool, FittedModel):
        networks, config, pool = pool, pool.model.config, pool.pool
    else:
        networks, _ = open_generator(Path(generator), flags, options)
        config = networks.config
    split = usual_split(tuple(perp), False, config)
    styles = StylePool(networks.generator, networks.encoder, split, None).copied("cpu")
    if isinstance(pool, str | Path):
        pool = pool_members(replace(options, pool=str(pool)), flags, None, styles.generator, seed=0).images
    return styles if pool is None else replace(styles, pool=_borrowed(pool, styles, config))


def _borrowed(pool: Tensor | ImageSet | Latents, styles: StylePool, config: NetworkConfig) -> Latents:
    if isinstance(pool, ImageSet):
        pool = pool.pixels
    if isinstance(pool, Tensor):
        try:
            pool = styles.styles_of(pool.cpu())
        except UserError as error:
            raise UserError(f"pool: {error}") from error
    if not isinstance(pool, Latents):
        raise UserError(f"pool: of type {type(pool).__name__}; name a folder of images, images, latents, or {PHOTOS}")
    found, wanted = tuple(pool.styles.shape[1:]), (config.layers, config.style_dim)
    if found != wanted:
        raise UserError(f"pool: styles of {found}, but those of this generator are {wanted}; encode the pool with it")
    lent = Latents(pool.styles.detach().to("cpu", torch.float32))
    if not len(lent) or len(lent.not_finite):
        raise UserError(f"pool: {len(lent.not_finite):,} of {len(lent):,} styles are not finite; encode it again")
    return lent


class RandomStyle(v2.Transform):  # type: ignore[misc]
    """The style of a random member of a pool, for each image by itself: light, colour, contrast. Content stays.

    >>> augment = RandomStyle(p=0.5, pool="new-site/")       # another hospital, camera, season; no labels needed
    >>> augment(image), augment(batch)                       # (C, H, W) or (B, C, H, W)

    Images are uint8, or floating in [0, 1], or of Pillow; of any size from 16 pixels. It stands before `v2.Normalize`.
    What comes back has the same type, shape and device, and no gradient. Boxes, masks, labels, videos pass unchanged.
    Random numbers are torch's global ones, as in all transforms of torchvision.

    Args:
        p: probability that an image is changed, in [0, 1].
        pool: whose styles are borrowed, see `open_styles`; by default those of free photographs. None: of the other
            images of the batch; a batch of one stays as it is.
        strength: how far towards the borrowed style, in [0, 1]; or two ends, between which it is drawn for each image.
        generator: `statistics`, `statistics:KIND`, `photo`, or a folder that `fit` wrote.
        settings: of `open_styles`: `channels`, `size`, `perp`, `pool_images` and others.

    Raises:
        UserError: a value out of range, no such pool or generator; in a call: images that cannot be mixed.
    """

    def __init__(
        self,
        p: float = 0.5,
        pool: Pool | None = PHOTOS,
        strength: float | tuple[float, float] = 1.0,
        generator: str | Path = "statistics",
        **settings: Any,
    ) -> None:
        super().__init__()
        ends = tuple(strength) if isinstance(strength, tuple | list) else (strength, strength)
        if not _is_share(p):
            raise UserError(f"p={p}: must be a number between 0 and 1")
        if len(ends) != 2 or not all(map(_is_share, ends)) or ends[0] > ends[1]:
            raise UserError(f"strength={strength}: must be between 0 and 1, or two such numbers, the lower one first")
        self.p, self.strength = p, ends
        self._styles = open_styles(pool, generator, **settings)

    def extra_repr(self) -> str:
        pool, generator = self._styles.pool, type(self._styles.generator).__name__
        lenders = "the batch" if pool is None else f"{len(pool):,} styles"
        return f"p={self.p}, pool={lenders}, strength={self.strength}, generator={generator}"

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """What is drawn for a sample of `count` images: `rows` `(R,)`, that change, their `donors` and `strengths`."""
        first = next((part for part in flat_inputs if _is_image(part)), None)
        if first is None:
            return {}
        pool, is_batch = self._styles.pool, isinstance(first, Tensor) and first.ndim == 4
        if pool is None and not is_batch:
            raise UserError("pool=None borrows from the other images of a batch; name a pool for single images")
        count = len(first) if is_batch else 1
        exclude = torch.arange(count) if pool is None else None
        chosen = torch.rand(count) < self.p
        if pool is None and count < 2:
            donors, chosen = torch.zeros(count, dtype=torch.int64), torch.zeros(count, dtype=torch.bool)
        else:
            donors = draw_donors((1, count), count if pool is None else len(pool), exclude, None)[0]
        low, high = self.strength
        strengths = low + (high - low) * torch.rand(count)
        rows = (chosen & (strengths > 0)).nonzero()[:, 0]
        return {"rows": rows, "donors": donors[rows], "strengths": strengths[rows], "count": count}

    @torch.no_grad()
    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """One part of a sample."""
        if not _is_image(inpt):
            return inpt
        if isinstance(inpt, PIL.Image.Image):
            return F.to_pil_image(self.transform(_pixels(inpt), params))
        images = inpt.as_subclass(Tensor)
        batch = images if images.ndim == 4 else images[None]
        styles = self._styles.on(batch.device)
        styles.check(batch)
        if len(batch) != params["count"]:
            raise UserError(f"images of one sample: {len(batch)} and {params['count']}; as many of each are wanted")
        rows, donors, strengths = (params[name].to(batch.device) for name in ("rows", "donors", "strengths"))
        if not len(rows):
            return inpt
        with torch.autocast(batch.device.type, enabled=False):
            mixed = styles.mixed(batch, rows, donors, strengths)
        changed = batch.index_copy(0, rows, to_bytes(mixed) if batch.dtype == torch.uint8 else mixed.to(batch.dtype))
        return tv_tensors.wrap(changed if images.ndim == 4 else changed[0], like=inpt)


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and 0 <= value <= 1


def _is_image(part: Any) -> bool:
    return isinstance(part, PIL.Image.Image | tv_tensors.Image) or F.is_pure_tensor(part)


def _pixels(image: PIL.Image.Image) -> Tensor:
    if image.mode not in ("RGB", "L"):
        raise UserError(f"a picture of mode {image.mode}: styles are for RGB or L; convert it")
    pixels: Tensor = F.pil_to_tensor(image)
    return pixels


class AdversarialStyle:
    """The styles near those of a pool that hurt a classifier most, for a training loop: AdvMix in one line.

    >>> adversarial = AdversarialStyle(pool="new-site/")
    >>> worse = adversarial(model, images, labels)
    >>> loss = 0.5 * F.cross_entropy(model(images), labels) + 0.5 * F.cross_entropy(model(worse), labels)

    Args:
        pool: whose styles are borrowed, see `open_styles`; by default those of free photographs. None: of the other
            images of the batch; a batch of one stays as it is.
        generator: `statistics`, `statistics:KIND`, `photo`, or a folder that `fit` wrote.
        search: restarts, steps, strength and others; by default one restart of two steps.
        settings: of `open_styles`: `channels`, `size`, `perp`, `pool_images` and others.

    Raises:
        UserError: no such pool or generator; in a call: images that cannot be mixed.
    """

    def __init__(
        self,
        pool: Pool | None = PHOTOS,
        generator: str | Path = "statistics",
        search: Search | None = None,
        **settings: Any,
    ) -> None:
        self.search = search or Search()
        self._styles = open_styles(pool, generator, **settings)

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        """See `advmix.attacks.Attack`.

        Args:
            model: images in [0, 1] to logits `(B, classes)`. In eval mode for the search; its mode comes back after it,
                and no gradients stay.
            images: `(B, C, H, W)`, floating in [0, 1].
            labels: `(B,)`, class indices.
        """
        styles = self._styles.on(images.device)
        styles.check(images)
        if not images.is_floating_point():
            raise UserError(f"images of {images.dtype}: a classifier is shown floating numbers in [0, 1]")
        if len(images) < (2 if styles.pool is None else 1):
            return images
        mixer = AdvMix(styles.generator, styles.split, self.search)
        attack = MixAttack(mixer, styles, loss=cross_entropy)
        return attack(model, floats(images), labels).to(images.dtype)
