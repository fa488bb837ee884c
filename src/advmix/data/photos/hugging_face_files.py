"""What of Hugging Face's `datasets` touches files and the network: nothing in a folder leads out of it, or is run."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from pathlib import Path, PurePosixPath
from textwrap import shorten
from typing import Any

from advmix.data.photos.files import Folder
from advmix.data.photos.words import counted, first_few, in_short, split_word
from advmix.errors import UserError, printable
from advmix.files import parse_json
from advmix.options import expanded

SAVED = ("dataset_dict.json", "state.json", "dataset_info.json")
CARDS = ("README.md", ".huggingface.yaml")
LEAST_VERSION = 4
"""Of `datasets`; older ones run what they find in a folder."""
OTHER = "others"
SHARD = re.compile(r"-\d+-of-\d+.*$")


def load(datasets: Any, name: str, download: bool) -> Any:
    """A `Dataset`, or a dictionary of them by split, in `datasets`'s own form.

    Raises:
        UserError: it is not there, damaged, or leads out of its folder.
    """
    shown = printable(name)
    if not name:
        raise UserError("hf: name a data set there, or a folder, after the colon")
    if int(datasets.__version__.partition(".")[0]) < LEAST_VERSION:
        raise UserError(
            f"hf:{shown}: datasets {datasets.__version__} may run programs of others; pip install -U datasets"
        )
    place = expanded(name, "data")
    try:
        if place.is_dir():
            with _offline(datasets):
                return _plain(_from_folder(datasets, place))
        with nullcontext() if download else _offline(datasets):
            return _plain(datasets.load_dataset(name))
    except UserError as error:
        raise UserError(f"hf:{error}") from error
    except datasets.exceptions.DatasetGenerationError as error:
        raise UserError(
            f"hf:{shown}: its files cannot be made into a data set ({_why(error)}); mend them, or name a folder that "
            "save_to_disk wrote"
        ) from error
    except Exception as error:  # a dozen formats' readers raise whatever they like for damaged files
        why = printable(in_short(error))
        remedy = "mend it" if place.is_dir() else "fetch it with --download"
        raise UserError(
            f"hf:{shown}: cannot be read ({why}); {remedy}, or name a folder that save_to_disk wrote"
        ) from error


def _plain(loaded: Any) -> Any:
    """Values as Python's own, whatever form the data were saved in."""
    return loaded.with_format(None)


def _from_folder(datasets: Any, place: Path) -> Any:
    files = Folder(place)
    if files.passed:
        raise UserError(f"{place}: holds {counted(files.passed)}; take them away")
    if SAVED[0] in files or SAVED[1] in files:
        _check_saved(files)
        return datasets.load_from_disk(str(place))
    parquet = [name for name in files.names if name.lower().endswith(".parquet")]
    if parquet:
        loaded = datasets.load_dataset("parquet", data_files=_by_split(place, parquet))
        return loaded[OTHER] if list(loaded) == [OTHER] else loaded
    _check_cards(place)
    return datasets.load_dataset(str(place))


def _by_split(place: Path, names: list[str]) -> dict[str, list[str]]:
    """The paths of every split, by the files' names or their folders'; those of none are one of their own, `OTHER`."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[_split_of(name) or OTHER].append(str(place / name))
    return dict(found)


def _split_of(name: str) -> str | None:
    """`train` of `data/train-00000-of-00002.parquet` and of `train/0.parquet`."""
    path = PurePosixPath(name)
    words = (SHARD.sub("", path.stem), path.stem, *reversed(path.parts[:-1]))
    return next((split for word in words if (split := split_word(word)) is not None), None)


def _check_saved(files: Folder) -> None:
    """What the small files beside the data say must be there, inside the folder."""
    for name in files.names:
        path = PurePosixPath(name)
        if path.name not in SAVED:
            continue
        said = parse_json(files.read_text(name), str(files.place / name))
        if not isinstance(said, dict):
            raise UserError(f"{files.place / name}: not what save_to_disk writes; save the data again")
        for other in _named_in(path.name, said):
            if not any(known.startswith(f"{path.parent / other}") for known in files.names):
                raise UserError(
                    f"{files.place / name}: names {printable(other)}, which is not there; save the data again"
                )


def _named_in(kind: str, said: Mapping[str, Any]) -> Iterator[str]:
    """The files, or folders of splits, that `dataset_dict.json` and `state.json` name."""
    listed = said.get("splits" if kind == SAVED[0] else "_data_files") if kind != SAVED[2] else ()
    for one in listed if isinstance(listed, list) else ():
        yield str(one.get("filename") if isinstance(one, dict) else one)


def _check_cards(place: Path) -> None:
    """A card may say where the data lie; elsewhere they are not looked for."""
    yaml = import_module("yaml")

    for name in CARDS:
        path = place / name
        if not path.is_file():
            continue
        text = path.read_text(errors="replace")
        head = text.split("---")[1] if name == CARDS[0] and text.startswith("---") else ""
        try:
            said = yaml.safe_load(head if name == CARDS[0] else text)
        except (yaml.YAMLError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read as YAML ({in_short(error)})") from error
        outside = [word for word in _words(said.get("configs") if isinstance(said, dict) else None) if _leads_out(word)]
        if outside:
            raise UserError(f"{path}: names {first_few(outside)} outside of its folder; take that out")


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _words(part)


def _leads_out(word: str) -> bool:
    return "://" in word or "::" in word or word.startswith(("/", "~")) or ".." in PurePosixPath(word).parts


def readable(path: Path, home: Path) -> Path:
    """The path of a file that belongs to a data set: in its folder, or in what was fetched.

    Raises:
        OSError: it lies elsewhere.
    """
    constants = import_module("huggingface_hub.constants")
    found = Path(os.path.abspath(path))  # noqa: PTH100 a link in the folder may lead elsewhere, its name may not
    places = [home, Path(constants.HF_HOME), Path(import_module("datasets").config.HF_DATASETS_CACHE)]
    if not any(found.is_relative_to(place.absolute()) for place in places):
        raise OSError("outside of the data set")
    return found


def _why(error: Exception) -> str:
    """Its own first line says nothing but that something went wrong: what follows it or the cause says what."""
    _, _, more = str(error).partition("\n")
    return printable(shorten(more or str(error.__cause__ or error), 200, placeholder=" ..."))


@contextmanager
def _offline(datasets: Any) -> Iterator[None]:
    """As with `HF_HUB_OFFLINE` in the environment, which the two libraries read only when they are imported."""
    readers: tuple[Any, ...] = (datasets.config, import_module("huggingface_hub.constants"))
    before = [reader.HF_HUB_OFFLINE for reader in readers]
    for reader in readers:
        reader.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        for reader, value in zip(readers, before, strict=True):
            reader.HF_HUB_OFFLINE = value
