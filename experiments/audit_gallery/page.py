"""The gallery's page, from its `results.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from advmix.audit.words import interval, percent
from advmix.change_kinds import FEWEST_FLIPS

SHOWN_KINDS = 3
"""Kinds of flips that the page names."""

DEPENDS = 0.1
"""Accuracy lost without the shortcut by which a classifier depends on it."""


def gallery_sections(results: Mapping[str, Any]) -> Iterator[str]:
    """Of `experiments gallery`: a section for each audit, with a picture, what it found, and whether that is true."""
    for entry in results["entries"]:
        yield f"## {entry['title']}"
        yield entry["planted"]
        yield f"![{entry['title']}: images before and after a flip](../results/gallery/figures/{entry['name']}.png)"
        yield f"**Found.** {' '.join(found_sentences(entry))}"
        yield f"**True?** {truth_sentence(entry)}"
        yield "\n".join(["```", *(line for command in entry["commands"] for line in wrapped(command)), "```"])


def found_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """What the audit says: accuracies, what flips, and what named changes say of it."""
    yield f"{entry['headline']}."
    if entry["flips"] < FEWEST_FLIPS:
        yield f"The search over style flips {entry['flips']} answers, too few to say by what."
    else:
        yield from (f"{kind['sentence']}." for kind in entry["kinds"][:SHOWN_KINDS])
    if entry["corroboration"]:
        yield entry["corroboration"]
    yield entry["named_changes"]


def truth_sentence(entry: Mapping[str, Any]) -> str:
    """Whether the classifier depends on what was planted: on test images without it."""
    clean, without = entry["accuracy_clean"], entry["accuracy_without_shortcut"]
    depends = clean["value"] - without["value"] >= DEPENDS
    return (
        f"{entry['checked'][0].upper()}{entry['checked'][1:]}: {percent(without['value'])} right "
        f"({interval(without)}), {percent(clean['value'])} as they are. "
        f"{'It depends on it.' if depends else 'It does not depend on it.'}"
    )


def wrapped(command: str, width: int = 88) -> Iterator[str]:
    """A command in lines of at most `width` characters, where its words allow it."""
    line, words = "", command.split(" ")
    for place, word in enumerate(words):
        # a flag stays with its value
        value = f" {words[place + 1]}" if word.startswith("--") and place + 1 < len(words) else ""
        if line and len(f"{line} {word}{value}") > width - 2 and word.startswith("--"):
            yield f"{line} \\"
            line = f"    {word}"
        else:
            line = f"{line} {word}" if line else word
    yield line
