"""AdvMix in a training loop of your own: no trainer of ours, plain PyTorch from the first line to the last.

python examples/plain_loop.py        (about a minute on two cores)
"""

import argparse

import torch
from torch import nn
from torch.nn import functional as F

from advmix import AdvMix, Latents, Split
from advmix.data.colored import ColoredDigits
from advmix.data.settings import DataConfig
from advmix.encoders.network import StyleEncoder
from advmix.generators.style import StyleConfig, StyleGenerator

parser = argparse.ArgumentParser()
parser.add_argument("--fit-steps", type=int, default=600)
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

torch.manual_seed(args.seed)
torch.set_flush_denormal(True)

# Digits whose colour gives them away in training; in the test the colours are shuffled.
digits = ColoredDigits(DataConfig(color_std=0.1), seed=args.seed)
images, labels = digits.train.batch(slice(None))  # (1297, 3, 16, 16) in [0, 1], (1297,)
test_images, test_labels = digits.shuffled.batch(slice(None))

# 1. A style generator and its encoder, trained together on the biased images alone.
config = StyleConfig(resolution=16, widths=(64, 64, 32))
generator, encoder = StyleGenerator(config), StyleEncoder(config)
optimizer = torch.optim.Adam([*generator.parameters(), *encoder.parameters()], betas=(0.9, 0.99))
schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=args.fit_steps)
for step in range(args.fit_steps):
    signed = images[torch.randint(len(images), (64,))] * 2 - 1
    code = encoder.encode_signed(signed).styles
    decoded = generator.decode_signed(Latents(code + 0.1 * torch.randn_like(code)))
    loss = F.mse_loss(decoded, signed) + 1e-3 * code.square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    if step % 100 == 0:
        print(f"generator, step {step}: error {loss.item():.4f}")

# 2. The pool: everybody's latents. The two finest layers are z⊥, the rest is z∥.
with torch.no_grad():
    pool = encoder(images)
mixer = AdvMix(generator, Split.fine(generator.layers, 2), restarts=1, steps=2, step_size=0.25, radius=0.5)

# 3. Any classifier, any optimiser, any loop: three lines are ours.
classifier = nn.Sequential(
    *(nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()),
    *(nn.Conv2d(32, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
    *(nn.Conv2d(64, 128, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(128), nn.ReLU()),
    *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, 10)),
)
optimizer = torch.optim.Adam(classifier.parameters(), lr=1e-3)
for epoch in range(args.epochs):
    for index in torch.randperm(len(images)).split(64):
        x, y = images[index], labels[index]
        mix = mixer(classifier, pool[index], y, pool, exclude=index)
        loss = 0.5 * F.cross_entropy(classifier(x), y) + 0.5 * F.cross_entropy(classifier(mix.images), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    classifier.eval()
    with torch.no_grad():
        accuracy = (classifier(test_images).argmax(1) == test_labels).float().mean()
    classifier.train()
    print(f"epoch {epoch + 1}: {accuracy:.1%} right when the colours are shuffled")
