"""RandMix inside a DataLoader: mixes are drawn by the loader's worker processes, and the loop stays as it was.

advmix fit --out runs/fit
advmix encode --generator runs/fit --out runs/latents
python examples/randmix_loader.py        (about a minute on two cores)
"""

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset, default_collate

import advmix
from advmix import Latents, RandMix
from advmix.classifiers.networks import conv_net

parser = argparse.ArgumentParser()
parser.add_argument("--generator", default="runs/fit")
parser.add_argument("--latents", default="runs/latents")
parser.add_argument("--workers", type=int, default=2)
parser.add_argument("--start", choices=["fork", "spawn"], default=None, help="how workers begin; torch's choice")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()


class MixCollate:
    """A batch with its random mixes. No classifier is asked, so a worker needs neither it nor a GPU: generator and
    pool stay on the CPU. Donors are drawn from torch's random numbers, which a loader seeds in every worker.
    """

    def __init__(self, mixer: RandMix, pool: Latents) -> None:
        self.mixer, self.pool = mixer, pool

    def __call__(self, examples: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor, Tensor]:
        x, y, index = default_collate(examples)
        mix = self.mixer(None, self.pool[index], y, self.pool, exclude=index)
        return x, mix.images, y


def main() -> None:
    torch.manual_seed(0)
    parts = advmix.load(args.generator, args.latents)
    x, y = parts.data.train.batch(slice(None))
    loader = DataLoader(
        TensorDataset(x, y, torch.arange(len(y))),
        batch_size=64,
        shuffle=True,
        num_workers=args.workers,
        persistent_workers=args.workers > 0,
        multiprocessing_context=args.start,
        generator=torch.Generator().manual_seed(0),  # fixes the order, and the seed of every worker
        collate_fn=MixCollate(RandMix(parts.generator, parts.split), parts.pool),
    )
    classifier = conv_net(len(parts.data.train.classes))
    optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
    test_x, test_y = parts.data.test.batch(slice(None))
    for epoch in range(args.epochs):
        classifier.train()
        for x, mixed, y in loader:
            loss = 0.5 * F.cross_entropy(classifier(x), y) + 0.5 * F.cross_entropy(classifier(mixed), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        classifier.eval()
        with torch.no_grad():
            right = (classifier(test_x).argmax(1) == test_y).float().mean()
        print(f"epoch {epoch + 1}: loss {loss.item():.6f}, {right:.1%} right when the colours are shuffled")


if __name__ == "__main__":  # spawned workers read this file again
    main()
