"""AdvMix with a timm model and torchvision's transforms: augmented images are encoded anew.

advmix fit --out runs/fit
advmix encode --generator runs/fit --out runs/latents
python examples/timm_loop.py        (some minutes on two cores)
"""

import argparse

import timm
import torch
from torch.nn import functional as F
from torchvision.transforms import v2

import advmix
from advmix import AdvMix, Classifier
from advmix.data.images import epoch_batches

parser = argparse.ArgumentParser()
parser.add_argument("--generator", default="runs/fit")
parser.add_argument("--latents", default="runs/latents")
parser.add_argument("--model", default="resnet10t")
parser.add_argument("--size", type=int, default=32)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

torch.manual_seed(0)
torch.set_flush_denormal(True)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
parts = advmix.load(args.generator, args.latents, device)
train, test = parts.data.train, parts.data.test
mixer = AdvMix(parts.generator, parts.split, restarts=1, steps=2, step_size=0.25, radius=0.5)

# pretrained=True where weights can be fetched. `Classifier` resizes and normalises inside the network, so that the
# search goes through both, and everything out here stays in [0, 1] at the generator's size.
network = timm.create_model(args.model, pretrained=False, num_classes=len(train.classes))
wants = timm.data.resolve_model_data_config(network)  # type: ignore[no-untyped-call]
classifier = Classifier(network, mean=wants["mean"], std=wants["std"], size=args.size).to(device)

# Only what z∥ may decide (place, shape). What z⊥ holds (here: colour) is what the mixes vary already.
augment = v2.RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.9, 1.1))

optimizer = torch.optim.AdamW(classifier.parameters(), lr=2e-3, weight_decay=0.05)
for epoch in range(args.epochs):
    classifier.train()
    for index in epoch_batches(len(train), 64, seed=0, epoch=epoch):
        x, y = (tensor.to(device) for tensor in train.batch(index))
        x = torch.stack([augment(image) for image in x])
        latents = parts.encoder(x)  # pool[index] are those of the images before augmentation
        mix = mixer(classifier, latents, y, parts.pool, exclude=index)
        loss = 0.5 * F.cross_entropy(classifier(x), y) + 0.5 * F.cross_entropy(classifier(mix.images), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    with torch.no_grad():
        x, y = (tensor.to(device) for tensor in test.batch(slice(None)))
        right = (classifier(x).argmax(1) == y).float().mean()
    print(f"epoch {epoch + 1}: {right:.1%} right when the colours are shuffled")
