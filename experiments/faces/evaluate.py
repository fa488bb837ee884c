"""What becomes of a classifier's answers: on images as they are, as the generator draws them, mixed at random, and
under the search.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from advmix.audit.results import WorstCaseKey, as_record
from advmix.data.images import ImageSet, slices
from advmix.encoders.network import Encoder, encoded
from advmix.latents import Latents
from advmix.metrics import answer_latents, evaluate_latents, predict
from advmix.mixing import AdvMix
from advmix.utils.config import to_dict
from advmix.utils.files import read_tensors, write_tensors
from advmix.utils.torch_tools import answers, generator
from experiments.faces.cell import ALL, Bench

BATCH = 250


@dataclass(frozen=True, eq=False)
class Verdicts:
    """Whether each of N images is classified rightly, `(N,)` booleans on the CPU.

    Attributes:
        right: as it is.
        right_reconstruction: encoded and decoded: what is lost here is the generator's fault.
        right_mixed: with the z⊥ of one other image, drawn at random.
        right_worst: on itself as it goes into the search, and on every candidate of the search.
    """

    right: Tensor
    right_reconstruction: Tensor
    right_mixed: Tensor
    right_worst: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name."""
        return dict(vars(self))


def verdicts(
    classifier: nn.Module,
    search: AdvMix,
    encoder: Encoder,
    images: ImageSet,
    pool: Latents,
    *,
    residual: bool = True,
    seed: int = 0,
    title: str = "worst case",
) -> Verdicts:
    """Try a classifier on every image.

    Args:
        classifier: images in [0, 1] to logits.
        search: the search, with the generator; all networks and `pool` are on one device.
        encoder: of the images.
        images: none of which is in the pool.
        pool: whose `z⊥` are borrowed.
        residual: whether mixes keep what the generator cannot draw of an image.
        seed: of the donors; the same ones for every classifier.
        title: of the progress bar.
    """
    device, dec = pool.styles.device, search.generator
    reconstructed = latents = encoded(images, encoder)
    labels = images.labels.to(device)
    if residual:
        pixels = images.batch(slice(None))[0].to(device)
        latents = Latents.cat([dec.complete(latents[part], pixels[part]) for part in slices(len(images), BATCH)])
    found = evaluate_latents(classifier, search, latents, labels, pool, seed=seed, title=title)
    seen = answer_latents(classifier, dec, reconstructed)
    right = answers(predict(classifier, images, device)) == images.labels
    return Verdicts(right, seen == images.labels, found.right_random_mix, found.right_worst_case)


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
            found = answer_columns(predict(network, self.also, self.bench.device), self.also)
            write_tensors(self.also_file(method), KIND, found, {"images": self.also.fingerprint})

    def _judge(self, method: str) -> None:
        """For each judged image, whether it is right, and for those that are searched what becomes of it: under the
        generator of all training images, whatever the method was trained with.
        """
        bench, config, rows = self.bench, self.bench.config, self.searched()
        images, (network, facts), (model, _) = bench.faces.judged, bench.classifier(method), bench.generator(ALL)
        pool, search = (
            encoded(bench.faces.labelled, model.encoder),
            config.evaluation().mixer(model.generator, stop_early=True),
        )
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
        found = {**tried.tensors(), **answer_columns(predict(network, images, bench.device), images), "searched": rows}
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


def answer_columns(probabilities: Tensor, images: ImageSet) -> dict[str, Tensor]:
    """Class probabilities `(N, K)`, and whether the largest is that of the label."""
    return {"probabilities": probabilities, "right": answers(probabilities) == images.labels}
