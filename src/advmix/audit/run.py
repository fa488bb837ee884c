"""An audit in chunks: each on disk as soon as it is done, by any number of processes, to the same result."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.attacks import Attack
from advmix.audit.explorer import EXPLORER
from advmix.audit.figures import Pictures, galleries
from advmix.audit.inputs import GENERATOR, AuditImages, AuditInputs, audit_parts, audited_classifier, batches
from advmix.audit.markdown import audit_markdown
from advmix.audit.measure import AuditBatch, AuditedClassifier, AuditSetup, measure_classifier, measure_images, swaps
from advmix.audit.page import Gallery
from advmix.audit.records import RECORDS_FILE, AuditRecords
from advmix.audit.results import (
    REPORT,
    AuditResult,
    AuditRun,
    write_audit,
)
from advmix.audit.settings import FIT, AuditConfig, file_name, told_apart
from advmix.audit.thresholds import check_known, missed_thresholds, read_thresholds
from advmix.audit.words import audit_sentences, audit_tables
from advmix.classifiers.open import OpenClassifier, open_classifier
from advmix.data.datasets import Images, open_images
from advmix.data.images import ImageSet, slices
from advmix.encoders.autoencoder import DEFAULT_GENERATOR, is_ready_made
from advmix.encoders.store import PoolOptions
from advmix.latents import Latents
from advmix.mixing import WORST_CASE, Search, SearchOptions
from advmix.pools import LATENTS, FittedModel, check_size, load, open_generator, remembered
from advmix.report.tables import RESULTS
from advmix.training.reference import (
    ReferenceClassifier,
    own_reference,
    train_reference,
)
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.device import in_first_process, make_fabric, own_turns
from advmix.utils.errors import ThresholdError, UserError
from advmix.utils.files import folder_for, make_folder, read_json, with_folder
from advmix.utils.progress import Advance, PhaseTimer, console, on_stderr, quietly, track
from advmix.utils.runs import CHUNKS, open_run
from advmix.utils.torch_tools import generator

if TYPE_CHECKING:
    from lightning_fabric import Fabric

REFERENCE = "reference"
"""Where an audit keeps a reference of its own."""


def search_all(
    out: Path,
    fabric: Fabric,
    setup: AuditSetup,
    classifiers: Sequence[AuditedClassifier],
    images: AuditImages,
    rows: Tensor,
    metadata: dict[str, Any],
    chunk: int,
) -> AuditRecords:
    """Everything that is asked of every image; what is on disk already is not asked again.

    Args:
        out: the audit's folder.
        fabric: the machine; its processes take turns with the chunks.
        setup: what stays the same.
        classifiers: the classifiers.
        images: the test images.
        rows: `(N,)`, those that are audited.
        metadata: of the file.
        chunk: images between two savings.
    """
    if not (out / RECORDS_FILE).is_file():
        places = list(slices(len(rows), chunk))
        folder = in_first_process(fabric, lambda: make_folder(out / CHUNKS))
        paths = [folder / f"{place.start:08d}.safetensors" for place in places]
        turns = own_turns(fabric, range(len(places)))
        mine = [i for i in turns if not _is_done(paths[i], metadata, rows[places[i]])]
        with track("audit", sum(places[i].stop - places[i].start for i in mine)) as advance:
            for i in mine:
                batch = images.read(places[i].start, rows[places[i]])
                _found(setup, classifiers, batch, metadata, advance).save(paths[i])
        fabric.barrier()
        in_first_process(fabric, lambda: _join(out, paths, setup.pool))
    found = AuditRecords.load(out)
    if not found.is_of(metadata, rows):
        raise UserError(f"{out / RECORDS_FILE}: of another audit than this folder; delete it, and run this one again")
    return found


def _found(
    setup: AuditSetup,
    classifiers: Sequence[AuditedClassifier],
    batch: AuditBatch,
    metadata: dict[str, Any],
    advance: Advance,
) -> AuditRecords:
    parts = []
    for part in batch.parts(setup.drawn_together(classifiers)):
        parts.append(
            AuditRecords(
                measure_images(setup, part),
                tuple(measure_classifier(setup, classifier, part) for classifier in classifiers),
                metadata,
            )
        )
        advance(len(part.labels), "")
    return AuditRecords.cat(parts)


def _is_done(path: Path, metadata: dict[str, Any], rows: Tensor) -> bool:
    """Whether a chunk is there, whole, and of these images of this audit."""
    try:
        if not path.is_file():
            return False
        found = AuditRecords.load(path)
        return found.metadata == metadata and torch.equal(found.images.rows, rows)
    except UserError:
        return False


def _join(out: Path, paths: Sequence[Path], pool: Latents) -> None:
    AuditRecords.cat([AuditRecords.load(path) for path in paths]).with_scale(pool).save(out / RECORDS_FILE)


def chosen_rows(count: int, images: int, rng: torch.Generator) -> Tensor:
    """At most `images` of `count` test images, drawn at random, in order: `(N,)`."""
    return torch.randperm(count, generator=rng)[:images].sort().values


def run_audit(config: AuditConfig) -> dict[str, Any]:
    """Audit, unless `out` holds the finished result already; returns what `results.json` holds.

    Raises:
        UserError: bad input.
        ThresholdError: the results are below `fail_under`.
    """
    config, thresholds = config.as_run, read_thresholds(config.fail_under)
    fabric = make_fabric(config.device, config.machines)
    config = replace(config, arithmetic=config.arithmetic.on(fabric.device))
    with quietly(not fabric.is_global_zero), on_stderr(config.format != "text"):
        inputs = AuditInputs.open(config, fabric)
        check_known(thresholds, inputs.unmeasured(config))
        if inputs.metadata is not None and "data" in inputs.metadata:
            config = replace(config, data=remembered(config.data))
        result = audit(config, inputs, fabric)
        missed = missed_thresholds(thresholds, result.results)
        if fabric.is_global_zero:
            _show(config, result.results, missed)
    if missed and fabric.is_global_zero:
        raise ThresholdError(missed)
    return result.results


def audit_classifier(
    classifier: AnyClassifier | Sequence[AnyClassifier] | Mapping[str, AnyClassifier],
    images: Images,
    *,
    model: FittedModel | str | Path = DEFAULT_GENERATOR,
    pool: str | Path | None = None,
    reference: AnyClassifier | None = None,
    attack: Attack | None = None,
    search: Search = WORST_CASE,
    residual: bool = True,
    explore: bool = True,
    count: int = 500,
    pictures: int = 12,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    resume: bool = False,
    precision: str = "32",
    compile: bool = False,
) -> AuditResult:
    """What flips a classifier: how right it is on test images as they are, as the generator draws them, mixed at
    random and in the worst case; by class, by group and by layer, with pictures. The call behind `advmix audit`.

    >>> result = advmix.audit_classifier(net, advmix.open_images("photos", target="Smiling"))
    >>> result.table(), result.pictures(), result.to_html("report.html")

    Args:
        classifier: a module from images in [0, 1] to logits (`advmix.Classifier` makes one of any), a name as
            `--classifier` has it, or what `open_classifier` returned; or several, in a list or by name.
        images: what `open_images` returned, or anything that it takes.
        model: generator and pool, as `fit` or `load` returned them, or their folder; or the name of a ready-made
            generator (`statistics`, `statistics:KIND`, `photo`), whose pool is of the training images; or `fit`, which
            fits one on them: half an hour at 64 pixels.
        pool: whose z⊥ a ready-made generator borrows, where they are not the training images': a folder of unlabelled
            images, or `photos`, which are shipped.
        reference: an independent classifier of these images, which votes whether a mix still shows its label; by
            default one is trained on the training images.
        attack: a third-party attack `(model, x, y) -> x`, tried besides.
        search: how far and how long is searched.
        residual: whether mixes keep what the generator cannot draw of an image.
        explore: draw every image on its way to what flips it, for the page to explore.
        count: at most so many test images, drawn at random.
        pictures: at most so many of each kind.
        seed: fixes images, donors, and what is fitted or trained here.
        out: folder for everything; by default a temporary one, which goes with the result: see `AuditResult.save`.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with an audit that was stopped, in `out`.
        precision, compile: how the search computes, and a generator that is fitted here: see
            `advmix.utils.arithmetic.ArithmeticOptions`.

    Raises:
        UserError: bad input.
    """
    fabric, data = make_fabric(device), open_images(images, seed=seed)
    test, arithmetic = data.test, ArithmeticOptions(precision, compile).on(fabric.device)
    opened = [_opened(one, test, name) for name, one in _by_name(classifier)]
    places = [str(place) for place in range(1, len(opened) + 1)]
    names = told_apart([one.name for one in opened], places)
    opened = [replace(one, name=name) for one, name in zip(opened, names, strict=True)]
    named = not isinstance(model, FittedModel) and (is_ready_made(model) or Path(model) == FIT)
    fitted = None if named else model if isinstance(model, FittedModel) else load(model, device=fabric.device)
    if fitted is not None:
        check_size(test, fitted.generator)
    votes = _opened(reference, test, "") if isinstance(reference, nn.Module) else reference
    votes = str(votes) if isinstance(votes, Path) else votes
    with folder_for(out) as folder:
        config = AuditConfig(
            opened[0].name,
            compare=tuple(one.name for one in opened[1:]),
            data=data.config,
            generator=fitted.folder if fitted is not None else Path(str(model)),
            latents=None if fitted is None or fitted.store is None else fitted.store.folder,
            pool=PoolOptions(None if pool is None else str(pool)),
            search=search if isinstance(search, SearchOptions) else SearchOptions(**asdict(search)),
            arithmetic=arithmetic,
            residual=residual,
            explore=explore,
            images=count,
            pictures=pictures,
            seed=seed,
            out=folder,
            device=device,
            resume=resume,
        )
        metadata = None if config.fits else open_generator(config.generator, data.config, config.pool, data)[1]
        inputs = AuditInputs(data, tuple(opened), fitted, metadata, attack=attack)
        result = audit(config, inputs.checked(config, votes, fabric.device), fabric)
    return result if out is not None else with_folder(result, folder)


AnyClassifier = nn.Module | OpenClassifier | str | Path
"""A classifier, as `open_classifier` takes it."""


def _by_name(
    classifier: AnyClassifier | Sequence[AnyClassifier] | Mapping[str, AnyClassifier],
) -> list[tuple[str, AnyClassifier]]:
    if isinstance(classifier, Mapping):
        return list(classifier.items())
    if isinstance(classifier, str | Path | nn.Module | OpenClassifier):
        return [("", classifier)]
    return [("", one) for one in classifier]


def _opened(classifier: AnyClassifier, images: ImageSet, name: str) -> OpenClassifier:
    opened = open_classifier(classifier, images.classes, images.shape)
    said = opened.options
    own = opened.name if said is None else file_name(Path(said.weights or said.classifier))
    return replace(opened, name=name or own)


def audit(config: AuditConfig, inputs: AuditInputs, fabric: Fabric) -> AuditResult:
    """The audit itself, in `config.out`, unless that holds the finished result already.

    Args:
        config: its settings; what they name is not read again.
        inputs: everything that is there.
        fabric: the machine; its processes share the work.

    Raises:
        UserError: the folder holds something else.
    """
    goes_on = config.resume or config.votes is not None
    with open_run(config.out, "audit", config, goes_on, inputs.fingerprints, fabric=fabric):
        done = (config.out / RESULTS).is_file()
        if config.votes is not None and not done:
            raise UserError(f"--votes {config.votes}: {config.out} holds no finished audit; audit first, then answer")
        if not done or config.votes is not None:
            clock = PhaseTimer(config.out if fabric.is_global_zero else None)
            if inputs.model is None:
                inputs = replace(inputs, model=_made_model(config, inputs, fabric, clock))
            if inputs.reference is None:
                inputs = replace(inputs, reference=_made_reference(config, inputs, fabric, clock))
            _measure(config, inputs, fabric, clock)
        parts = partial(_with_model, config, inputs, fabric.device)
        draw = partial(_drawn, config, parts, fabric.device)
        return AuditResult(read_json(config.out / RESULTS), config.out, draw, parts)


def _setup(config: AuditConfig, inputs: AuditInputs, reference: ReferenceClassifier, device: torch.device) -> AuditRun:
    """Everything that takes part, on its device."""
    options, model = inputs.search(config.search), inputs.fitted
    setup = AuditSetup(
        mixer=options.mixer(model.generator, stop_early=True, arithmetic=config.arithmetic),
        pool=model.pool,
        encoder=model.encoder,
        swaps=swaps(model.model.config, options.split(model.generator.layers), model.side(inputs.data.test)),
        reference=reference.network,
        residual=config.residual,
        seed=config.seed,
        attack=inputs.attack,
    )
    classifiers = [audited_classifier(one, inputs, device) for one in inputs.classifiers]
    return AuditRun(config, inputs, setup, options, classifiers, reference)


def _measure(config: AuditConfig, inputs: AuditInputs, fabric: Fabric, clock: PhaseTimer) -> None:
    """Everything up to the files."""
    assert inputs.reference is not None
    run = _setup(config, inputs, inputs.reference, fabric.device)
    rows = chosen_rows(len(inputs.data.test), config.images, generator(config.seed, "audit", "images"))
    with batches(inputs, run.classifiers) as images:
        with clock("search"):
            parts = run.setup, run.classifiers, images, rows, run.metadata()
            found = search_all(config.out, fabric, *parts, config.chunk)
        in_first_process(fabric, lambda: write_audit(run, images, found, clock))


def _with_model(config: AuditConfig, inputs: AuditInputs, device: torch.device) -> AuditInputs:
    """What a finished audit was made of."""
    return inputs if inputs.model is not None else replace(inputs, model=_there(config, inputs, device))


def _drawn(config: AuditConfig, parts: Callable[[], AuditInputs], device: torch.device) -> list[Gallery]:
    """The pictures of a finished audit, drawn again."""
    results, found, inputs = read_json(config.out / RESULTS), AuditRecords.load(config.out), parts()
    reference = inputs.reference or own_reference(config.out / REFERENCE, inputs.data.train, device)
    run = _setup(config, inputs, reference, device)
    with batches(inputs, run.classifiers) as images:
        return galleries(Pictures(run.setup, run.classifiers, images, found), results)


def _made_model(config: AuditConfig, inputs: AuditInputs, fabric: Fabric, clock: PhaseTimer) -> FittedModel:
    """Generator and pool; what is not there is made: a generator of the audited data, a pool of the generator's own
    images, or of the audited data where it has none.
    """
    from advmix.commands.encode import open_model
    from advmix.commands.fit import FitConfig, fit_images

    generator, data = config.generator, inputs.data
    if config.fits:  # in one process
        generator = config.out / GENERATOR
        common: dict[str, Any] = {"device": config.device, "resume": True, "arithmetic": config.arithmetic}
        with clock("fit"):
            fit_images(FitConfig(data.config, fit=config.fit, seed=data.seed, **common, out=generator), data.train)
    with clock("encode"):
        open_model(generator, config.latents, config.pool, data, config.out / LATENTS, fabric.device, fabric)
    return _there(config, inputs, fabric.device)


def _there(config: AuditConfig, inputs: AuditInputs, device: torch.device) -> FittedModel:
    """Generator and pool, which are there."""
    parts = audit_parts(config.out, config.generator, config.latents, config.pool)
    return load(*parts, device, data=inputs.data, options=config.pool)


def _made_reference(config: AuditConfig, inputs: AuditInputs, fabric: Fabric, clock: PhaseTimer) -> ReferenceClassifier:
    """A reference of our own, trained where it is not there yet."""
    images, folder, alone = inputs.data.train, config.out / REFERENCE, make_fabric(config.device)
    with clock("reference"):
        in_first_process(fabric, lambda: train_reference(folder, images, config.seed, alone))
    return own_reference(folder, images, fabric.device)


def _show(config: AuditConfig, results: dict[str, Any], missed: Sequence[str]) -> None:
    """In the format that is wanted; what belongs to no result goes where progress goes."""
    if config.format == "text":
        _show_text(results)
    else:
        whole = config.out / RESULTS
        sys.stdout.write(whole.read_text() if config.format == "json" else audit_markdown(results, missed))
    if config.fail_under and not missed:
        console.print(f"Held: {config.fail_under}", markup=False)
    explored = f", image by image: {config.out / EXPLORER}" if config.explore else ""
    console.print(f"Report: {config.out / REPORT}, numbers: {config.out / RESULTS}{explored}", markup=False)


def _show_text(results: dict[str, Any]) -> None:
    for part in audit_tables(results):
        console.print(part)
    for sentence in audit_sentences(results):
        console.print(sentence, markup=False)
    known = results["generator"].get("fitted_on_audited")
    if known:
        words = (
            f"The generator was fitted on {known:,} of these {results['images']:,} images, and may draw them too well"
        )
        console.print(f"{words}; audit others: --data, or its own --split-seed", markup=False, style="yellow")
