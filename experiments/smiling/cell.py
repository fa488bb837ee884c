"""Folders of the runs: `--cells/smiling-NETWORK-SIZE-LABELS-seedN/METHOD`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet
from advmix.metrics import Evaluation, evaluate_latents, predict
from advmix.mixing import WORST_CASE, AdvMix
from advmix.transforms import open_styles
from advmix.utils.device import open_device
from advmix.utils.errors import naming
from advmix.utils.files import read_json, read_tensors, write_json, write_tensors
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import answers, generator
from experiments.faces.cell import CELLS, CLASSIFIER
from experiments.faces.dataset import Faces
from experiments.jobs import Job
from experiments.smiling.settings import CONSISTENCY, ConsistencyOptions, RunOptions, SmilingConfig
from experiments.smiling.training import Training, epochs_of, make_network, make_objective


@dataclass(frozen=True)
class SmilingPart:
    """What a run is made with; consistency is None where there is none."""

    network: str
    method: str
    run: RunOptions
    consistency: ConsistencyOptions | None
    jitter: float
    seed: int
    out: Path


@dataclass(frozen=True, eq=False)
class SmilingCell:
    """All runs of one seed.

    Args:
        config: of the study.
        seed: fixes them.
        faces: labelled, unlabelled, and those that judge.
        choose: that choose how long a run is trained.
    """

    config: SmilingConfig
    seed: int
    faces: Faces
    choose: ImageSet

    @cached_property
    def folder(self) -> Path:
        """Of the seed."""
        config = self.config
        return config.cells / (
            f"smiling-{config.network}-{config.target}-{config.labelled}-{config.size}px-seed{self.seed}"
        )

    @cached_property
    def device(self) -> torch.device:
        """Of all networks."""
        return open_device(self.config.device)

    def found_file(self, method: str) -> Path:
        """What is known of a run."""
        return self.folder / method / f"{self.config.judge}.json"

    def job(self, method: str) -> Job:
        """A run: trained and judged."""
        lock, done = self.folder / f".{method}.lock", self.found_file(method).is_file
        return Job(f"seed {self.seed}: {method}", lock, lambda: True, done, partial(self.do, method))

    def do(self, method: str) -> None:
        """Train, unless that was done, and judge."""
        config, out = self.config, self.folder / method
        consistency = config.consistency if CONSISTENCY in method else None
        part = SmilingPart(config.network, method, config.run, consistency, config.jitter, self.seed, out)
        inputs = {name: getattr(self.faces, name).fingerprint for name in ("labelled", "unlabelled")}
        with naming(CELLS):
            claim_run(out, "study smiling: run", part, True, {**inputs, "choose": self.choose.fingerprint})
        if not (out / CLASSIFIER).is_file():
            self._train(method)
        network, facts = self._trained(method)
        write_json(self.found_file(method), {"method": method, "seed": self.seed, **facts, **self._judged(network)})

    def _train(self, method: str) -> None:
        images = self.faces.labelled
        network = make_network(self.config, method, self.seed, len(images.classes)).to(self.device)
        objective = make_objective(self.config, method, self.faces)
        training = Training(network, objective, images, self.config.run, self.seed, self.device)
        found = training.best(self.choose)
        facts = {**found.facts(), "epochs": epochs_of(found.step, len(images), self.config.run)}
        write_tensors(self.folder / method / CLASSIFIER, "classifier", found.network.state_dict(), facts)

    def _trained(self, method: str) -> tuple[nn.Module, dict[str, Any]]:
        tensors, facts = read_tensors(self.folder / method / CLASSIFIER, "classifier")
        network = make_network(self.config, method, self.seed, len(self.faces.labelled.classes))
        network.load_state_dict(tensors)
        return network.to(self.device).eval(), facts

    def _judged(self, network: nn.Module) -> dict[str, Any]:
        """Places of the judged images that are classified wrongly, and among those that are searched, of the ones that
        are wrong as they are or under any candidate.
        """
        judged, rows = self.faces.judged, self.searched()
        right = answers(predict(network, judged, self.device)) == judged.labels
        tried = self._searched(network, judged[rows])
        return {"wrong": places(~right), "wrong_worst": places(~tried.right_worst_case)}

    def _searched(self, network: nn.Module, images: ImageSet) -> Evaluation:
        """The worst case in the styles of unlabelled images; everything on the device."""
        styles = open_styles(self.faces.unlabelled).copied(self.device)
        assert styles.pool is not None
        search = AdvMix(styles.generator, styles.split, WORST_CASE, stop_early=True)
        latents = styles.encode(images.batch(slice(None))[0].to(self.device))
        labels, pool = images.labels.to(self.device), styles.pool.to(self.device)
        return evaluate_latents(network, search, latents, labels, pool, seed=self.seed)

    def searched(self) -> Tensor:
        """Which of the judged images are searched: the same for every run."""
        order = torch.randperm(len(self.faces.judged), generator=generator(0, "smiling", "searched"))
        return order[: self.config.worst_images].sort().values

    def found(self, method: str) -> dict[str, Any]:
        """What `do` kept."""
        found: dict[str, Any] = read_json(self.found_file(method))
        return found


def places(which: Tensor) -> list[int]:
    """Of a boolean vector, where it is true."""
    found: list[int] = which.nonzero()[:, 0].tolist()
    return found
