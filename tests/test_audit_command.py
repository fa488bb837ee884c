"""`advmix audit` on small digits in a table, with groups, and with names that would be markup in a page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch

from advmix.audit.records import AuditRecords
from advmix.audit.settings import AuditConfig
from advmix.audit.statistics import LabelCheck, accuracy_of
from advmix.classifiers.networks import load_classifier
from advmix.cli import main
from advmix.data.photos.decode import PhotoOptions
from advmix.data.photos.load import load_photos
from advmix.encoders.autoencoder import load_autoencoder
from advmix.pools import data_of
from advmix.report.tables import schema
from advmix.utils.errors import UserError
from forked import in_two_processes
from pictures import digit, digit_label, encoded, write
from trained import hasten_reference, made, shared

MARKUP = "<script>alert(1)</script>"
DATA = ["--target", "label", "--size", "16", "--channels", "1", "--group", "place", "--site", "place"]
FEW = ["--images", "20", "--restarts", "2", "--steps", "1", "--resamples", "50", "--chunk", "8", "--device", "cpu"]


@shared
def runs(out: Path) -> None:
    """Images, a generator, latents, classifiers."""
    names = [f"<script>{index:03}.png" for index in range(90)]
    classes = ["even", MARKUP]
    table = [f"{name},{classes[digit_label(i) % 2]},{'a' if i % 3 else 'b'}\n" for i, name in enumerate(names)]
    files: dict[str, bytes | str] = {name: encoded(digit(i).resize((24, 24))) for i, name in enumerate(names)}
    write(out / "data", {**files, "labels.csv": "filename,label,place\n" + "".join(table)})
    fit, latents = str(out / "fit"), str(out / "latents")
    flags = ["--fit-steps", "40", "--fit-batch", "16", "--device", "cpu"]
    assert main(["fit", "--data", str(out / "data"), *DATA, *flags, "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--out", latents, "--device", "cpu"]) == 0
    training = ["--method", "nominal", "--epochs", "4", "--batch", "16", "--generator", fit, "--latents", latents]
    for seed in ("0", "1", "2"):
        assert main(["train", *training, "--seed", seed, "--device", "cpu", "--out", str(out / f"nominal{seed}")]) == 0


def words(runs: Path, *flags: str, named: bool = True) -> list[str]:
    mixing = ["--generator", str(runs / "fit"), "--latents", str(runs / "latents")] if named else []
    judged = [] if {"--compare", "--classifier"} & set(flags) else ["--classifier", str(runs / "nominal0")]
    voter = [] if "--reference" in flags else ["--reference", str(runs / "nominal2")]
    return ["audit", *judged, *mixing, *FEW, *voter, *flags]


def audit(runs: Path, out: Path, *flags: str, named: bool = True) -> int:
    return main([*words(runs, *flags, named=named), "--out", str(out)])


def results_of(out: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    return results


@pytest.fixture(scope="module")
def done(runs: Path) -> Path:
    """A finished audit."""
    return made(*words(runs))


def test_shares_are_counted_by_class_and_group(done: Path) -> None:
    results, found = results_of(done), AuditRecords.load(done)
    jsonschema.validate(results, schema())
    parts, judged = results["classifiers"][0]["parts"], found.classifiers[0]
    kinds = ("all", "site", "class", "group", "class in group")
    by_kind = {kind: [row for row in parts if row["kind"] == kind] for kind in kinds}
    assert [row["name"] for row in by_kind["group"]] == ["a", "b"]
    for rows in by_kind.values():
        assert sum(row["images"] for row in rows) == len(found)
        for key in ("right_clean", "right_worst_case", "right_random_mix_drawn"):
            mean = sum(row["images"] * row[accuracy_of(key)]["value"] for row in rows) / len(found)
            assert mean == pytest.approx(float(getattr(judged, key).double().mean()))
    assert not (judged.right_worst_case & ~judged.right_clean).any()
    assert by_kind["site"] == sorted(
        [row | {"kind": "site"} for row in by_kind["group"]], key=lambda row: row["accuracy_worst_case"]["value"]
    )


def test_probabilities_are_scored_for_all_and_by_site_and_group(done: Path) -> None:
    results, found = results_of(done), AuditRecords.load(done)
    before, labels = found.classifiers[0].before, found.images.labels
    assert results["classes"] == found.metadata["classes"]
    for row in results["classifiers"][0]["parts"]:
        if row["kind"] not in ("all", "site", "group"):
            assert "brier" not in row
            continue
        mask = torch.ones(len(labels), dtype=torch.bool)
        if row["kind"] != "all":
            mask = found.images.sites == found.metadata["sites"].index(row["name"])
        wrong = 1 - before[mask, labels[mask]]
        assert row["brier"]["value"] == pytest.approx(float((2 * wrong.square()).mean()))  # of two classes
        assert row["brier"]["low"] <= row["brier"]["value"] <= row["brier"]["high"]
        assert 0 <= row["sensitivity_at_specificity"]["value"] <= 1
    page = (done / "report.html").read_text()
    assert page.count("By site, the worst first") == 2
    assert f"{results['classifiers'][0]['parts'][0]['brier']['value']:.3f}<small>" in page


def test_what_was_found_can_be_drawn_again(runs: Path, done: Path) -> None:
    found, (model, metadata) = AuditRecords.load(done), load_autoencoder(runs / "fit")
    pixels = data_of(metadata, runs).test.batch(found.images.rows)[0]
    with torch.no_grad():
        full = model.generator.complete(found.images.latents, pixels)
        mixes = model.generator(found.split.with_perp(full, found.classifiers[0].perp))
        answers = load_classifier(runs / "nominal0")[0](mixes).double().softmax(1)
    assert torch.allclose(answers, found.classifiers[0].after, atol=1e-4)


class Tags(HTMLParser):
    """Counts what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href") and value != "explore.html"]


