"""RandomStyle as one line among torchvision's transforms: no generator to fit, no latents on disk, the loop as it was.

python examples/random_style.py        (about a minute on two cores)
"""

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from advmix.classifiers.networks import conv_net
from advmix.data.colored import ColoredDigits
from advmix.data.images import ImageSet
from advmix.data.settings import DataConfig
from advmix.transforms import RandomStyle

parser = argparse.ArgumentParser()
parser.add_argument("--p", type=float, default=0.5, help="probability that an image gets another's style")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()


class Images(Dataset[tuple[Tensor, int]]):
    """As a folder of images is read: each one goes through the transforms."""

    def __init__(self, images: ImageSet, transform: v2.Transform) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        return self.transform(self.images.pixels[place]), int(self.images.labels[place])


def main() -> None:
    torch.manual_seed(0)
    # Digits whose colour gives them away in training; in the test the colours are shuffled.
    digits = ColoredDigits(DataConfig(color_std=0.1), seed=0)
    augment = v2.Compose(
        [
            v2.RandomAffine(degrees=10, translate=(0.1, 0.1)),
            RandomStyle(p=args.p, pool=digits.train),  # or a folder of images without labels: pool="new-site/"
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
    plain = v2.ToDtype(torch.float32, scale=True)
    rng = torch.Generator().manual_seed(0)  # fixes the order, and the seed of every worker
    train = DataLoader(Images(digits.train, augment), 64, shuffle=True, num_workers=args.workers, generator=rng)
    test = DataLoader(Images(digits.shuffled, plain), 250)
    classifier = conv_net(10)
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    for epoch in range(args.epochs):
        classifier.train()
        for x, y in train:
            loss = F.cross_entropy(classifier(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        classifier.eval()
        with torch.no_grad():
            right = torch.cat([classifier(x).argmax(1) == y for x, y in test]).float().mean()
        print(f"epoch {epoch + 1}: {right:.1%} right when the colours are shuffled")


if __name__ == "__main__":  # spawned workers read this file again
    main()
