"""One answer of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Verdict = Literal["ok", "doubtful", "bad", "not known"]


@dataclass(frozen=True)
class Finding:
    """What was asked, what was found, and what to do.

    Attributes:
        check: name of the question.
        verdict: `ok`, `doubtful`, `bad` or `not known`.
        why: one sentence with the numbers that decided.
        remedy: what to do; empty where nothing has to be done.
        numbers: everything that was measured, as JSON values.
        subject: name of the classifier it is about; empty where it is about the generator.
    """

    check: str
    verdict: Verdict
    why: str
    remedy: str = ""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    subject: str = ""

    def about(self, subject: str) -> Finding:
        """The same, of one classifier."""
        return replace(self, subject=subject)


def grade(value: float, ok: float, bad: float) -> Verdict:
    """`ok` up to `ok`, `bad` above `bad`, `doubtful` between: for numbers that should be small.

    >>> grade(0.02, ok=0.02, bad=0.05), grade(0.03, ok=0.02, bad=0.05), grade(0.06, ok=0.02, bad=0.05)
    ('ok', 'doubtful', 'bad')
    """
    if value <= ok:
        return "ok"
    return "bad" if value > bad else "doubtful"
