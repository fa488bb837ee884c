"""Benchmarks run and say what they time. How long anything takes is not tested."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from advmix.utils.errors import UserError
from pictures import write
from study_runs import load_script

parts = load_script("parts", "benchmarks")
PARTS = ["classifier step", "search candidate", "encode", "decode", "autoencoder step"]
SEARCH = ["AdvMix step, K = 2", "search, K = 2"]
WHOLE = ["Algorithm 2, 5 steps", "GAN step", "GAN step with R1"]


def test_parts_are_timed_under_every_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--resolutions", "16", "--batch", "4", "--rounds", "1", "--device", "cpu", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["parts.py", *arguments, "--settings", "plain", "contiguous", "bf16"])
    parts.main()
    rows = json.loads((tmp_path / "parts.json").read_text())["rows"]
    timed = {name: [row["part"] for row in rows if row["setting"] == name] for name in ("plain", "contiguous", "bf16")}
    assert timed == {
        "plain": [*PARTS, *SEARCH, "search, K = 2, image by image", *WHOLE],
        "contiguous": [*PARTS, WHOLE[0]],
        "bf16": [*PARTS, *SEARCH, *WHOLE],
    }
    found = {(row["part"], row["setting"]): row for row in rows}
    assert found["classifier step", "plain"]["times_nominal"] == 1
    for row in rows:
        assert row["images_per_second"] == pytest.approx(4000 / row["milliseconds"])
        plain = found[row["part"], "plain"]
        assert row["times_plain"] == pytest.approx(row["milliseconds"] / plain["milliseconds"])
        assert (row["times_floor"] is None) == (row["part"] not in PARTS)
    assert "16 pixels" in capsys.readouterr().out


def test_a_setting_means_what_it_says() -> None:
    plain, other = (parts.Setting(name, torch.device("cpu")) for name in ("plain", "contiguous-bf16"))
    assert (plain.memory_format, other.memory_format) == (torch.channels_last, torch.contiguous_format)
    product = torch.ones(2, 2)
    with other.precision():
        assert (product @ product).dtype == torch.bfloat16
    with plain.precision():
        assert (product @ product).dtype == torch.float32
    assert not parts.Setting("bf16-compiled", torch.device("cpu")).as_advmix_runs


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(UserError, match="--settings bf61: unknown"):
        parts.PartsConfig(settings=("plain", "bf61"))


def test_an_unknown_part_is_refused() -> None:
    config = parts.PartsConfig(resolutions=(16,), batch=4, parts=("coffee",), device="cpu")
    with pytest.raises(UserError, match="--parts 'coffee': unknown; choose from classifier step"):
        parts.time_parts(16, config, torch.device("cpu"))


def test_a_random_style_is_timed_beside_a_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    augmentation = load_script("augmentation", "benchmarks")
    arguments = ["--generators", "statistics", "--size", "16", "--batch", "3", "--rounds", "1", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["augmentation.py", *arguments, "--out", str(tmp_path)])
    augmentation.main()
    rows = json.loads((tmp_path / "augmentation.json").read_text())["rows"]
    assert [row["use"] for row in rows] == [
        "step",
        "half of the batch",
        "all of the batch",
        "one by one",
        "adversarial",
    ]
    assert rows[0]["times_step"] == 1
    for row in rows:
        assert row["times_step"] == pytest.approx(row["milliseconds"] / rows[0]["milliseconds"])


def test_a_command_is_measured_on_made_images(tmp_path: Path) -> None:
    scaling = load_script("scaling", "benchmarks")
    scaling.make_images(tmp_path / "images", 40, 16)
    assert len(list((tmp_path / "images").rglob("*.jpg"))) == 40
    config = scaling.ScalingConfig(counts=(400,), size=16)
    lines = scaling.commands(config, tmp_path, 40)
    assert lines[scaling.AUDIT][lines[scaling.AUDIT].index("--images") + 1] == "4"
    decoding, again = list(lines)[:2]
    for name in (decoding, again):
        row = scaling.run_command(lines[name], tmp_path / "cache")
        assert row["peak_bytes"] >= (row["peak_private_bytes"] or 0) > 0
    assert len(list((tmp_path / "cache").glob("*.pixels"))) == 1
    assert "40" in str(scaling.scaling_table([{"images": 40, "read": 40, "command": name, **row}]).columns[0]._cells)
    with pytest.raises(UserError, match="advmix data"):
        scaling.run_command(["data", str(tmp_path / "nothing")], tmp_path / "cache")


def test_audits_differ_from_the_smallest_in_one_number(tmp_path: Path) -> None:
    audits = load_script("audit_scaling", "benchmarks")
    points = audits.points(("images", "classes"))
    assert points[0] == ("base", audits.BASE)
    assert [point[axis] for axis, point in points[1:]] == [200, 400, 800, 8, 32]
    assert all(sum(point[key] != audits.BASE[key] for key in point) == 1 for _, point in points[1:])
    files = {f"{label}/{place:02}.jpg": b"" for label in "01" for place in range(8)}
    write(tmp_path / "images", files)
    point = {**audits.BASE, "classes": 4, "groups": 2, "candidates": 25}
    lines = audits.audit_words(audits.AuditScalingConfig(), tmp_path, point)
    words = lines["audit"]
    assert words[words.index("--restarts") + 1 : words.index("--images")] == ["5", "--steps", "4"]
    table = Path(words[words.index("--data") + 1]).read_text().splitlines()
    assert table[:4] == ["filename,class,group", "0/00.jpg,0-0,g0", "0/01.jpg,0-1,g0", "0/02.jpg,0-0,g1"]
    rows = [{"axis": axis, **point, "cpu_seconds": 9.0, "peak_bytes": 10**9} for axis, point in points[1:]]
    assert len(audits.scaling_figure(rows).axes) == 4
    assert audits.scaling_table(rows).row_count == 5
    with pytest.raises(UserError, match="--axes colour: unknown"):
        audits.AuditScalingConfig(axes=("colour",))


def test_peers_are_timed_where_they_are_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = load_script("peers", "benchmarks")
    short = ["--sizes", "32", "--attack-size", "32", "--batch", "2", "--steps", "1", "--rounds", "1"]
    monkeypatch.setattr(peers, "is_there", lambda package: package in ("advmix", "torchvision", "foolbox"))
    monkeypatch.setattr(sys, "argv", ["peers.py", *short, "--device", "cpu", "--out", str(tmp_path)])
    peers.main()
    rows = json.loads((tmp_path / "peers.json").read_text())["rows"]
    assert [row["name"] for row in rows if row["kind"] == "attack"] == [
        "gradients alone",
        "AdversarialStyle, statistics",
        "AdversarialStyle, photo",
        "foolbox LinfPGD",
    ]
    first = {row["name"]: row["times_reference"] for row in rows}
    assert first["RandomStyle, statistics"] == first["gradients alone"] == 1
    monkeypatch.undo()
    assert not peers.is_there("no_such_package")
    assert "left out: no_such_package is not installed" in capsys.readouterr().out


def test_both_precisions_are_trained_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--seeds", "0", "--fit-steps", "1", "--epochs", "1", "--images", "4", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["precision.py", *arguments, "--out", str(tmp_path)])
    load_script("precision", "benchmarks").main()
    rows = json.loads((tmp_path / "precision.json").read_text())["rows"]
    assert [(row["seed"], row["precision"]) for row in rows] == [(0, "32"), (0, "bf16")]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("accuracy_shuffled", "accuracy_worst_case"))


def run_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> dict[str, Any]:
    """What the script writes."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--quick", *words, "--out", str(tmp_path)])
    load_script("gpu", "benchmarks").main()
    found: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    return found


