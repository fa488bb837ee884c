"""`advmix doctor` on audits of other labels than the generator's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from advmix.cli import main
from advmix.utils.files import make_folder, write_json
from pictures import digit, digit_label, encoded, write
from trained import hasten_reference, shared

SHADES = """
import torch

class Shades(torch.nn.Module):
    '''Dark, middle or bright: the nearest mean, as the table has it.'''

    def forward(self, images):
        mean = images.mean(dim=(1, 2, 3))
        return torch.stack([-(100 * (mean - middle)) ** 2 for middle in (0.2, 0.3, 0.4)], dim=1)
"""
CPU = ["--device", "cpu"]


def shade(index: int) -> str:
    mean = float(np.asarray(digit(index)).mean()) / 255
    return ("1 dark", "2 middle", "3 bright")[min(range(3), key=lambda place: abs(mean - (0.2, 0.3, 0.4)[place]))]


@shared
def runs(out: Path) -> None:
    """A generator fitted for one column, and a classifier of another column that is audited with it."""
    rows = [f"{index:03}.png,{digit_label(index) % 2},{shade(index)}\n" for index in range(150)]
    files: dict[str, bytes | str] = {f"{index:03}.png": encoded(digit(index).resize((24, 24))) for index in range(150)}
    write(out / "data", {**files, "labels.csv": "filename,odd,shade\n" + "".join(rows)})
    (out / "shades_of_doctor_tests.py").write_text(SHADES)
    data = ["--data", str(out / "data"), "--size", "16", "--channels", "1", "--target"]
    made = ["--generator", str(out / "fit"), "--latents", str(out / "latents")]
    few = ["--images", "10", "--restarts", "1", "--steps", "1", "--resamples", "50", *CPU]
    judged = ["--classifier", "shades_of_doctor_tests:Shades", "--input-size", "24"]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(out))
        hasten_reference(patch)
        assert (
            main(["fit", *data, "odd", "--fit-steps", "20", "--fit-batch", "16", *CPU, "--out", str(out / "fit")]) == 0
        )
        assert main(["encode", *made[:2], *CPU, "--out", str(out / "latents")]) == 0
        assert main(["audit", *judged, *made, *data, "shade", *few, "--out", str(out / "audit")]) == 0


@pytest.fixture(autouse=True)
def _classifier(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(runs))


def doctor(out: Path, *words: Path | str) -> int:
    return main(
        ["doctor", *map(str, words), "--images", "40", "--search-images", "5", "--trust-code", *CPU, "--out", str(out)]
    )


def test_what_an_audit_was_told_to_call_is_not_called_again(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", str(runs / "audit"), "--out", str(tmp_path / "out")]) == 2
    assert "names a function" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_audit_is_examined_on_its_own_labels(runs: Path, tmp_path: Path) -> None:
    assert doctor(tmp_path, runs / "audit") == 0
    results = json.loads((tmp_path / "doctor.json").read_text())
    found: dict[str, Any] = {finding["check"]: finding for finding in results["findings"]}
    assert found["reconstruction"]["numbers"]["accuracy"] > 0.8
    assert "of the images at the generator's size and on" in found["reconstruction"]["why"]
    assert "% right at the generator's size and" in found["worst case"]["why"]
    assert "pool" not in found  # its members' shades are not known
    assert doctor(tmp_path / "own", runs / "fit", runs / "latents") == 0
    own = json.loads((tmp_path / "own" / "doctor.json").read_text())
    assert "pool" in {finding["check"] for finding in own["findings"]}


def test_what_does_not_fit_together_is_refused_in_one_line(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((runs / "audit" / "config.json").read_text())
    config["data"]["target"] = "odd"
    write_json(make_folder(tmp_path / "other") / "config.json", config)
    three = ["--reference", runs / "audit" / "reference"]
    for words, message in (
        ([runs / "audit", tmp_path / "other"], "audits of different images or labels"),
        ([runs / "fit", runs / "latents", *three], "reference.safetensors: not trained on images like these"),
    ):
        assert doctor(tmp_path / "out", *words) == 2
        err = capsys.readouterr().err
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()
