"""What is measured of a pipeline under one seed: its classifiers, and its generator with the latents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from advmix.audit.comparison import WorstCaseKey, as_record
from advmix.audit.fid import PenultimateFeatures, frechet_distance
from advmix.classifiers import load_classifier
from advmix.data import slices
from advmix.encoders import OptimizeOptions, fingerprint
from advmix.generators import StyleGan
from advmix.stages.fit_gan import judged
from advmix.studies.encoding.parts import Bench, make_bench, make_part
from advmix.studies.pipeline.lines import PIPELINES, Line
from advmix.studies.search.bench import Bench as SearchBench
from advmix.studies.search.bench import in_words

Record = dict[str, Any]
AT_ONCE = 256
OF_ENCODING = (
    "generator",
    "reference",
    "reference_seed",
    "error",
    "milliseconds",
    "accuracy_image",
    "accuracy_reconstruction",
    "mixability",
    "accuracy_mix",
    "label_of_donor",
    "color_error_mix",
    "color_follows",
)
"""What is kept of the encoding study's numbers."""


def classifiers(line: Line, methods: Sequence[str], device: torch.device) -> list[Record]:
    """The runs of `advmix evaluate`, each with the circumstances of its worst case."""
    cell = line.cell
    settings, mixable = cell.settings, cell.mixable(device)
    images = SearchBench(cell, settings.worst_images, device).images_name
    words, pool = in_words(settings.evaluation(), cell.seed), mixable.pool.fingerprint
    found = []
    for method in methods:
        home = line.home(method)
        (run,) = cell.evaluate(method, home)["runs"]
        key = WorstCaseKey(run["generator"], pool, words, images)
        name = fingerprint(load_classifier(home.place(method))[0])
        found.append({"pipeline": line.pipeline, **run, "classifier": name, "key": as_record(key)})
    return found


def quality(
    line: Line, sizes: tuple[int, int, int], optimize: OptimizeOptions, device: torch.device, pictures: Path
) -> list[Record]:
    """How good generator and latents are, as the reference classifier sees them.

    Args:
        line: a pipeline under a seed.
        sizes: test images to mix, donors of each, training images that the donors are drawn from.
        optimize: settings of Algorithm 2.
        device: for all networks.
        pictures: file for what the encoding study keeps of an encoder.
    """
    cell, judge = line.cell, line.judge
    pipeline, bench = PIPELINES[line.pipeline], make_bench(cell, judge, None, sizes, device)
    if pipeline.features:
        bench = replace(bench, features=cell.fitted)
    part = make_part(pictures, bench, pipeline.encoder, optimize)
    record = {
        "pipeline": line.pipeline,
        "seed": cell.seed,
        **{key: part.run[key] for key in OF_ENCODING},
        **{key: bench.mixable.metadata[key] for key in ("fit_seconds", "reconstruction_mse")},
        "encode_seconds": cell.encode_seconds(),
        "frechet_reconstruction": frechet_of_pool(bench),
        "frechet_samples": None,
        "class_shares": None,
    }
    decoder = bench.mixable.model.generator
    if isinstance(decoder, StyleGan):
        found = judged(decoder, bench.data.train, bench.reference, cell.seed)
        record |= {"frechet_samples": found["frechet_distance"]}
        record |= {key: found[key] for key in ("class_shares", "class_shares_real", "class_shares_samples")}
    return [record]


def frechet_of_pool(bench: Bench) -> float:
    """Fréchet distance between the training images and what the generator makes of their latents."""
    images, pool, decoder = bench.data.train, bench.mixable.pool, bench.mixable.model.generator
    parts = list(slices(len(images), AT_ONCE))
    real = (images.batch(part)[0].to(bench.device) for part in parts)
    return frechet_distance(real, (decoder(pool[part]) for part in parts), PenultimateFeatures(bench.reference))