def test_what_a_gpu_is_asked_runs_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = run_gpu(tmp_path, monkeypatch, "--minutes", "1000")
    works = ["waits", "AdvMix training", "audit, tf32", "parts", "audit, bf16"]
    assert ([one["name"] for one in found["works"]], found["left_out"]) == (works, [])
    rows = found["rows"]
    assert {row["kind"] for row in rows} == {"waits", "AdvMix training", "audit", "part"}
    assert [row["passed"] for row in rows if row["kind"] == "waits"] == [None] * 8, "nothing is waited for on a CPU"
    assert all(row["images_per_second"] > 0 for row in rows if row["kind"] != "waits")
    trained = [(row["generator"], row["precision"]) for row in rows if row["kind"] == "AdvMix training"]
    assert trained == [(name, bits) for bits in ("32", "tf32", "bf16") for name in ("statistics", "photo")]
    assert {row["setting"] for row in rows if row["kind"] == "part"} == {"plain", "tf32", "bf16"}


def test_what_does_not_fit_into_the_time_is_left_out_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = run_gpu(tmp_path, monkeypatch, "--minutes", "0")
    assert (found["rows"], found["works"]) == ([], [])
    assert [one["name"] for one in found["left_out"]][:2] == ["waits", "AdvMix training"]
    assert "left out: AdvMix training: takes up to 60 s, and 0 s were left" in capsys.readouterr().out


def test_one_work_that_fails_does_not_keep_the_others_from_being_written(tmp_path: Path) -> None:
    gpu = load_script("gpu", "benchmarks")
    results = gpu.Results(gpu.GpuConfig(device="cpu", out=tmp_path), torch.device("cpu"))
    results.add(gpu.Job("broken", 1, lambda: int("no rows")), 10)
    results.add(gpu.Job("whole", 1, lambda: [{"kind": "part"}]), 10)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["rows"] == [{"kind": "part"}]
    assert found["left_out"] == [
        {"name": "broken", "reason": "failed: ValueError: invalid literal for int() with base 10: 'no rows'"}
    ]
