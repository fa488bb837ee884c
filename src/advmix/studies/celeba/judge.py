"""What is found about the classifiers of one seed, kept beside each of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from advmix.audit.comparison import WorstCaseKey, as_record
from advmix.audit.evaluate import predict
from advmix.audit.verdicts import verdicts
from advmix.config import to_dict
from advmix.data import ImageSet
from advmix.encoders import encoded
from advmix.files import read_tensors, write_tensors
from advmix.seeds import generator
from advmix.studies.celeba.bench import ALL, Bench

KIND = "celeba"


@dataclass(frozen=True, eq=False)
class Judge:
    """Judges the classifiers of a bench on its judged images, and on those of another source.

    Args:
        bench: with the classifiers.
        also: images of another source; None for none.
    """

    bench: Bench
    also: ImageSet | None = None

    def found_file(self, method: str) -> Path:
        """What is kept of a method on the judged images."""
        return self.bench.folder / method / f"{self.bench.config.judge}-found.safetensors"

    def also_file(self, method: str) -> Path:
        """The same of the other source."""
        assert self.also is not None
        return self.bench.folder / method / f"also-{self.also.fingerprint[:8]}-found.safetensors"

    def is_done(self, method: str) -> bool:
        """Whether a method was trained and judged on everything."""
        return self._is_judged(method) and (self.also is None or self.also_file(method).is_file())

    def _is_judged(self, method: str) -> bool:
        """On these images, by this search under this generator; what another one found is judged again."""
        path = self.found_file(method)
        there = path.is_file() and self.bench.has_generator(ALL)
        return there and self._circumstances().items() <= read_tensors(path, KIND)[1].items()

    def _circumstances(self) -> dict[str, str]:
        """What is found depends on beside the classifier."""
        config, judged, seed = self.bench.config, self.bench.faces.judged, self.bench.seed
        search = {**to_dict(config.evaluation()), "residual": config.baseline.residual, "seed": seed}
        key = WorstCaseKey(**self.bench.lent(), search=json.dumps(search), images=judged[self.searched()].fingerprint)
        return {"judged": judged.fingerprint, **as_record(key)}

    def do(self, method: str) -> None:
        """Train, unless that is done, and judge where it has not been judged."""
        self.bench.train(method)
        if not self._is_judged(method):
            self._judge(method)
        if self.also is not None and not self.also_file(method).is_file():
            network, _ = self.bench.classifier(method)
            found = answers(predict(network, self.also, self.bench.device), self.also)
            write_tensors(self.also_file(method), KIND, found, {"images": self.also.fingerprint})

    def _judge(self, method: str) -> None:
        """For each judged image, whether it is right, and for those that are searched what becomes of it: under the
        generator of all training images, whatever the method was trained with.
        """
        bench, config, rows = self.bench, self.bench.config, self.searched()
        images, (network, facts), (model, _) = bench.faces.judged, bench.classifier(method), bench.generator(ALL)
        pool, search = encoded(bench.faces.labelled, model.encoder), config.evaluation().mixer(model, stop_early=True)
        tried = verdicts(
            network,
            search,
            model.encoder,
            images[rows],
            pool,
            residual=config.baseline.residual,
            seed=bench.seed,
            title=f"seed {bench.seed}: worst case",
        )
        found = {**tried.tensors(), **answers(predict(network, images, bench.device), images), "searched": rows}
        seconds = {name: facts.get(name) for name in ("train_seconds", "encode_seconds")}
        write_tensors(self.found_file(method), KIND, found, {**self._circumstances(), **seconds})

    def searched(self) -> Tensor:
        """Which of the judged images are searched, the same for every method under every seed."""
        order = torch.randperm(len(self.bench.faces.judged), generator=generator(0, "celeba", "searched"))
        return order[: self.bench.config.worst_images].sort().values

    def found(self, method: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """What `do` kept of the judged images."""
        return read_tensors(self.found_file(method), KIND)

    def found_also(self, method: str) -> dict[str, Tensor]:
        """What `do` kept of the other source."""
        return read_tensors(self.also_file(method), KIND)[0]


def answers(probabilities: Tensor, images: ImageSet) -> dict[str, Tensor]:
    """Class probabilities `(N, K)`, and whether the largest is that of the label."""
    return {"probabilities": probabilities, "right": probabilities.argmax(dim=1) == images.labels}
