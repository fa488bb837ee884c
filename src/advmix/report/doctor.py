"""What the doctor found, as a table."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from advmix.audit.doctor.finding import Finding

COLORS = {"ok": "green", "doubtful": "yellow", "bad": "red", "not known": "dim"}


def doctor_table(findings: Sequence[Finding]) -> Table:
    """A row per question: verdict, reason and, below it, remedy; the generator's first, then each classifier's."""
    view = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    view.add_column("check", no_wrap=True)
    view.add_column("verdict", no_wrap=True)
    view.add_column("why, and what to do")
    subject = ""
    for found in findings:
        if found.subject != subject:
            subject = found.subject
            view.add_section()
            view.add_row("", "", f"[bold]{escape(subject)}[/]")
        color = COLORS[found.verdict]
        remedy = f"\n[bold]→[/] {escape(found.remedy)}" if found.remedy else ""
        view.add_row(found.check, f"[{color}]{found.verdict}[/]", f"{escape(found.why)}{remedy}")
    return view
