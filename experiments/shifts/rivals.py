"""The cheap rivals of mixing: augmentations of others, each as its paper has it unless it says where not.

Those that act inside a network are in `style_layers`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Beta, Dirichlet
from torch.nn import functional as F
from torchvision.transforms import v2

from advmix.data.images import to_bytes, to_float
from advmix.training.objectives import Augment, Batch, Objective, WithCopy
from advmix.utils.torch_tools import draw_seed, global_seed

Operation = tuple[str, float]
"""Its name in torchvision, and its magnitude."""


def jensen_shannon(logits: Sequence[Tensor]) -> Tensor:
    """How far several predictions `(B, K)` of the same images are from their mean: the mean of the Kullback-Leibler
    divergences, in nats, and over the images. The mean is at least 1e-7, as in AugMix's own code.
    """
    shares = [part.float().softmax(dim=1) for part in logits]
    mean = torch.stack(shares).mean(dim=0).clamp_min(1e-7).log()
    return torch.stack([F.kl_div(mean, share, reduction="batchmean") for share in shares]).mean()


class EachAugMix(v2.AugMix):  # type: ignore[misc]
    """torchvision's `AugMix` for a batch whose images each draw their own operations: there, a batch shares them.

    Equal operations are done at once on all images that they are drawn for, which is far faster than one by one.
    """

    def draw(self, count: int, height: int, width: int) -> list[list[Operation]]:
        """So many chains of one to three operations."""
        levels = {name: make(10, height, width) for name, (make, _) in self._AUGMENTATION_SPACE.items()}
        names = list(levels)

        def one(place: int, level: int, minus: bool) -> Operation:
            name = names[place]
            magnitude = 0.0 if levels[name] is None else float(levels[name][level])
            return name, -magnitude if minus and self._AUGMENTATION_SPACE[name][1] else magnitude

        drawn = zip(
            torch.randint(len(names), (3 * count,)).tolist(),
            torch.randint(self.severity, (3 * count,)).tolist(),
            (torch.rand(3 * count) < 0.5).tolist(),
            strict=True,
        )
        operations = [one(*numbers) for numbers in drawn]
        depths = torch.randint(1, 4, (count,)).tolist()
        return [operations[3 * place : 3 * place + depth] for place, depth in enumerate(depths)]

    def run(self, pixels: Tensor, chains: list[list[Operation]]) -> Tensor:
        """Images `(R, C, H, W)`, uint8, each after its chain."""
        pixels = pixels.clone()
        for step in range(3):
            rows = defaultdict(list)
            for row, chain in enumerate(chains):
                if step < len(chain):
                    rows[chain[step]].append(row)
            for (name, magnitude), some in rows.items():
                pixels[some] = self._apply_image_or_video_transform(
                    pixels[some], name, magnitude, self.interpolation, self._fill
                )
        return pixels

    def forward(self, pixels: Tensor) -> Tensor:
        """Images `(B, C, H, W)`, uint8, to floats in [0, 255], which are not rounded (torchvision's are)."""
        count, several = len(pixels), self.mixture_width
        chains = self.draw(count * several, *pixels.shape[2:])
        augmented = self.run(pixels.repeat_interleave(several, dim=0), chains).unflatten(0, (count, several))
        share = Beta(self.alpha, self.alpha).sample((count, 1))
        weights = Dirichlet(torch.full((several,), float(self.alpha))).sample((count,)) * share
        return torch.einsum("bs,bschw->bchw", weights, augmented.float()) + (1 - share)[..., None, None] * pixels


class AugMixConsistency(Objective):
    """`CE(f(x), y) + weight * JS(f(x), f(x'), f(x''))` with two AugMix copies of each image (Hendrycks et al.,
    "AugMix: a simple data processing method to improve robustness and uncertainty", 2020).

    The three are one batch to the classifier, as in the authors' code. The operations are torchvision's: also
    brightness, colour, contrast and sharpness, which the paper leaves out because it tests on them, and magnitudes of
    ten levels, of which a severity of 3 draws the lowest three.

    Args:
        weight: of the Jensen-Shannon divergence, at least 0.
        severity: of the operations, 1 to 10.
    """

    def __init__(self, weight: float = 12.0, severity: int = 3) -> None:
        self.weight, self.augment = weight, EachAugMix(severity)

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        pixels = to_bytes(batch.images.cpu()).contiguous()
        with global_seed(draw_seed(rng)):
            copies = to_float(self.augment(pixels.repeat(2, 1, 1, 1)))
        predictions = classifier(torch.cat([batch.images, copies.to(batch.images.device)])).chunk(3)
        return F.cross_entropy(predictions[0], batch.labels) + self.weight * jensen_shannon(predictions)


class TrivialAugment(Augment):
    """Cross-entropy on images after one random operation of random magnitude each (Müller and Hutter, "TrivialAugment:
    tuning-free yet state-of-the-art data augmentation", 2021): torchvision's `TrivialAugmentWide`.

    Args:
        clean_weight: see `WithCopy`; 0 is the paper's.
    """

    def __init__(self, clean_weight: float = 0.0) -> None:
        to_pixels, to_unit = v2.ToDtype(torch.uint8, scale=True), v2.ToDtype(torch.float32, scale=True)
        super().__init__(v2.Compose([to_pixels, v2.TrivialAugmentWide(), to_unit]), clean_weight)


class RandConv(Objective):
    """`CE(f(x1), y) + weight * JS(f(x1), f(x2), f(x3))` with three copies of each image, each after a random
    convolution of its own (Xu et al., "Robust and generalizable visual representation learning via random
    convolutions", 2021).

    A convolution has a random size and weights `N(0, 1 / (C * size^2))`, and is of an image that is centred on 0.5. The
    copy is `(1 - a) * x + a * conv(x)` with `a ~ U(0, 1)` (RC_mix), and is not clamped. Each copy is a batch of its own
    to the classifier. The authors' code has one convolution for a whole batch, and makes the second and third copy of
    the first one; here both are as in the paper's algorithm. With one for a batch, batch normalisation keeps a mean
    over batches that are unlike each other and unlike any image.

    The authors' RC_img with consistency has `mix=False, clean_share=0.5, weight=5`.

    Args:
        sizes: odd kernel sizes, in pixels.
        mix: whether a copy is mixed with its image.
        clean_share: probability that an image stays as it is, in [0, 1].
        weight: of the Jensen-Shannon divergence, at least 0.
    """

    def __init__(
        self, sizes: Sequence[int] = (1, 3, 5, 7), mix: bool = True, clean_share: float = 0.0, weight: float = 10.0
    ) -> None:
        self.sizes, self.mix, self.clean_share, self.weight = tuple(sizes), mix, clean_share, weight

    def copy(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """Of images `(B, C, H, W)` in [0, 1], around [0, 1]."""
        with torch.autocast(images.device.type, enabled=False):
            copies = torch.stack([self._convolved(image, rng) for image in images])
        return copies.contiguous(memory_format=torch.channels_last)

    def _convolved(self, image: Tensor, rng: torch.Generator) -> Tensor:
        if torch.rand((), generator=rng) < self.clean_share:
            return image
        size, channels = self.sizes[int(torch.randint(len(self.sizes), (), generator=rng))], len(image)
        kernel = torch.randn(channels, channels, size, size, generator=rng) / (channels * size**2) ** 0.5
        share = float(torch.rand((), generator=rng)) if self.mix else 1.0
        return torch.lerp(image, F.conv2d(image - 0.5, kernel.to(image), padding=size // 2) + 0.5, share)

    def __call__(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        predictions = [classifier(self.copy(batch.images, rng)) for _ in range(3)]
        return F.cross_entropy(predictions[0], batch.labels) + self.weight * jensen_shannon(predictions)


class DonorMixing(WithCopy):
    """The copy takes something of another image, for each image a random donor.

    Args:
        donors: `(N, C, H, W)`, uint8, of the size of the images. Where they are the training images, an image may be
            its own donor.
        clean_weight: see `WithCopy`.
        together: see `WithCopy`; here they are by default, as in `Mixing` of the studies.

    Raises:
        ValueError: donors of another type, or none; in a call: images of another size.
    """

    def __init__(self, donors: Tensor, clean_weight: float = 0.5, together: bool = True) -> None:
        super().__init__(clean_weight, together)
        if donors.dtype != torch.uint8 or donors.ndim != 4 or not len(donors):
            raise ValueError(f"donors {tuple(donors.shape)} of {donors.dtype}: uint8 images (N, C, H, W) are wanted")
        self.count, self.shape = len(donors), donors.shape[1:]

    def copy(self, classifier: nn.Module, batch: Batch, rng: torch.Generator) -> Tensor:
        """Of each image with something of its donor."""
        images = batch.images
        if images.shape[1:] != self.shape:
            raise ValueError(f"images of {tuple(images.shape[1:])}, but donors of {tuple(self.shape)}")
        donors = torch.randint(self.count, (len(images),), generator=rng)
        with torch.autocast(images.device.type, enabled=False):
            mixed = self.mixed(images, donors, rng)
        return mixed.contiguous(memory_format=torch.channels_last)

    @abstractmethod
    def mixed(self, images: Tensor, donors: Tensor, rng: torch.Generator) -> Tensor:
        """Images `(B, C, H, W)` in [0, 1] with something of the donors `(B,)`; the same shape and range."""


class FourierMixing(DonorMixing):
    """The donor's amplitudes of low frequencies, the image's phases (Yang and Soatto, "FDA: Fourier domain adaptation
    for semantic segmentation", 2020; Xu et al., "A Fourier-based framework for domain generalization", 2021).

    >>> FourierMixing(donors, clean_weight=0)                     # FDA: all of the amplitude, on mixed images alone
    >>> FourierMixing(donors, beta=0.5, interpolate=True)         # of FACT what is no teacher: all frequencies

    Args:
        donors: see `DonorMixing`.
        beta: frequencies up to this many waves per pixel, across and down, in [0, 0.5]: rounded down to whole waves of
            the shorter side. FDA: 0.01, 0.05 or 0.09; 0.5 are all.
        interpolate: whether a share of each amplitude comes from the donor, of each image another one, `U(0, 1)`;
            otherwise all of it.
        clean_weight: see `WithCopy`.
        together: see `WithCopy`; here they are by default, as in `Mixing` of the studies.
    """

    def __init__(
        self,
        donors: Tensor,
        beta: float = 0.09,
        interpolate: bool = False,
        clean_weight: float = 0.5,
        together: bool = True,
    ) -> None:
        super().__init__(donors, clean_weight, together)
        if not 0 <= beta <= 0.5:
            raise ValueError(f"beta must be between 0 and 0.5, not {beta}")
        height, width = donors.shape[2:]
        reach = int(min(height, width) * beta)
        down = (torch.arange(-reach, reach + 1) % height).unique()
        self.low = (..., down[:, None], torch.arange(min(reach, width // 2) + 1))
        self.amplitudes = torch.cat([torch.fft.rfft2(to_float(part))[self.low].abs() for part in donors.split(256)])
        self.interpolate = interpolate

    def mixed(self, images: Tensor, donors: Tensor, rng: torch.Generator) -> Tensor:
        """With the donors' amplitudes. What an image has nothing of has no phase, and stays away."""
        spectrum = torch.fft.rfft2(images.float())
        own, lent = spectrum[self.low], self.amplitudes[donors].to(images.device)
        if self.interpolate:
            share = torch.rand(len(images), 1, 1, 1, generator=rng).to(images.device)
            lent = torch.lerp(own.abs(), lent, share)
        spectrum[self.low] = own.sgn() * lent
        mixed: Tensor = torch.fft.irfft2(spectrum, s=images.shape[2:])
        return mixed.clamp(0, 1)


class HistogramMatching(DonorMixing):
    """Each channel with the donor's histogram (Gonzalez and Woods, "Digital image processing"; albumentations has it as
    an augmentation): the n-th darkest pixel becomes the donor's n-th darkest.

    Pixels that are equal stay equal and become the mean of what they would be one by one, so that what is flat stays
    flat; where no two are equal, the histogram is the donor's exactly, and the channel's mean always is.
    """

    def __init__(self, donors: Tensor, clean_weight: float = 0.5, together: bool = True) -> None:
        super().__init__(donors, clean_weight, together)
        self.ordered = donors.flatten(2).sort(dim=2).values

    def mixed(self, images: Tensor, donors: Tensor, rng: torch.Generator) -> Tensor:
        """With the donors' histograms."""
        pixels = to_bytes(images.cpu()).flatten(2).long()
        counts = pixels.new_zeros((*pixels.shape[:2], 256)).scatter_add_(2, pixels, torch.ones_like(pixels))
        ends = counts.cumsum(dim=2)
        sums = F.pad(self.ordered[donors].cumsum(dim=2), (1, 0))
        new = (sums.gather(2, ends) - sums.gather(2, ends - counts)) / (255 * counts.clamp_min(1))
        return new.gather(2, pixels).view(images.shape).to(images.device)
