"""The command line: `advmix COMMAND --help`. A command is imported when it is called."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from advmix import __version__
from advmix.errors import ALONE, UserError, printable
from advmix.interrupts import Interrupted, handling


class Command(NamedTuple):
    """Where a command lives, and what it is for."""

    module: str
    config: str
    run: str
    summary: str

    def load(self) -> tuple[type[Any], Callable[[Any], Any]]:
        """Its settings, and the function that runs them."""
        module = import_module(f"advmix.{self.module}")
        return getattr(module, self.config), getattr(module, self.run)


COMMANDS = {
    "demo": Command("studies.demo", "DemoConfig", "run_demo", "the main job on coloured digits, from nothing"),
    "data": Command("stages.data", "PreviewConfig", "run_preview", "what is in images of your own"),
    "fit": Command("stages.fit", "FitConfig", "run_fit", "train a generator and its encoder"),
    "import": Command("stages.importing", "ImportConfig", "run_import", "read somebody else's StyleGAN2 generator"),
    "sample": Command("stages.sample", "SampleConfig", "run_sample", "images that a StyleGAN makes up"),
    "encode": Command("stages.encode", "EncodeConfig", "run_encode", "the latents of a data set: the pool"),
    "train": Command("stages.train", "TrainConfig", "run_train", "train a classifier, with AdvMix or otherwise"),
    "evaluate": Command("stages.evaluate", "EvaluateConfig", "run_evaluate", "test a classifier on painted digits"),
    "inspect": Command("stages.inspect", "InspectConfig", "run_inspect", "which layers are z⊥"),
    "audit": Command("stages.audit", "AuditConfig", "run_audit", "what flips a classifier: a page with pictures"),
    "export": Command("stages.export", "ExportConfig", "run_export", "variations of images, as an ImageFolder"),
    "predict": Command("stages.predict", "PredictConfig", "run_predict", "what a classifier says of every image"),
    "doctor": Command(
        "stages.doctor", "DoctorConfig", "run_doctor", "are generator, pool and search fit for their use"
    ),
}
STUDIES = {
    "augmentations": Command("studies.augmentations", "AugmentationsConfig", "run_augmentations", "augmentations"),
    "celeba": Command("studies.celeba.study", "CelebaConfig", "run_celeba", "attributes of faces"),
    "celeba-marginalize": Command(
        "studies.celeba.averaging", "FaceMarginalizeConfig", "run_face_marginalize", "faces, averaged over z⊥"
    ),
    "celeba-pictures": Command("studies.celeba.gallery", "GalleryConfig", "run_gallery", "pictures of faces"),
    "celeba-survival": Command("studies.celeba.survival", "SurvivalConfig", "run_survival", "labels that survive"),
    "colored-mnist": Command(
        "studies.colored_mnist", "ColoredMnistConfig", "run_colored_mnist", "debiasing digits, step by step"
    ),
    "encoding": Command("studies.encoding.study", "EncodingConfig", "run_encoding", "Algorithm 2"),
    "marginalize": Command("studies.marginalize.study", "MarginalizeConfig", "run_marginalize", "averages over z⊥"),
    "photo-autoencoder": Command(
        "studies.celeba.autoencoders", "AutoencodersConfig", "run_autoencoders", "variants of the autoencoder"
    ),
    "pipeline": Command("studies.pipeline.study", "PipelineConfig", "run_pipeline", "kinds of generator, end to end"),
    "search": Command("studies.search.study", "SearchConfig", "run_search", "Algorithm 1"),
    "toy": Command("studies.toy.study", "ToyConfig", "run_toy", "the paper's toy example"),
}

NARROWEST = 60
"""Characters of a terminal for which help is set, at least."""
INTERRUPTED = (
    "advmix: interrupted; what was done is kept: the same command goes on (with --resume, where it has that option)"
)
MORE_MEMORY = (
    "Perhaps other programs use it too: start fewer processes, take smaller batches, or --device cpu. What was done is "
    "kept, as after an interruption"
)
WITHOUT_MEMORY = (
    *("can't allocate memory", "cannot allocate memory", "not enough memory", "out of memory"),
    *("storage size calculation overflowed", "could not create a primitive", "failed to map segment"),
)
"""What torch, its kernels and the loader of shared libraries say where memory does not suffice, in small letters."""
LOST = ("Connection closed by peer", "Connection reset by peer", "Connection refused", "Broken pipe", "NCCL", "gloo")
OF_THE_MACHINE = (
    *(errno.ENAMETOOLONG, errno.ELOOP, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS),
    *(errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ESTALE),
)
"""System errors that say something of the machine or of a path, and nothing of this program."""


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Returns:
        The exit code: 2 with one line for bad input, a machine without memory or a full disk, 128 and the number of the
        signal for an interruption, 141 where nobody reads the output any more (`| head`). A bug shows its traceback.
    """
    words = sys.argv[1:] if arguments is None else arguments
    _fill_streams()
    _take_any_encoding()
    try:
        with handling():
            try:
                _run(words)
            finally:
                if sys.stdout is not None:
                    sys.stdout.flush()
    except KeyboardInterrupt as stop:
        _say(INTERRUPTED)
        return 128 + (stop.number if isinstance(stop, Interrupted) else 2)
    except BrokenPipeError:
        _forget_output()
        return 141
    except Exception as error:
        trouble = _in_one_line(error)
        if trouble is None:
            raise
        if isinstance(error, OSError) and error.filename is None:
            _forget_output()
        _say(f"advmix: {trouble}")
        return 2
    return 0


