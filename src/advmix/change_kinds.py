"""Groups of changes, in words, by what changed most; and whether named changes say the same.

>>> kinds = change_kinds(describe_changes(before, after))          # of the flips alone
>>> kinds[0].sentence
'Darker by 0.8 stops and bluer: 41 % of the flips (47 of 115)'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.change_description import TERMS, ChangeDescription
from advmix.intervals import Interval, wilson
from advmix.named_changes import FEW_FLIPS, flips_at

ENOUGH_EXPLAINED = 0.75
"""Of the squared change: where the five terms explain less, what changed is none of them. To an unrelated picture they
explain about a half, by taking away the contrast of the old one."""

SECOND_EFFECT = 0.5
"""A second term is named where in half of a kind's members its effect is at least so large a part of the first's."""

MOST_KINDS = 5

OTHER = "other changes"

WORDS = {
    "exposure": ("darker", "brighter"),
    "contrast": ("less contrast", "more contrast"),
    "saturation": ("greyer", "more colourful"),
    "temperature": ("bluer", "warmer"),
    "tint": ("pinker", "greener"),
}
"""Of each term, below and above what changes nothing: names of `NAMED_CHANGES`, too."""

FACTORS = ("contrast", "saturation")
"""Terms that are factors; the others are stops."""


@dataclass(frozen=True, eq=False)
class ChangeKind:
    """Changes that are alike.

    Attributes:
        name: in words, with the median of the first term: `darker by 0.8 stops and bluer`.
        terms: one or two words, the first of what changed most; none for other changes.
        members: `(M,)`, places among all that were grouped.
        share: of all.
        medians: over the members: each of `TERMS`, in its unit, and `explained`.
        total: how many were grouped.
    """

    name: str
    terms: tuple[str, ...]
    members: Tensor
    share: Interval
    medians: dict[str, float]
    total: int

    @property
    def sentence(self) -> str:
        """`Darker by 0.8 stops and bluer: 41 % of the flips (47 of 115)`."""
        counts = f"{len(self.members):,} of {self.total:,}"
        return f"{self.name[0].upper()}{self.name[1:]}: {100 * self.share.value:.0f} % of the flips ({counts})"

    def to_dict(self) -> dict[str, Any]:
        """As it goes into `results.json`; `members` are places among the flips."""
        return {
            "name": self.name,
            "terms": list(self.terms),
            "sentence": self.sentence,
            "count": len(self.members),
            "flips": self.total,
            "share": self.share.to_dict(),
            "medians": self.medians,
            "members": self.members.tolist(),
        }


def change_kinds(changes: ChangeDescription) -> list[ChangeKind]:
    """At most `MOST_KINDS` kinds, the commonest first, other changes last; together all N.

    A change is of the kind of the term with the largest effect, below or above what changes nothing. It is among the
    others where the terms explain too little of it, or where its kind is not among the commonest.

    Args:
        changes: what changed in N flips; no kinds where N is 0.
    """
    first = main_words(changes)
    counts = {word: first.count(word) for word in sorted(set(first) - {OTHER}, key=first.index)}
    kept = sorted(counts, key=lambda word: -counts[word])
    if len(kept) + (OTHER in first) > MOST_KINDS:
        kept = kept[: MOST_KINDS - 1]
    kinds = [_kind(word, _places(first, {word}), changes) for word in kept]
    rest = _places(first, set(first) - set(kept))
    return [*kinds, _kind(OTHER, rest, changes)] if len(rest) else kinds


def main_words(changes: ChangeDescription) -> list[str]:
    """What each of N changes is called alone: the word of the term with the largest effect, or `OTHER`."""
    largest = changes.effects.argmax(dim=1).tolist()
    explained = ((changes.explained >= ENOUGH_EXPLAINED) & (changes.effects.amax(dim=1) > 0)).tolist()
    words = _words_of_terms(changes)
    return [words[row][term] if explained[row] else OTHER for row, term in enumerate(largest)]


def _words_of_terms(changes: ChangeDescription) -> list[list[str]]:
    """For each change the word of every term, in the order of `TERMS`."""
    above = torch.stack([getattr(changes, term) > _neutral(term) for term in TERMS], dim=1).tolist()
    return [[WORDS[term][side] for term, side in zip(TERMS, row, strict=True)] for row in above]


def _neutral(term: str) -> float:
    return 1.0 if term in FACTORS else 0.0


def _places(words: Sequence[str], wanted: set[str]) -> Tensor:
    return torch.tensor([place for place, word in enumerate(words) if word in wanted], dtype=torch.int64)


def _kind(word: str, members: Tensor, changes: ChangeDescription) -> ChangeKind:
    chosen = changes[members]
    medians = {name: float(getattr(chosen, name).median()) for name in (*TERMS, "explained")}
    terms = () if word == OTHER else (word, *_second_words(word, chosen))
    name = OTHER if word == OTHER else " and ".join([amount_words(word, medians[_term_of(word)]), *terms[1:]])
    return ChangeKind(name, terms, members, wilson(len(members), len(changes)), medians, len(changes))


def _second_words(first: str, chosen: ChangeDescription) -> list[str]:
    """The word besides that at least half of the members share, with an effect not far below the first's: none or
    one.
    """
    place = TERMS.index(_term_of(first))
    large = (chosen.effects >= SECOND_EFFECT * chosen.effects[:, place, None]).tolist()
    counts: dict[str, int] = {}
    for words, beside in zip(_words_of_terms(chosen), large, strict=True):
        for term, (word, is_large) in enumerate(zip(words, beside, strict=True)):
            if is_large and term != place:
                counts[word] = counts.get(word, 0) + 1
    common = [word for word, count in counts.items() if 2 * count >= len(chosen)]
    return sorted(common, key=lambda word: -counts[word])[:1]


def _term_of(word: str) -> str:
    return next(term for term, words in WORDS.items() if word in words)


def amount_words(word: str, value: float) -> str:
    """`darker by 0.8 stops`, `less contrast (0.6 times)`.

    Args:
        word: of `WORDS`.
        value: of its term.
    """
    return f"{word} ({value:.2g} times)" if _term_of(word) in FACTORS else f"{word} by {abs(value):.2g} stops"


def corroboration_words(kinds: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> str:
    """Whether named changes flip answers as the search's commonest kind of change does: one or two sentences, empty
    where there is nothing to compare.

    It is corroborated where one of the named changes that it consists of flips at least `FEW_FLIPS` of the right
    answers by itself, at the median strength of the kind.

    Args:
        kinds: as `ChangeKind.to_dict` makes them.
        changes: of `measure_changes`, about the same classifier.
    """
    rows = {row["name"]: row for row in changes}
    kind = next((kind for kind in kinds if kind["terms"]), None)
    if kind is None or any(rows[word]["right"] == 0 for word in kind["terms"]):
        return ""
    amounts = {word: kind["medians"][_term_of(word)] for word in kind["terms"]}
    flips = {word: _flips_by(rows[word], word, value) for word, value in amounts.items()}
    said = " and ".join(f"{amount_words(word, amounts[word])} flips {100 * flips[word]:.0f} %" for word in flips)
    found = f"{kind['name']}, {100 * kind['share']['value']:.0f} % of its flips"
    said = f"{said} of {rows[kind['terms'][0]]['right']:,} right answers{', each' if len(flips) > 1 else ''} by itself"
    if max(flips.values()) >= FEW_FLIPS:
        return f"Named changes corroborate what the search found most often ({found}): {said}."
    return (
        f"Named changes do not confirm what the search found most often ({found}): {said}. The search chooses the "
        "worst change for each image, which these words may not say in full: look at the pictures."
    )


def _flips_by(row: Mapping[str, Any], word: str, value: float) -> float:
    """The share that a named change flips, as strong as the value of a term."""
    return flips_at(row, value if _term_of(word) in FACTORS else abs(value)) or 0.0
