"""Started by a test: ten steps of a tiny GAN in two processes, each of which leaves its weights in a folder."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from advmix.training.gan import GanTrainee
from advmix.training.loop import Loop
from advmix.utils.device import make_fabric
from tiny_gan import OPTIONS, SHAPE, pictures

if __name__ == "__main__":
    torch.set_num_threads(1)
    fabric = make_fabric("cpu", devices=2)
    trainee = GanTrainee(pictures(), OPTIONS, 0, fabric, SHAPE)
    loop = Loop("fit StyleGAN", 10, Path(sys.argv[1]), log_every=1)
    loop.train(trainee)
    state = {name: part for name, part in trainee.state_dict().items() if "optimizer" not in name}
    torch.save({"state": state, "history": loop.history}, Path(sys.argv[1]) / f"rank{fabric.global_rank}.pt")