def _run(words: list[str]) -> None:
    if not words or words[0] in ("-h", "--help"):
        print(overview())
    elif words[0] == "study" and words[1:2] in (["-h"], ["--help"]):
        print("\n".join(f"  {name:<20}{study.summary}" for name, study in STUDIES.items()))
    elif words[0] == "--version":
        print(f"advmix {__version__}")
    else:
        command, rest = find_command(words)
        config = parse_config(command, words[: len(words) - len(rest)], rest)
        command.load()[1](config)


def overview() -> str:
    """What `advmix --help` says."""
    listed = [f"  {name:<10}{command.summary}" for name, command in COMMANDS.items()]
    lines = [
        "usage: advmix COMMAND [--FLAG VALUE ...]     (advmix COMMAND --help: its flags, units and defaults)",
        "",
        "Adversarial mixing of disentangled latents.",
        "",
        *listed,
        f"  {'study':<10}the paper's figures and tables: {' '.join(STUDIES)}",
        "",
        "COMMAND --config FILE runs a saved config.json again; further flags override it. advmix --version",
    ]
    return "\n".join(lines)


def find_command(words: list[str]) -> tuple[Command, list[str]]:
    """The command that the first words name, and the words after it.

    Raises:
        UserError: no such command.
    """
    if words[0] != "study":
        return _named(words[0], COMMANDS, [*COMMANDS, "study"], "command"), words[1:]
    if len(words) == 1:
        raise UserError(f"study: name one of {', '.join(STUDIES)}")
    return _named(words[1], STUDIES, [*STUDIES], "study"), words[2:]


def _named(name: str, known: dict[str, Command], names: list[str], kind: str) -> Command:
    if name in known:
        return known[name]
    near = get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise UserError(f"{name[:40]}: no such {kind}; {meant}choose from {', '.join(names)}")


def parse(words: list[str]) -> Any:
    """The command line as one of the config dataclasses; `--config FILE` gives the defaults.

    Raises:
        UserError: whatever is wrong with it, in one line.
    """
    command, rest = find_command(words)
    return parse_config(command, words[: len(words) - len(rest)], rest)


def parse_config(command: Command, name: list[str], words: list[str]) -> Any:
    """The settings of a command from the words after its name.

    Raises:
        UserError: whatever is wrong with them, in one line.
    """
    import tyro

    called = " ".join(name)
    words, path = _take_config(words)
    _check_words(words)
    kind, _ = command.load()
    saved = {"default": _saved(path, called, kind)} if path is not None else {}
    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors), _readable_width():
            return tyro.cli(
                kind,
                prog=f"advmix {called}",
                args=words,
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes),
                **saved,
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UserError(f"{_inside_box(errors.getvalue())} (see advmix {called} --help)") from None


