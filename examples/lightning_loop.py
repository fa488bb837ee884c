"""AdvMix in Lightning: a `LightningModule`, and nothing else of ours in the way.

advmix fit --out runs/fit
advmix encode --generator runs/fit --out runs/latents
python examples/lightning_loop.py        (about a minute on two cores)
"""

import argparse

import lightning
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import advmix
from advmix import AdvMix
from advmix.classifiers.networks import conv_net
from advmix.data.images import ImageSet
from advmix.pools import FittedModel

parser = argparse.ArgumentParser()
parser.add_argument("--generator", default="runs/fit")
parser.add_argument("--latents", default="runs/latents")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()


class Robust(lightning.LightningModule):
    """A mixer and a pool are no modules: Lightning neither trains nor saves them, and does not move them either."""

    def __init__(self, parts: FittedModel, classes: int) -> None:
        super().__init__()
        self.classifier = conv_net(classes)
        self.mixer = AdvMix(parts.generator, parts.split, restarts=1, steps=2, step_size=0.25, radius=0.5)
        self.pool = parts.pool

    def on_fit_start(self) -> None:
        self.mixer.generator.to(self.device)
        self.pool = self.pool.to(self.device)

    def training_step(self, batch: list[Tensor]) -> Tensor:
        x, y, index = batch
        mix = self.mixer(self.classifier, self.pool[index], y, self.pool, exclude=index)
        clean, mixed = F.cross_entropy(self.classifier(x), y), F.cross_entropy(self.classifier(mix.images), y)
        self.log_dict({"clean": clean, "mixed": mixed}, prog_bar=True)
        return 0.5 * clean + 0.5 * mixed

    def validation_step(self, batch: list[Tensor]) -> None:
        x, y, _ = batch
        self.log("right", (self.classifier(x).argmax(1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.classifier.parameters(), lr=1e-3)


lightning.seed_everything(0)
torch.set_flush_denormal(True)
parts = advmix.load(args.generator, args.latents)


def loader(images: ImageSet, shuffle: bool) -> DataLoader[tuple[Tensor, ...]]:
    """Images in [0, 1], labels, and each example's place in the pool."""
    x, y = images.batch(slice(None))
    return DataLoader(TensorDataset(x, y, torch.arange(len(y))), batch_size=64, shuffle=shuffle)


trainer = lightning.Trainer(max_epochs=args.epochs, logger=False, enable_checkpointing=False)
model = Robust(parts, classes=len(parts.data.train.classes))
trainer.fit(model, loader(parts.data.train, shuffle=True), loader(parts.data.test, shuffle=False))
print(f"{trainer.callback_metrics['right']:.1%} right when the colours are shuffled")