def test_the_page_is_whole_and_escapes_names(done: Path) -> None:
    page, tags, entry = (done / "report.html").read_text(), Tags(), results_of(done)["classifiers"][0]
    tags.feed(page)
    assert tags.found.count("script") == 1  # ours, of the sheet
    assert "alert(1)</script>" not in page
    assert MARKUP.replace("<", "&lt;").replace(">", "&gt;") in page
    shown = [row for kind in entry["kinds"] for row in kind["pictures"]]
    assert shown
    for row in shown:
        assert row["name"].startswith("<script>")
        assert row["name"].replace("<", "&lt;").replace(">", "&gt;") in page
    assert tags.sources
    assert all(source.startswith("data:image/") for source in tags.sources)
    assert f"{100 * entry['parts'][0]['accuracy_worst_case']['value']:.1f} %" in page
    for kind in entry["kinds"]:
        assert kind["sentence"] in page.replace("\N{NO-BREAK SPACE}", " ")


def test_few_images_have_numbers_and_no_verdict(done: Path) -> None:
    """Nothing is hidden: the pictures and the worst case stand under a warning."""
    page, entry = (done / "report.html").read_text(), results_of(done)["classifiers"][0]
    head = page[page.index("<h1>") : page.index("<main>")]
    assert "No verdict: 18 images are too few" in head
    assert "--images" in head
    assert f"{100 * entry['parts'][0]['accuracy_worst_case']['value']:.1f} %" in head
    assert [advice["title"] for advice in entry["advice"]] == ["First make the audit sound"]


def test_the_smallest_changes_flip_and_are_counted(done: Path) -> None:
    found, entry = AuditRecords.load(done), results_of(done)["classifiers"][0]
    records = found.classifiers[0]
    flipped = records.right_clean & ~records.right_worst_case & ~records.unanswered
    assert flipped.any()
    assert (records.flip_strength[flipped] <= 1).all()
    assert records.flip_answers.argmax(1)[flipped].ne(found.images.labels[flipped]).all()
    assert entry["smallest"]["flips"] == int((flipped & (records.flip_strength > 0)).sum())
    assert sum(kind["count"] for kind in entry["kinds"]) == entry["smallest"]["flips"]
    assert entry["curve"][-1]["accuracy_worst_case"] == entry["parts"][0]["accuracy_worst_case"]
    assert records.flip_natural is not None
    assert ((records.flip_natural >= 0) & (records.flip_natural <= 1)).all()