@contextlib.contextmanager
def _readable_width() -> Iterator[None]:
    """Help has frames and columns, which need some room."""
    before, columns = os.environ.get("COLUMNS"), max(shutil.get_terminal_size().columns, NARROWEST)
    os.environ["COLUMNS"] = str(columns)
    try:
        yield
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before


def _take_config(words: list[str]) -> tuple[list[str], str | None]:
    """Remove `--config FILE`; returns FILE."""
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--config=") else [word])]
    if "--config" not in words:
        return words, None
    place = words.index("--config")
    if place + 1 == len(words):
        raise UserError("--config: write advmix COMMAND --config FILE")
    return words[:place] + words[place + 2 :], words[place + 1]


def _saved(path: str, called: str, kind: type[Any]) -> Any:
    from advmix import config as configs

    return configs.load(Path(path), called, kind, edited=True)


def _check_words(words: list[str]) -> None:
    """What the parser would take without a word: a flag twice, an empty value, a NUL."""
    flags = [re.sub("^--no-", "--", word.partition("=")[0].replace("_", "-")) for word in words if word[:2] == "--"]
    twice = [flag for flag, count in Counter(flags).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: given twice; leave one out")
    for flag, value in pairwise(words):
        if value == "":
            raise UserError(f"{flag}: an empty value; leave the flag out, or give it one")
    for word in words:
        if word[:2] == "--" and word.endswith("="):
            raise UserError(f"{word[:-1]}: an empty value; leave the flag out, or give it one")
        if "\0" in word:
            raise UserError(f"{word!r}: has a NUL character in it")


def _inside_box(text: str) -> str:
    """The message of tyro as one line: what stands above its first rule, without the frame; where the terminal has no
    letters for a frame, a heading and a rule come first.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    rows = [line.strip("│ ") for line in plain.splitlines() if line.strip("│ ") and line[:1] not in "╭╰"]
    rules = [place for place, row in enumerate(rows) if set(row) <= {"─", "-"}]
    parts = [rows[start:stop] for start, stop in pairwise([0, *rules, len(rows)])]
    message = parts[0] if "╭" in plain else (parts[1][1:] if len(parts) > 1 else parts[0])
    return re.sub(r"\s+", " ", " ".join(message)).strip()


def _in_one_line(error: Exception) -> str | None:
    """What a user must know of an error that is not ours to mend; None for a bug."""
    text = str(error)
    if isinstance(error, UserError):
        return printable(text)
    if isinstance(error, MemoryError) or any(words in text.lower() for words in WITHOUT_MEMORY):
        return f"{_lacking(text)}. {MORE_MEMORY}"
    if isinstance(error, OSError):
        return _of_the_machine(error)
    if isinstance(error, RuntimeError) and any(words in text for words in LOST) and _is_one_of_several():
        return ALONE
    return None


def _lacking(text: str) -> str:
    """Who wanted how much memory, as far as the error says it."""
    first = (text.splitlines() or [""])[0].partition(" GPU ")[0].rpartition("DefaultCPUAllocator: ")[2].rstrip(".")
    said = printable(first)[:200]
    return said if "memory" in said else f"out of memory ({said})" if said else "out of memory"


def _of_the_machine(error: OSError) -> str | None:
    if error.errno not in OF_THE_MACHINE:
        return None
    place = str(error.filename)[:200] if error.filename is not None else "the output"
    return f"{printable(place)}: {error.strerror}"


def _is_one_of_several() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()


def _fill_streams() -> None:
    """Where the caller has closed a standard stream (`>&-`), no file that is opened later shall be taken for it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the smallest free number


def _take_any_encoding() -> None:
    """A letter that the terminal cannot show becomes a question mark, and never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)


def _forget_output() -> None:
    """What is left in the buffer goes nowhere, or Python would complain once more at its end."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
