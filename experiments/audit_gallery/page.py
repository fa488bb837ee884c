"""The gallery's page, from its `results.json`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advmix.audit.words import interval, percent
from advmix.change_kinds import MIN_FLIPS
from experiments.markdown_table import grid

DEPENDS = 0.1
"""Accuracy lost without the shortcut by which a classifier depends on it."""


def gallery_sections(results: Mapping[str, Any]) -> Iterator[str]:
    """Of `experiments gallery`: a table, then a section for each audit, with a picture, what it found, and whether that
    is true.
    """
    yield overview(results["entries"])
    for entry in results["entries"]:
        yield f"## {entry['title']}"
        yield entry["planted"]
        yield f"![{entry['title']}: images before and after a flip](../results/gallery/figures/{entry['name']}.png)"
        yield "\n".join(f"- {sentence}" for sentence in found_sentences(entry))
        yield f"**Is it true?** {truth_sentence(entry)}"
        yield "\n".join(["```", *(line for command in entry["commands"] for line in wrapped(command)), "```"])


def overview(entries: Sequence[Mapping[str, Any]]) -> str:
    """A row for each audit: accuracies in percent, and that without the shortcut."""
    keys = ("accuracy_clean", "accuracy_random_mix", "accuracy_worst_case", "accuracy_without_shortcut")
    rows = [[entry["title"], *(f"{100 * entry[key]['value']:.0f}" for key in keys)] for entry in entries]
    return grid(["accuracy, %", "As it is", "Random mix", "Worst case", "Without the shortcut"], rows)


def found_sentences(entry: Mapping[str, Any]) -> Iterator[str]:
    """What the audit says: accuracies, what flips, and what named changes say of it."""
    yield f"{entry['headline']}."
    if entry["kinds"] and entry["kinds"][0]["count"] >= MIN_FLIPS:
        yield ". ".join(kind["sentence"] for kind in entry["kinds"]) + "."
    else:
        yield f"The search over style flips {entry['flips']} answers, too few to say by what."
    if entry["corroboration"]:
        yield entry["corroboration"]
    yield entry["named_changes"]


def truth_sentence(entry: Mapping[str, Any]) -> str:
    """Whether the classifier depends on what was planted: on test images without it."""
    clean, without = entry["accuracy_clean"], entry["accuracy_without_shortcut"]
    depends = "depends" if clean["value"] - without["value"] >= DEPENDS else "does not depend"
    checked = f"{entry['checked'][0].upper()}{entry['checked'][1:]}"
    return (
        f"{checked}: {percent(without['value'])} right ({interval(without)}), {percent(clean['value'])} as they are. "
        f"The classifier {depends} on {entry['shortcut']}."
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
