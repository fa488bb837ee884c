"""`python -m experiments celeba-marginalize`: a mean over random z⊥ beside retraining, on faces."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from advmix.data.images import ImageSet
from advmix.data.photos.load import Photos
from advmix.encoders.network import encoded
from advmix.utils.device import open_device
from advmix.utils.runs import claim_run
from advmix.utils.torch_tools import generator
from experiments.faces.cell import ALL, Bench
from experiments.faces.dataset import divide, judged_images, load, tinted
from experiments.faces.settings import CelebaConfig, FaceSettings
from experiments.faces.study import fit_jobs, point_out_shortcut, training_job
from experiments.jobs import Job, work
from experiments.marginalize.study import Asked, AskOptions, conclude

COMMAND = "study celeba-marginalize"


@dataclass(frozen=True)
class FaceMarginalizeConfig(FaceSettings):
    """Averaging over N random z⊥ beside retraining, on faces: accuracy and cost.

    With the generators and classifiers of `python -m experiments celeba` under the same settings, which are made where
    they are missing. Goes on where it was stopped. May be started in any number of processes that share the folders.

    Args:
        target: column of what is recognised.
        judge: `select` (persons held out of the training split) or `test` (the splits `val` and `test` together: to be
            looked at once, with everything chosen).
        tint: a positive control: mixes each training image with a colour of its class by this weight; asked about are
            images in the colour of their own class, and in that of a random one.
        methods: whose classifiers are asked, nominal among them.
        ask: how they are asked.
        seeds: every one fixes the labelled images, all that is trained on them, and the z⊥.
        out: folder for table, figure and results.json.
    """

    target: str = "Smiling"
    judge: str = "select"
    tint: float = 0.0
    methods: tuple[str, ...] = ("nominal", "randmix", "advmix")
    ask: AskOptions = field(default_factory=lambda: AskOptions(samples=(1, 4, 16)))
    seeds: tuple[int, ...] = (0, 1, 2)
    out: Path = Path("runs/study/celeba-marginalize")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.celeba()

    def celeba(self) -> CelebaConfig:
        """The study whose generators and classifiers are asked."""
        return self.study(self.target, judge=self.judge, tint=self.tint, methods=self.methods, seeds=self.seeds)


def run_face_marginalize(config: FaceMarginalizeConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    open_device(config.device)
    point_out_shortcut(config.celeba())
    photos, study = load(config.data, config.target, config.persons, config.size, config.data_dir), config.celeba()
    parts = {seed: divide(photos, config.labelled, config.judge, config.tint, seed) for seed in config.seeds}
    benches = [Bench(study, seed, faces) for seed, faces in parts.items()]
    inputs = {f"seed {seed}": faces.judged.fingerprint for seed, faces in parts.items()}
    claim_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    work([job for bench in benches for job in _jobs(config, photos, bench)])
    return conclude(COMMAND, config, [_path(config, seed) for seed in config.seeds])


def _path(config: FaceMarginalizeConfig, seed: int) -> Path:
    return config.out / "seeds" / f"{seed}.json"


def _jobs(config: FaceMarginalizeConfig, photos: Photos, bench: Bench) -> list[Job]:
    names = sorted({ALL, *(name for method in config.methods if (name := bench.generator_of(method)))})

    def ready() -> bool:
        return all(map(bench.has_generator, names)) and all(map(bench.is_trained, config.methods))

    path = _path(config, bench.seed)
    lock, measure = path.with_name(f".{path.name}.lock"), partial(_measure, config, photos, bench)
    last = Job(f"seed {bench.seed}: measure", lock, ready, path.is_file, measure)
    return [*fit_jobs(bench, names), *(training_job(bench, method) for method in config.methods), last]


def _measure(config: FaceMarginalizeConfig, photos: Photos, bench: Bench) -> None:
    """All numbers of a seed, under the generator of all training images."""
    model, metadata = bench.generator(ALL)
    asked = Asked(
        networks={method: bench.classifier(method)[0] for method in config.methods},
        dec=model.generator,
        encoder=model.encoder,
        pool=encoded(bench.faces.labelled, model.encoder),
        split=config.search.split(model.generator.layers),
        fingerprint=metadata["fingerprint"],
        tests=_tests(config, photos, bench),
        residual=config.baseline.residual,
    )
    asked.measure(config.ask.samples, bench.seed, _path(config, bench.seed))


def _tests(config: FaceMarginalizeConfig, photos: Photos, bench: Bench) -> dict[str, ImageSet]:
    """Judged images as they are; or in the colour of their class and in that of a random one."""
    judged, order = bench.faces.judged, generator(bench.seed, "celeba", "marginalize")
    rows = torch.randperm(len(judged), generator=order)[: config.ask.images]
    if not config.tint:
        return {"natural": judged[rows]}
    plain = judged_images(photos, config.judge)[0][rows]
    return {"biased": tinted(plain, plain.labels, config.tint), "shuffled": judged[rows]}
