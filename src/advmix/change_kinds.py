"""Groups of changes, in words, by what flips the answer; and whether named changes say the same.

>>> kinds = change_kinds(describe_flips(network, labels, before, after))          # of the flips alone
>>> kinds[0].sentence
'Darker by 0.8 stops and bluer: 41 % of the flips (47 of 115)'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from advmix.change_description import NEUTRAL, TERMS, ChangeDescription
from advmix.intervals import Interval, wilson
from advmix.named_changes import FEW_FLIPS, NAMED_CHANGES, flips_at

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
    others where what the terms do not explain has a larger one, or where its kind is not among the commonest.

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
    effect, largest = changes.effects.max(dim=1)
    named = ((effect > 0) & (largest < len(TERMS))).tolist()
    words = _words_of_terms(changes)
    return [words[row][term] if named[row] else OTHER for row, term in enumerate(largest.tolist())]


def _words_of_terms(changes: ChangeDescription) -> list[list[str]]:
    """For each change the word of every term, in the order of `TERMS`."""
    above = torch.stack([getattr(changes, term) > NEUTRAL[term] for term in TERMS], dim=1).tolist()
    return [[WORDS[term][side] for term, side in zip(TERMS, row, strict=True)] for row in above]


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
    large = (chosen.effects[:, : len(TERMS)] >= SECOND_EFFECT * chosen.effects[:, place, None]).tolist()
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
    """`darker by 0.8 stops`, `less contrast (× 0.6)`, `greyer (saturation × 0.4)`.

    Args:
        word: of `WORDS`.
        value: of its term.
    """
    term, amount = _term_of(word), f"{abs(value):.2g}"
    if term in FACTORS:
        return f"{word} (× {amount})" if term in word else f"{word} ({term} × {amount})"
    return f"{word} by {amount} {'stop' if amount == '1' else 'stops'}"


def corroboration_words(kinds: Sequence[Mapping[str, Any]], changes: Sequence[Mapping[str, Any]]) -> str:
    """Whether named changes by themselves flip answers as the search's kinds of change do, each at the median strength
    of its kind: one or two sentences, empty where there is nothing to compare.

    A kind of at least `MIN_FLIPS` is confirmed where its first word alone flips at least `FEW_FLIPS` of the right
    answers.

    Args:
        kinds: as `ChangeKind.to_dict` makes them.
        changes: of `measure_changes`, about the same classifier.
    """
    rows = {row["name"]: row for row in changes if row["right"]}
    named = [kind for kind in kinds if kind["count"] >= MIN_FLIPS and kind["terms"] and kind["terms"][0] in rows]
    compared = [_compared(rows[kind["terms"][0]], kind) for kind in named]
    confirmed = [words for words, share in compared if share >= FEW_FLIPS]
    others = [words for words, share in compared if share < FEW_FLIPS]
    of = f"of {rows[named[0]['terms'][0]]['right']:,} right answers" if named else ""
    if confirmed and others:
        return f"Named changes corroborate the search: {_listed(confirmed)} {of}. Alone, {_listed(others)}."
    if confirmed:
        return f"Named changes corroborate the search: {_listed(confirmed)} {of}."
    if others:
        return (
            f"Named changes do not confirm the search: {_listed(others)} {of}. The search takes the worst change for "
            "each image, and several at once: look at the pictures."
        )
    return ""


MIN_FLIPS = 10
"""Nothing is said to flip most that flips fewer answers, and a kind of fewer is held against nothing."""


def _compared(row: Mapping[str, Any], kind: Mapping[str, Any]) -> tuple[str, float]:
    """What the first word of a kind flips by itself, at the kind's median or, beyond what was measured, the strongest:
    in words, and its share.
    """
    word = kind["terms"][0]
    term, last = _term_of(word), row["strengths"][-1]["strength"]
    value = kind["medians"][term]
    strength = value if term in FACTORS else abs(value)
    size = NAMED_CHANGES[word].size
    strength = strength if size(strength) <= size(last) else last
    share = flips_at(row, strength) or 0.0
    return f"{amount_words(word, strength)} flips {100 * share:.0f} %", share


def _listed(words: Sequence[str]) -> str:
    return " and ".join(", ".join(words).rsplit(", ", 1))
