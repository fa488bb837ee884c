"""Started by a test: an audit in two processes."""

from __future__ import annotations

import sys

import torch

from advmix.cli import main

if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
