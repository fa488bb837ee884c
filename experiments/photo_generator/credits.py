"""Whose photographs `photo` learnt from, as NOTICE and the docs say it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from textwrap import fill

from experiments.markdown_table import grid
from experiments.photo_generator.pictures import Picture

LICENCES = {
    "CC0-1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-2.0": "https://creativecommons.org/licenses/by/2.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC-BY-SA-3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC-BY-SA-4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "public domain": "",
}
HEAD = """advmix
Copyright the advmix developers

The generator `photo` (advmix/pretrained/photo.safetensors) and its pools were trained and made by
`python -m experiments photo-generator` from random crops of the photographs below, in changed colours. None of the
photographs is part of advmix. Each came with a package of Debian or of the Python Package Index, which says who took
it and under which licence; experiments/photo_generator/pictures.csv has the checksum of every file and the line of
its package that says so.
"""


def notice(pictures: Sequence[Picture]) -> str:
    """The text of NOTICE."""
    parts = [HEAD]
    for (package, version, author, licence), files in _by_author(pictures):
        parts.append(f"{package} {version}: {author}, {_licence(licence)}")
        parts.append(fill(", ".join(files), 118, initial_indent="  ", subsequent_indent="  ") + "\n")
    return "\n".join(parts)


def photographs_table(pictures: Sequence[Picture]) -> str:
    """A row for each package, author and licence."""
    rows = [
        [
            f"`{package}` {version}",
            author,
            f"[{licence}]({LICENCES[licence]})" if LICENCES[licence] else licence,
            len(files),
        ]
        for (package, version, author, licence), files in _by_author(pictures)
    ]
    return grid(["package", "author", "licence", "photographs"], [[str(cell) for cell in row] for row in rows], left=3)


def _licence(name: str) -> str:
    return f"{name} ({LICENCES[name]})" if LICENCES[name] else name


def _by_author(pictures: Sequence[Picture]) -> Iterator[tuple[tuple[str, str, str, str], list[str]]]:
    def key(picture: Picture) -> tuple[str, str, str, str]:
        return picture.package, picture.version, picture.author, picture.licence

    for group, found in groupby(sorted(pictures, key=key), key):
        yield group, [picture.file for picture in found]