def test_named_changes_are_measured_on_the_same_images(done: Path) -> None:
    rows = results_of(done)["classifiers"][0]["named_changes"]
    assert {row["images"] for row in rows} == {18}
    assert {"darker", "shift", "JPEG"} <= {row["name"] for row in rows}
    assert not {"hue", "bluer"} & {row["name"] for row in rows}  # the images are grey


def test_a_person_s_votes_are_read_back(
    runs: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    before = results_of(out)
    entry = before["classifiers"][0]
    places = [row["place"] for row in entry["sheet"]]
    assert places
    said = {str(place): "lost" if turn else "kept" for turn, place in enumerate(places)}
    found = AuditRecords.load(done)
    steady = ~LabelCheck(found.images, found.classifiers[0]).flipped
    held = str(int(steady.nonzero()[0, 0]))
    votes = tmp_path / "votes.json"
    votes.write_text(json.dumps({"audit": before["digest"], "votes": {entry["name"]: said}}))
    assert audit(runs, out, "--votes", str(votes)) == 0
    check = results_of(out)["classifiers"][0]["label_check"]
    assert (check["asked"], check["asked_label_kept"]) == (len(places), 1)
    assert [row["answered"] for row in results_of(out)["classifiers"][0]["sheet"]] == [1] + [0] * (len(places) - 1)
    for text, why in (
        (json.dumps({"audit": "0" * 16, "votes": {}}), "of another audit"),
        (json.dumps({"audit": before["digest"], "votes": {"other": {}}}), "was not audited"),
        (json.dumps({"audit": before["digest"], "votes": {entry["name"]: {"0": "maybe"}}}), "must be kept or lost"),
        (json.dumps({"audit": before["digest"], "votes": {entry["name"]: {"999": "kept"}}}), "image 999 of 18"),
        (json.dumps({"audit": before["digest"], "votes": {entry["name"]: {"01": "kept"}}}), "no votes"),
        (json.dumps({"audit": before["digest"], "votes": {entry["name"]: {held: "kept"}}}), "does not flip"),
        ("[]", "no votes"),
    ):
        votes.write_text(text)
        assert audit(runs, out, "--votes", str(votes)) == 2
        assert why in capsys.readouterr().err
    assert audit(runs, tmp_path / "new", "--votes", str(votes)) == 2
    assert "no finished audit" in capsys.readouterr().err


def test_classifiers_have_names_of_their_own(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def names(*flags: str) -> list[str]:
        config = AuditConfig(compare=(str(runs / "nominal0"), str(runs / "nominal1")), name=flags)
        return list(config.classifier_names)

    assert names() == ["nominal0", "nominal1"]
    assert names("a", "b") == ["a", "b"]
    twice = AuditConfig(compare=("x/net.pt", "y/net.pt", "y/other.onnx"))
    assert twice.classifier_names == ("x/net", "y/net", "other")
    same = AuditConfig(compare=("x/net.pt", "x/net.pt"))
    assert same.classifier_names == ("1/x/net", "2/x/net")
    for wrong in (("a",), ("a", "a"), ("a", "b", "c")):
        with pytest.raises(UserError, match="give 2 names"):
            names(*wrong)


def test_a_stopped_audit_goes_on_to_the_same_result(
    runs: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from advmix.audit import run as audit_chunks
    from advmix.audit.measure import measure_classifier

    calls: list[int] = []

    def stopping(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return measure_classifier(*arguments)

    monkeypatch.setattr(audit_chunks, "measure_classifier", stopping)
    assert audit(runs, tmp_path / "out") == 130
    assert len(list((tmp_path / "out" / ".chunks").iterdir())) == 1
    monkeypatch.setattr(audit_chunks, "measure_classifier", measure_classifier)
    assert audit(runs, tmp_path / "out") == 2
    assert "go on with --resume" in capsys.readouterr().err
    assert audit(runs, tmp_path / "out", "--resume") == 0
    assert results_of(tmp_path / "out")["classifiers"] == results_of(done)["classifiers"]
    assert not (tmp_path / "out" / ".chunks").exists()
    assert audit(runs, tmp_path / "out", "--resume", "--no-residual") == 2
    assert "another run (residual True there, False here)" in capsys.readouterr().err


def test_a_chunk_of_other_images_is_made_again(
    runs: Path, done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from advmix.audit import run as audit_chunks

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(audit_chunks, "_join", stopped)
        assert audit(runs, tmp_path / "out") == 130
    first, second, *_ = sorted((tmp_path / "out" / ".chunks").iterdir())
    shutil.copyfile(first, second)
    assert audit(runs, tmp_path / "out", "--resume") == 0
    assert results_of(tmp_path / "out")["classifiers"] == results_of(done)["classifiers"]


def test_an_audit_whose_reference_was_trained_on_other_images_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from advmix.audit import run as audit_chunks

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    hasten_reference(monkeypatch)
    names = [f"{part}/{digit_label(i) % 2}/{i}.png" for i in range(40) for part in ("train", "test")]
    data = write(tmp_path / "data", {name: encoded(digit(i)) for i, name in enumerate(names)})
    pool = write(tmp_path / "pool", {f"{i}.png": encoded(digit(i)) for i in range(4)})
    named, training = ["--data", str(data), "--size", "16"], ["--method", "nominal", "--epochs", "1", "--device", "cpu"]
    assert main(["train", *named, *training, "--out", str(tmp_path / "net")]) == 0
    line = ["audit", "--classifier", str(tmp_path / "net"), *named, "--pool", str(pool), *FEW]
    with monkeypatch.context() as patch:
        patch.setattr(audit_chunks, "search_all", stopped)
        assert main([*line, "--out", str(tmp_path / "out")]) == 130
    (data / names[0]).write_bytes(encoded(digit(50)))
    capsys.readouterr()
    assert main([*line, "--out", str(tmp_path / "out"), "--resume"]) == 2
    assert "another training set" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["seed", "rows"])
def test_records_of_another_audit_are_refused(
    runs: Path, done: Path, tmp_path: Path, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    shutil.copytree(done, out)
    (out / "results.json").unlink()
    found = AuditRecords.load(out)
    other = replace(found, metadata={**found.metadata, "seed": 1})
    if change == "rows":
        other = replace(found, images=replace(found.images, rows=found.images.rows + 1))
    other.save(out / "found.safetensors")
    assert audit(runs, out, "--resume") == 2
    assert "found.safetensors: of another audit" in capsys.readouterr().err
    (out / "found.safetensors").unlink()
    assert audit(runs, out, "--resume") == 0
    assert results_of(out)["classifiers"] == results_of(done)["classifiers"]


def test_two_processes_find_what_one_finds(runs: Path, done: Path, tmp_path: Path) -> None:
    in_two_processes(main, [*words(runs), "--devices", "2", "--out", str(tmp_path / "out")])
    assert results_of(tmp_path / "out")["classifiers"] == results_of(done)["classifiers"]


def test_a_reference_does_not_vouch_for_itself(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert audit(runs, tmp_path / "out", "--reference", str(runs / "nominal0")) == 2
    assert "does, for which it would vouch" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_classifiers_under_one_search(runs: Path, done: Path, tmp_path: Path) -> None:
    both = [str(runs / "nominal0"), str(runs / "nominal1")]
    assert audit(runs, tmp_path / "out", "--compare", *both) == 0
    results, found = results_of(tmp_path / "out"), AuditRecords.load(tmp_path / "out")
    first, second = found.classifiers
    expected = float(second.right_worst_case.double().mean() - first.right_worst_case.double().mean())
    assert results["comparison"][0]["accuracy_worst_case"]["value"] == pytest.approx(expected)
    assert results["classifiers"][0] == results_of(done)["classifiers"][0]
    assert results["classifiers"][0]["key"] == results["classifiers"][1]["key"]


def test_without_gradients_the_search_is_a_random_one_and_larger_images_are_native(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exported graph under `torch.no_grad`, which wants images of 24 pixels."""
    (tmp_path / "factory_of_audit_tests.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.ones(1))\n"
        "    @torch.no_grad()\n"
        "    def forward(self, x):\n"
        "        assert x.shape[-1] == 24\n"
        "        return torch.stack([x.mean((1, 2, 3)), 0.3 + 0 * x.mean((1, 2, 3))], 1)\n"
    )
    torch.save({"weight": torch.ones(1)}, tmp_path / "weights.pt")
    monkeypatch.syspath_prepend(str(tmp_path))
    flags = ["--classifier", "factory_of_audit_tests:Net", "--weights", str(tmp_path / "weights.pt")]
    assert audit(runs, tmp_path / "out", *flags, "--input-size", "24") == 0
    results = results_of(tmp_path / "out")
    assert (results["search"]["restarts"], results["search"]["steps"]) == (4, 0)
    assert results["classifiers"][0]["side"] == 24
    page = (tmp_path / "out" / "report.html").read_text()
    assert "gives no gradients" in page
    assert "the difference that a mix makes at 16×16 is enlarged and added to the native image" in page


def test_what_is_not_named_is_made(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hasten_reference(monkeypatch)
    flags = ["--data", str(runs / "data"), *DATA, "--generator", "fit", "--fit-steps", "20", "--fit-batch", "16"]
    own = ["audit", "--classifier", str(runs / "nominal0"), *FEW, "--out", str(tmp_path / "out"), *flags]
    assert main(own) == 0
    results = results_of(tmp_path / "out")
    assert results["generator"]["fitted_here"]
    assert 0 < results["generator"]["unexplained"] < 2
    assert results["reference"]["name"].startswith("five small ConvMixers")
    assert (tmp_path / "out" / "latents" / "store.json").is_file()
    again = tmp_path / "again"
    assert audit(runs, again, "--reference", str(tmp_path / "out")) == 0
    assert not (again / "reference").exists()
    first, named = (results_of(folder)["reference"] for folder in (tmp_path / "out", again))
    assert all(first[key] == named[key] for key in ("name", "fingerprint", "accuracy_train"))
    mixing = ["--generator", str(tmp_path / "out" / "generator"), "--latents", str(tmp_path / "out" / "latents")]
    few = ["--images", "10", "--dimension-images", "0", "--resamples", "2", "--device", "cpu"]
    judged = ["--reference", str(tmp_path / "out" / "reference"), "--out", str(tmp_path / "inspected")]
    assert main(["inspect", *mixing, *few, *judged]) == 0


def test_images_that_the_generator_was_fitted_on_and_broken_ones_are_counted(
    runs: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "data", tmp_path / "data")
    with (tmp_path / "data" / "labels.csv").open("a") as table:
        table.write("broken.png,even,a\n")
    (tmp_path / "data" / "broken.png").write_bytes(b"hello")
    flags = ["--data", str(tmp_path / "data"), *DATA, "--split-seed", "1", "--skip-broken"]
    assert audit(runs, tmp_path / "out", *flags) == 0
    shape = PhotoOptions(target="label", size=16, channels=1)
    fitted = load_photos(str(runs / "data"), shape).train.names
    audited = load_photos(str(tmp_path / "data"), replace(shape, split_seed=1, skip_broken=True)).test.names
    known = len(set(fitted) & set(audited))
    results = results_of(tmp_path / "out")
    assert 0 < results["generator"]["fitted_on_audited"] == known < results["images"] == len(audited)
    assert [image["name"] for image in results["broken"]] == ["broken.png"]
    assert f"was fitted on {known} of these {len(audited)} images" in capsys.readouterr().out
    assert (results_of(done)["generator"]["fitted_on_audited"], results_of(done)["broken"]) == (0, [])


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "name a classifier with --classifier"),
        (["--classifier", "x", "--latents", "y", "--generator", "fit"], "--latents: goes together with a --generator"),
        (["--classifier", "x", "--images", "1"], "--images 1: must be at least 2"),
        (
            ["--classifier", "x", "--devices", "2", "--generator", "fit"],
            "--devices 2: name a --generator",
        ),
        (["--compare", "x", "y", "--mean", "0.5", "--std", "0.5"], "--mean --std: would describe --classifier alone"),
        (["--compare", "x", "--weights", "w", "--input-size", "8"], "--weights --input-size: would describe"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    flags: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *flags, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_classifier_of_other_classes_is_refused(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--method", "nominal", "--epochs", "1", "--train-images", "20", "--device", "cpu"]
    assert main(["train", *flags, "--out", str(tmp_path / "other")]) == 0
    assert audit(runs, tmp_path / "out", "--classifier", str(tmp_path / "other")) == 2
    assert "but the images are labelled" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_reference_of_another_size_is_refused(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    larger = ["--data", str(runs / "data"), "--target", "label", "--size", "24", "--channels", "1", "--epochs", "1"]
    assert main(["train", *larger, "--method", "nominal", "--device", "cpu", "--out", str(tmp_path / "larger")]) == 0
    assert audit(runs, tmp_path / "out", "--reference", str(tmp_path / "larger")) == 2
    assert "for images of 24x24 pixels and 1 channels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_reference_of_another_seed_has_not_seen_the_test(runs: Path, tmp_path: Path) -> None:
    """Of images without a test of their own, whatever the run's seed, the same ones are held out."""
    own = ["--data", str(runs / "data"), *DATA, "--epochs", "1", "--method", "nominal", "--device", "cpu"]
    assert main(["train", *own, "--seed", "5", "--out", str(tmp_path / "seed5")]) == 0
    marks = {load_classifier(place)[1]["data_fingerprint"] for place in (tmp_path / "seed5", runs / "nominal0")}
    assert len(marks) == 1


def test_an_attack_of_others_has_a_column(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    attack = ("--attack", "foolbox:LinfFastGradientAttack", "--attack-args")
    assert audit(runs, tmp_path / "out", *attack, '{"epsilon": 0.3}') == 0
    assert "attacked" in capsys.readouterr().out
    everything = results_of(tmp_path / "out")["classifiers"][0]["parts"][0]
    found = AuditRecords.load(tmp_path / "out").classifiers[0]
    assert found.right_attacked is not None
    assert everything["accuracy_attacked"]["value"] == pytest.approx(float(found.right_attacked.double().mean()))
    assert everything["accuracy_attacked"]["value"] < everything["accuracy_clean"]["value"]
    assert "a third-party attack" in (tmp_path / "out" / "report.html").read_text()


def test_an_attack_that_needs_gradients_is_refused_before_anything_is_made(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "blind_of_audit_tests.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    @torch.no_grad()\n"
        "    def forward(self, x):\n"
        "        return torch.stack([x.mean((1, 2, 3)), 0.3 - x.mean((1, 2, 3))], 1)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    attack = ["--attack", "foolbox:LinfPGD", "--attack-args", '{"epsilon": 0.3}']
    data = ["--data", str(runs / "data"), *DATA, "--fit-steps", "20"]
    assert audit(runs, tmp_path / "out", "--classifier", "blind_of_audit_tests:Net", *attack, *data, named=False) == 2
    err = capsys.readouterr().err
    assert "--attack FoolboxAttack" in err
    assert "blind_of_audit_tests:Net gives no gradients" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_attack_is_refused_before_anything_is_made(
    runs: Path, done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert audit(runs, tmp_path / "out", "--attack", "foolbox:Nonsense") == 2
    assert "--attack foolbox:Nonsense" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert AuditRecords.load(done).classifiers[0].right_attacked is None
