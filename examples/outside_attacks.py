"""Attacks both ways: our search in evaluation code that is written for foolbox, and foolbox's PGD beside it.

advmix fit --out runs/fit
advmix encode --generator runs/fit --out runs/latents
advmix train --method nominal --out runs/nominal
python examples/outside_attacks.py --classifier runs/nominal        (seconds)
"""

import argparse

import foolbox
import torch

import advmix
from advmix import AdvMix
from advmix.attacks import FoolboxAttack, MixAttack, right_attacked, to_foolbox
from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions

parser = argparse.ArgumentParser()
parser.add_argument("--generator", default="runs/fit")
parser.add_argument("--latents", default="runs/latents")
parser.add_argument("--classifier", default="runs/nominal")
parser.add_argument("--images", type=int, default=200)
args = parser.parse_args()

parts = advmix.load(args.generator, args.latents)
classifier = open_classifier(ClassifierOptions(args.classifier)).network  # any module, images in [0, 1] to logits
test = parts.data.test[: args.images]

# The search as a function (model, x, y) -> x, images in [0, 1].
mixer = AdvMix(parts.generator, parts.split, restarts=5, steps=5, stop_early=True)
search = MixAttack(mixer, parts, rng=torch.Generator().manual_seed(0))

# 1. Ours in their harness. epsilons=None: what it finds is bounded by other images' z⊥, not by a distance.
x, y = test.batch(slice(None))
fmodel = foolbox.PyTorchModel(classifier, bounds=(0, 1), device="cpu")
_, attacked, success = to_foolbox(search)(fmodel, x, y, epsilons=None)
print(f"foolbox: right on {foolbox.accuracy(fmodel, x, y):.1%}, after our search on {1 - success.float().mean():.1%}")

# 2. Theirs in ours. The same by name: advmix audit --attack foolbox:LinfPGD --attack-args '{"epsilon": 0.03}'
for attack in (search, FoolboxAttack(foolbox.attacks.LinfPGD(steps=20), epsilon=0.03)):
    right = right_attacked(classifier, attack, test, torch.device("cpu")).double().mean()
    print(f"advmix: right as they are and under the attack on {right:.1%}: {attack}")
