"""`python -m experiments celeba`: errors of all methods on faces, paired, with intervals over persons."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from advmix.data.images import ImageSet
from advmix.report.page import save_figures
from advmix.report.tables import RESULTS, header
from advmix.utils.config import to_dict
from advmix.utils.files import write_json
from advmix.utils.progress import console
from advmix.utils.runs import claim_run
from experiments.faces.cell import ALL, FEW, TEACHER, Bench
from experiments.faces.dataset import Faces, agreement_of, divide, divide_under_stress, load, load_also, load_cues
from experiments.faces.evaluate import Judge
from experiments.faces.figures import (
    comparison_table,
    error_figure,
    error_table,
    group_table,
    searched_table,
    seconds_table,
)
from experiments.faces.results import Measure, also_rows, comparisons, method_rows
from experiments.faces.settings import FILTERED, REFERENCE, VARIANTS, CelebaConfig
from experiments.jobs import Job, work

COMMAND = "study celeba"


def run_celeba(config: CelebaConfig) -> dict[str, Any]:
    """Do what is not done yet; returns what `results.json` holds.

    Raises:
        UserError: bad input.
    """
    point_out_shortcut(config)
    faces, also = open_faces(config)
    judges = [Judge(Bench(config, seed, part), also) for seed, part in faces.items()]
    inputs = {f"seed {seed}": part.judged.fingerprint for seed, part in faces.items()}
    claim_run(config.out, COMMAND, config, resume=True, inputs=inputs)
    work([job for judge in judges for job in jobs(judge)])
    results = gather(config, judges)
    write_json(config.out / RESULTS, results)
    save_figures(figures(results), config.out / "figures")
    show(results)
    console.print(f"Numbers: {config.out / RESULTS}, pictures: {config.out / 'figures'}")
    return results


def point_out_shortcut(config: CelebaConfig) -> None:
    """Say where a generator is going to learn from a classifier that shares the bias of its images."""
    shortcut = f"--tint {config.tint:g}" if config.tint else f"--cue {config.stress.cue}" if config.stress.cue else ""
    if shortcut and VARIANTS[config.variant].is_taught:
        console.print(
            f"[yellow]--variant {config.variant}: learns from a classifier of these images, which may read nothing "
            f"but the shortcut ({shortcut}); what it reads stays in z∥, where no mix reaches it. `base` learns alone[/]"
        )


def open_faces(config: CelebaConfig) -> tuple[dict[int, Faces], ImageSet | None]:
    """The parts of every seed, and the images of the other source."""
    photos, stress = load(config.data, config.target, config.persons, config.size, config.data_dir), config.stress
    also = None if config.also is None else load_also(config.also, config.also_target, photos, config.data_dir)
    if stress.cue is None:
        parts = {seed: divide(photos, config.labelled, config.judge, config.tint, seed) for seed in config.seeds}
        return parts, also
    cues = load_cues(config.data, stress.cue, photos, config.data_dir)
    return {seed: divide_under_stress(photos, cues, stress, config.labelled, seed) for seed in config.seeds}, also


def jobs(judge: Judge) -> list[Job]:
    """Generators, then classifiers, each with its verdicts."""
    bench, methods = judge.bench, judge.bench.config.methods
    needed = [ALL, *([FEW] if any(bench.generator_of(method) == FEW for method in methods) else [])]
    trains = [_train_job(judge, method) for method in methods]
    return [*fit_jobs(bench, needed), *([reference_job(bench)] if FILTERED in methods else []), *trains]


def fit_jobs(bench: Bench, names: list[str]) -> Iterator[Job]:
    """Generators of a seed, after the classifier that they learn from, if they do."""
    if bench.school is not None:
        yield training_job(bench.school, TEACHER)
    for name in names:
        lock = bench.home(name).with_name(f".{bench.home(name).name}.lock")
        title = f"seed {bench.seed}: {name}"
        yield Job(title, lock, bench.can_fit, partial(bench.has_generator, name), partial(bench.fit, name))


def reference_job(bench: Bench) -> Job:
    """The network of another kind, trained on the same labels."""
    return training_job(bench, REFERENCE)


def training_job(bench: Bench, method: str) -> Job:
    """A classifier, not judged."""
    lock, done = bench.folder / f".{method}.lock", partial(bench.is_trained, method)
    ready = partial(bench.can_train, method)
    return Job(f"seed {bench.seed}: {method}", lock, ready, done, partial(bench.train, method))


def _train_job(judge: Judge, method: str) -> Job:
    bench = judge.bench

    def ready() -> bool:
        return bench.can_train(method) and bench.has_generator(ALL)

    lock, done = bench.folder / f".{method}.lock", partial(judge.is_done, method)
    return Job(f"seed {bench.seed}: {method}", lock, ready, done, partial(judge.do, method))


def gather(config: CelebaConfig, judges: list[Judge]) -> dict[str, Any]:
    """A row for each method."""
    faces, also = judges[0].bench.faces, judges[0].also
    found = {method: [judge.found(method) for judge in judges] for method in config.methods}
    measure = Measure.of(faces, judges[0].searched(), config.resamples)
    results = {
        **header(COMMAND, config),
        "search": to_dict(config.evaluation()),
        "judged": judged_entry(faces),
        "generators": [{"seed": judge.bench.seed, **judge.bench.summary()} for judge in judges],
        "methods": method_rows(found, judges, measure),
        "comparisons": comparisons(found, measure),
        "also": None,
    }
    if also is not None:
        rows = also_rows(config.methods, judges, also, config.resamples)
        results["also"] = {"images": len(also), "classes": class_counts(also), "methods": rows}
    return results


def judged_entry(faces: Faces) -> dict[str, Any]:
    """How many images, of how many persons, of which class; and of the labelled ones."""
    return {
        "images": len(faces.judged),
        "persons": int(faces.persons.unique().numel()),
        "classes": class_counts(faces.judged),
        "labelled_classes": class_counts(faces.labelled),
        "unlabelled": len(faces.unlabelled),
        "refit": 0 if faces.refit is None else len(faces.refit.images),
    } | stress_entry(faces)


def stress_entry(faces: Faces) -> dict[str, Any]:
    """What a stress test trains on: how often label and cue agree, and how many images there are of each group."""
    if faces.trained is None:
        return {}
    counts = dict(zip(faces.group_names, faces.trained.tolist(), strict=True))
    return {"agreement": agreement_of(faces.trained), "training_groups": counts}


def class_counts(images: ImageSet) -> dict[str, int]:
    """Images of every class."""
    return {name: int((images.labels == place).sum()) for place, name in enumerate(images.classes)}


def figures(results: dict[str, Any]) -> dict[str, Figure]:
    """Errors on the judged images, in the worst group, and on the other source."""
    drawn = {"errors": error_figure(results["methods"])}
    if "worst_group_error" in results["methods"][0]:
        drawn["worst-group"] = error_figure(results["methods"], "worst_group_error")
    if results["also"]:
        drawn["also"] = error_figure(results["also"]["methods"])
    return drawn


def show(results: dict[str, Any]) -> None:
    """The tables."""
    console.print(error_table(results["methods"]))
    console.print(searched_table(results["methods"]))
    console.print(seconds_table(results["methods"]))
    if results["comparisons"]:
        console.print(comparison_table(results["comparisons"]))
    if "group_errors" in results["methods"][0]:
        console.print(group_table(results["methods"]))
    if results["also"]:
        console.print(f"Another source, {results['also']['images']:,} images:")
        console.print(error_table(results["also"]["methods"]))
