"""`python -m experiments pipeline`: the paper's own pipeline, StyleGAN and Algorithm 2, beside the autoencoder."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from advmix.encoders.optimize import OptimizeOptions
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.training.gan import GanOptions, InvertOptions
from advmix.utils.config import to_dict
from advmix.utils.device import open_device
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.cells import OneSpreadSettings, Origin, check_seeds
from experiments.controls import check_methods
from experiments.encoding.measure import STEPS, check_sizes
from experiments.jobs import work
from experiments.pipeline.figures import draw
from experiments.pipeline.measure import (
    PIPELINES,
    Line,
    check_pipelines,
    classifier_table,
    classifiers,
    comparisons,
    quality,
    quality_table,
    training,
)
from experiments.search.grid import Point, collect


@dataclass(frozen=True)
class PipelineConfig(OneSpreadSettings):
    """The paper's own pipeline: StyleGAN trained as a GAN, its latents by a network or by Algorithm 2.

    Beside it the autoencoder that the other studies use: accuracies of the classifiers that mix with each, and how
    good generator and latents are. Algorithm 2 encodes the whole training set: --train-images is what bounds its time.
    Goes on where it was stopped. May be started in any number of processes, on any machines that share the folders:
    each takes the next part that nobody else is doing.

    Args:
        pipelines: `autoencoder`, `gan` (StyleGAN, latents by its encoder network), `gan-refine` (the same StyleGAN,
            latents by Algorithm 2 from the network's guess, which compares pixels), `gan-features` (the same, which
            compares the features of its discriminator, too).
        methods: as in `study colored-mnist`; those that mix are trained in every pipeline.
        gan: how StyleGAN is trained.
        invert: how its encoder network is trained.
        optimize: settings of Algorithm 2.
        seeds: every one fixes a training set and all that is trained on it.
        images: test images that are mixed to see whether labels survive, drawn at random.
        donors: mixes of each, every one with another donor.
        pool_images: training images from which the donors are drawn.
        out: folder for tables and figures.
    """

    pipelines: tuple[str, ...] = tuple(PIPELINES)
    methods: tuple[str, ...] = ("nominal", "randmix", "advmix")
    gan: GanOptions = field(default_factory=GanOptions)
    invert: InvertOptions = field(default_factory=InvertOptions)
    optimize: OptimizeOptions = field(default_factory=lambda: OptimizeOptions(optimize_steps=STEPS))
    seeds: tuple[int, ...] = (0, 1, 2)
    images: int = 200
    donors: int = 10
    pool_images: int = 100
    out: Path = Path("runs/study/pipeline")

    def __post_init__(self) -> None:
        super().__post_init__()
        check_pipelines(self.pipelines)
        check_methods(self.methods)
        check_sizes(self.images, self.donors, self.pool_images)
        check_seeds(self.seeds)

    def lines(self) -> list[Line]:
        """Every pipeline under every seed; each is judged in the next seed's cell, the last in the first's."""
        data = self.data_config()
        bases = [self.cell(seed, data) for seed in self.seeds]
        judges = bases[1:] + bases[:1]
        return [
            Line(name, self.cell(base.seed, data, self.origin(name)), base, judge)
            for base, judge in zip(bases, judges, strict=True)
            for name in self.pipelines
        ]

    def origin(self, name: str) -> Origin:
        """Where generator and latents of a pipeline come from."""
        pipeline = PIPELINES[name]
        return Origin(pipeline.regime, pipeline.encoder, self.gan, self.invert, self.optimize, pipeline.features)


def run_pipeline(config: PipelineConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input, or numbers that must not be compared.
    """
    lines = config.lines()
    inputs = {line.cell.name: line.cell.check().train.fingerprint for line in lines}
    claim_run(config.out, "study pipeline", config, resume=True, inputs=inputs)
    device = open_device(config.device)
    work(training(lines, config.methods))
    points = [_point(config, line) for line in lines]
    work([point.job() for point in points])
    runs = [run for line in lines for run in classifiers(line, config.methods, device)]
    results = {
        **header("study pipeline", config),
        "search": to_dict(config.evaluation()),
        "runs": runs,
        "comparisons": comparisons(runs),
        **collect(points),
    }
    write_json(config.out / RESULTS, results)
    save_figures(draw(lines[: len(config.pipelines)], runs, device), config.out / "figures")
    console.print(classifier_table(runs))
    console.print(quality_table(results["pipelines"]))
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def _point(config: PipelineConfig, line: Line) -> Point:
    """What is measured of generator and latents, kept in a file."""
    sizes, device = (config.images, config.donors, config.pool_images), open_device(config.device)
    path = config.out / "points" / f"{line.pipeline}-seed{line.cell.seed}.json"
    return Point("pipelines", path, partial(quality, line, sizes, config.optimize, device))
