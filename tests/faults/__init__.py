"""What becomes of a run when the machine fails: kills, flipped bits, signals, full disks, narrow terminals.

    PYTHONPATH=tests python -m faults --out results/reliability/faults.json     (about an hour on one core)
    PYTHONPATH=tests python -m faults --only kills --commands sample predict    (a part of it)

Writes all that was tried as JSON, and prints it as the Markdown table of docs/reliability.md. The exit code is 1 where
something failed. The quickest parts are tests, in `test_*.py` beside this file.
"""
