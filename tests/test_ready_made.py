"""Generators that are there without fitting any, and pools of styles alone: from the command line and from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import advmix
from advmix.classifiers.networks import load_classifier
from advmix.cli import main
from advmix.commands.encode import open_model
from advmix.data.datasets import open_data
from advmix.data.settings import DataConfig
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.encoders.network import encoded as encoded_set
from advmix.encoders.store import LatentStore, PoolOptions
from advmix.generators.style import StyleConfig
from advmix.latents import Split
from advmix.mixing import AdvMix, RandMix, any_place, usual_split
from advmix.pools import FittedModel, load
from advmix.training.objectives import Batch, Mixing
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from pictures import digit, digit_label, encoded, photograph, write
from trained import hasten_reference, made, shared

FEW = ["--images", "12", "--restarts", "2", "--steps", "1", "--resamples", "50", "--pictures", "2", "--device", "cpu"]


@shared
def place(out: Path) -> None:
    """Tinted digits in two classes, a folder of photographs without labels, and a classifier of the digits."""
    files: dict[str, bytes | str] = {}
    for index in range(60):
        tint = tuple(int(200 + 50 * ((index * step) % 5) / 4) for step in (1, 2, 3))
        image = digit(index).resize((24, 24)).convert("RGB")
        image = image.point([level * tint[c] // 255 for c in range(3) for level in range(256)])
        files[f"{'even' if digit_label(index) % 2 == 0 else 'odd'}/{index:03}.png"] = encoded(image)
    write(out / "data", files)
    crops = {f"{x:03}.png": encoded(photograph().crop((x, x, x + 40, x + 30))) for x in range(0, 120, 10)}
    write(out / "site", {**crops})
    flags = ["--data", str(out / "data"), "--size", "16", "--epochs", "3", "--batch", "16", "--device", "cpu"]
    assert main(["train", "--method", "nominal", *flags, "--out", str(out / "nominal")]) == 0


def data_of(place: Path, size: int = 16) -> Any:
    return open_data(DataConfig(str(place / "data")).sized(3, size), 0)


def audit_words(place: Path, *flags: str) -> list[str]:
    return ["audit", "--classifier", str(place / "nominal"), *FEW, "--reference", "none", *flags]


@pytest.fixture(scope="module")
def audited(place: Path) -> Path:
    """An audit without any generator named."""
    return made(*audit_words(place))


def results_of(folder: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return results


def test_an_audit_needs_no_generator_and_no_latents(audited: Path) -> None:
    results = results_of(audited)
    assert results["generator"]["ready_made"] == "statistics"
    assert results["generator"]["exact"]
    everything = results["classifiers"][0]["parts"][0]
    assert "accuracy_reconstruction" not in everything
    assert everything["accuracy_worst_case"]["value"] <= everything["accuracy_random_mix"]["value"]
    assert [swap["name"] for swap in results["classifiers"][0]["swaps"]] == ["mean colour", "contrast", "z⊥"]
    assert results["reference"]["accuracy_train"] is None
    assert "none" in results["config"]["reference"]


def test_what_was_found_can_be_read(audited: Path) -> None:
    shown = results_of(audited)["classifiers"][0]["strongest"]
    names = {part["name"] for entry in shown for part in entry["changed"]}
    assert names
    assert all("(" in name for name in names)  # with its unit
    page = (audited / "report.html").read_text()
    assert all(f"{part['by']:+.2f}" in page for entry in shown for part in entry["changed"])


def test_export_and_doctor_read_such_an_audit(audited: Path, place: Path, tmp_path: Path) -> None:
    assert main(["export", "--audit", str(audited), "--out", str(tmp_path / "export"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "export").glob("*/*.png"))) == 12
    found = ["doctor", str(audited), "--images", "10", "--search-images", "4", "--device", "cpu"]
    assert main([*found, "--out", str(tmp_path / "doctor")]) == 0
    checks = {row["check"]: row for row in json.loads((tmp_path / "doctor/doctor.json").read_text())["findings"]}
    assert checks["encoding"]["verdict"] == "ok"


def test_every_mixing_command_takes_a_ready_made_generator(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "data"), "--size", "16", "--device", "cpu"]
    classifier = ["--classifier", str(place / "nominal")]
    lines = [
        ["train", "--method", "randmix", *data, "--epochs", "1", "--batch", "16", "--generator", "statistics:pyramid"],
        ["train", "--method", "advmix", *data, "--epochs", "1", "--batch", "16", "--pool", str(place / "site")],
        ["predict", *classifier, "--marginalize", "2", "--device", "cpu"],
        ["predict", *classifier, "--marginalize", "2", "--data", str(place / "site"), "--unlabelled", "--size", "16"],
        ["export", *classifier, *data, "--images", "4"],
        ["inspect", *data, "--images", "20", "--dimension-images", "4", "--reference", str(place / "nominal")],
        ["encode", "--generator", "statistics:local", *data],
    ]
    for number, line in enumerate(lines):
        assert main([*line, "--out", str(tmp_path / str(number))]) == 0, line


@pytest.mark.parametrize(
    ("flags", "pool"),
    [
        ([], "photos"),
        (["--pool", "train"], "train"),
        (["--channels", "1"], None),
        (["--method", "nominal"], None),
    ],
    ids=["color", "named", "grey", "nothing borrowed"],
)
def test_photographs_lend_to_training_where_nothing_else_is_said(
    place: Path, tmp_path: Path, flags: list[str], pool: str | None
) -> None:
    out = tmp_path / "run"
    line = ["train", "--data", str(place / "data"), "--size", "16", "--epochs", "1", "--batch", "16", *flags]
    assert main([*line, "--device", "cpu", "--out", str(out)]) == 0
    config = json.loads((out / "config.json").read_text())
    assert config["pool"]["pool"] == pool


def test_training_images_by_name_are_the_pool_of_an_audit(audited: Path, place: Path) -> None:
    named = results_of(made(*audit_words(place, "--pool", "train")))
    assert named["generator"]["pool_of"] is None
    assert named["classifiers"] == results_of(audited)["classifiers"]


def test_consistency_is_part_of_the_setting(place: Path, tmp_path: Path) -> None:
    line = ["train", "--data", str(place / "data"), "--size", "16", "--epochs", "1", "--batch", "16"]
    networks = []
    for weight in ("0", "2"):
        out = tmp_path / weight
        assert main([*line, "--consistency", weight, "--device", "cpu", "--out", str(out)]) == 0
        network, metadata = load_classifier(out)
        assert metadata["setting"]["consistency"] == float(weight)
        networks.append(network)
    assert not torch.equal(*(next(network.parameters()) for network in networks))


def test_a_pool_that_is_encoded_holds_styles_alone_and_knows_its_members(place: Path, tmp_path: Path) -> None:
    data, options = data_of(place), PoolOptions(pool_images=20)
    stored = open_model(Path("statistics"), None, options, data, tmp_path / "pool", torch.device("cpu"))
    assert stored.pool.grid is None
    assert stored.rows is not None
    assert len(stored.pool) == 20
    styles = stored.encoder(data.train.batch(stored.rows)[0]).styles
    torch.testing.assert_close(stored.pool.styles, styles)
    places = stored.places(len(data.train))
    assert places is not None
    assert torch.equal(places[stored.rows], torch.arange(20))
    assert int((places < 0).sum()) == len(data.train) - 20
    names = stored.member_names(data)
    assert names[0] == data.photos.train.names[int(stored.rows[0])]
    memory = open_model(Path("statistics"), None, options, data, None, torch.device("cpu"))
    assert torch.equal(memory.pool.styles, stored.pool.styles)
    assert memory.member_names(data) == names
    again = load("statistics", tmp_path / "pool", data=data)
    assert torch.equal(again.pool.styles, stored.pool.styles)


def test_a_pool_of_other_images_has_no_training_images(place: Path, tmp_path: Path) -> None:
    data, options = data_of(place), PoolOptions(pool=str(place / "site"), pool_images=5)
    model = open_model(Path("statistics"), None, options, data, tmp_path / "pool", torch.device("cpu"))
    places = model.places(len(data.train))
    assert places is not None
    assert torch.equal(places, torch.full((len(data.train),), -1))
    assert len(model.pool) == 5
    assert LatentStore.open(tmp_path / "pool").index["pool"] == str(place / "site")


def test_an_example_that_is_not_in_the_pool_may_get_any_donor() -> None:
    places = torch.tensor([2, -1, -1, 0]).repeat(500)
    found = any_place(places, 5, seeded(0))
    assert torch.equal(found[places >= 0], places[places >= 0])
    assert found[places < 0].bincount(minlength=5).min() > 150


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_a_weaker_mix_lies_on_the_way_to_its_donor(place: Path, strength: float) -> None:
    data = data_of(place)
    model = open_model(Path("statistics"), None, PoolOptions(), data, None, torch.device("cpu"))
    images, labels = data.test.batch(slice(0, 4))
    own, split = model.encoder(images), model.split
    mix = RandMix(model.generator, split, strength)(None, own, labels, model.pool, rng=seeded(1))
    start, donor = split.perp_of(own), split.perp_of(model.pool[mix.donors])
    torch.testing.assert_close(split.perp_of(mix.latents), start + strength * (donor - start))
    search = AdvMix(model.generator, split, restarts=2, steps=0, strength=strength)
    found = search(load_classifier(place / "nominal")[0], own, labels, model.pool, rng=seeded(1))
    donor = split.perp_of(model.pool[found.donors])
    torch.testing.assert_close(split.perp_of(found.latents), start + strength * (donor - start))


def test_a_ready_made_model_is_saved_and_loaded_as_a_fitted_one_is(place: Path, tmp_path: Path) -> None:
    data = data_of(place)
    model = open_model(Path("statistics:fourier"), None, PoolOptions(), data, tmp_path / "pool", torch.device("cpu"))
    model.save(tmp_path / "model")
    again = load(tmp_path / "model", data=data)
    images = data.test.batch(slice(0, 3))[0]
    torch.testing.assert_close(again.generator(again.encoder(images)), images, rtol=0, atol=1e-5)
    assert torch.equal(again.pool.styles, model.pool.styles)


def test_python_audits_with_the_ready_made_generator_and_a_pool_of_a_folder(place: Path) -> None:
    images = advmix.open_images(place / "data", size=16)
    result = advmix.audit_classifier(
        str(place / "nominal"), images, pool=place / "site", reference="none", count=8, pictures=1, search=_search()
    )
    assert result.results["generator"]["pool_of"] == str(place / "site")
    assert result.pictures()
    donors = {entry["donor"] for entry in result.results["classifiers"][0]["strongest"]}
    assert donors <= {f"{x:03}.png" for x in range(0, 120, 10)}


def _search() -> advmix.Search:
    return advmix.Search(restarts=2, steps=1)


def test_an_audit_fits_a_generator_only_when_asked(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasten_reference(monkeypatch)
    fit = ["--generator", "fit", "--fit-steps", "8", "--fit-batch", "8"]
    assert main([*audit_words(place, *fit), "--out", str(tmp_path / "audit")]) == 0
    assert (tmp_path / "audit/generator/generator.safetensors").is_file()
    assert results_of(tmp_path / "audit")["generator"]["fitted_here"]


def test_grey_images_have_statistics_of_one_channel(place: Path, tmp_path: Path) -> None:
    data = ["--data", str(place / "data"), "--size", "20", "--channels", "1", "--device", "cpu"]
    assert main(["encode", "--generator", "statistics", *data, "--out", str(tmp_path / "pool")]) == 0
    assert LatentStore.open(tmp_path / "pool").latents.styles.shape[1:] == (2, 1)


REFUSED = [
    (["--generator", "statistics:hue"], "'hue': unknown; use moments"),
    (["--strength", "1.5"], "--strength 1.5: must be between 0 and 1"),
    (["--pool", "nowhere"], "--pool nowhere"),
    (["--pool-images", "1"], "--pool-images 1: must be at least 2"),
    (["--size", "12"], "images of 12x12 pixels: a ready-made generator takes 16 pixels at least"),
    (["--working-size", "8"], "--working-size 8: must be at least 16"),
]


@pytest.mark.parametrize(("flags", "said"), REFUSED)
def test_bad_input_is_one_line(
    place: Path, tmp_path: Path, flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data", str(place / "data"), *(["--size", "16"] if "--size" not in flags else [])]
    assert main([*audit_words(place, *given, *flags), "--out", str(tmp_path / "audit")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "audit/results.json").exists()


def test_a_pool_without_images_is_one_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert main([*audit_words(place, "--pool", str(tmp_path / "empty")), "--out", str(tmp_path / "audit")]) == 2
    assert "no images in it" in capsys.readouterr().err
    write(tmp_path / "one", {"a.png": encoded(photograph())})
    assert main([*audit_words(place, "--pool", str(tmp_path / "one")), "--out", str(tmp_path / "audit2")]) == 2
    assert "1 image; 2 are needed at least" in capsys.readouterr().err


def test_a_folder_that_is_called_like_a_ready_made_generator_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, metadata = load_autoencoder(Path("statistics"))
    (tmp_path / "photo").mkdir()
    save_autoencoder(tmp_path / "photo", model, metadata)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a folder here, and a ready-made generator"):
        load_autoencoder(Path("photo"))
    assert load_autoencoder(tmp_path / "photo")[0].config == model.config


def test_the_usual_split_of_statistics_is_all_of_them() -> None:
    for kind, layers in (("moments", 2), ("covariance", 3), ("pyramid", 5), ("local", 2), ("fourier", 1)):
        model, _ = load_autoencoder(Path(f"statistics:{kind}"))
        assert usual_split((), False, model.config) == Split(layers, tuple(range(layers)))


def test_images_that_the_pool_does_not_hold_are_encoded(place: Path) -> None:
    data = data_of(place)
    with global_seed(0):
        model = Autoencoder(StyleConfig(16, 3, 4, (6, 5), start=8, grid_channels=3)).eval().requires_grad_(False)
    strangers = encoded_set(data.test, model.encoder)
    fitted = FittedModel(model, strangers, {}, Path(), rows=torch.full((len(strangers),), -1))
    images, labels = data.train.batch(slice(0, 3))
    mixing = Mixing(RandMix(model.generator, fitted.split), strangers, 0.5, model.encoder, places=fitted.places(48))
    own = mixing.latents(Batch(images, labels, torch.arange(3)))
    torch.testing.assert_close(own.styles, model.encoder(images).styles)


def test_channels_and_sizes_are_checked_before_anything_is_made(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grey = ["--data", str(place / "data"), "--size", "16", "--channels", "1", "--pool", "photos", "--device", "cpu"]
    train = ["train", "--method", "randmix", "--generator", "photo", *grey, "--out", str(tmp_path / "train")]
    assert main(train) == 2
    assert "images of 1 channels, but the generator draws 3" in capsys.readouterr().err
    assert main(["train", *grey, "--out", str(tmp_path / "train")]) == 2
    said = "--pool photos: photographs in colour, but these images have 1 channels; name a folder of images, or the"
    assert said in capsys.readouterr().err
    small = ["--data", str(place / "data"), "--size", "8", "--pool", "photos", "--device", "cpu"]
    assert main(["train", "--method", "randmix", *small, "--out", str(tmp_path / "train")]) == 2
    assert "images of 8x8 pixels: a ready-made generator takes 16 pixels at least" in capsys.readouterr().err


@pytest.mark.parametrize("generator", ["statistics", "statistics:pyramid", "photo"])
def test_the_shipped_pool_goes_with_its_generator(place: Path, generator: str) -> None:
    model = advmix.load(generator, "photos")
    images, labels = data_of(place, 32).test.batch(slice(0, 2))
    assert len(model.pool) == 2000
    latents = model.generator.complete(model.encoder(images), images)
    mix = RandMix(model.generator, model.split)(None, latents, labels, model.pool, rng=seeded(0))
    assert mix.images.shape == images.shape
    assert float((mix.images - images).abs().mean()) > 0.02


def test_images_without_a_training_part_are_audited_with_other_styles(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{index:03}" for index in range(8)]
    files: dict[str, bytes | str] = {f"{name}.png": encoded(digit(i).convert("RGB")) for i, name in enumerate(names)}
    table = "".join(f"{name}.png,{'even' if i % 2 else 'odd'},test\n" for i, name in enumerate(names))
    data = write(tmp_path / "data", {**files, "labels.csv": f"filename,label,split\n{table}"})
    line = [*audit_words(place), "--data", str(data), "--size", "16", "--out", str(tmp_path / "audit")]
    assert main([*line, "--pool", "photos"]) == 0
    assert main([*line[:-1], str(tmp_path / "other")]) == 2
    assert "no train images, only test; say whose styles are borrowed: --pool photos" in capsys.readouterr().err
    line = [word for word in line if word not in ("--reference", "none")]
    assert main([*line[:-1], str(tmp_path / "third"), "--pool", "photos"]) == 2
    assert "name a --reference, or leave labels unchecked" in capsys.readouterr().err


def test_a_folder_that_is_called_fit_is_not_fitted_anew(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, metadata = load_autoencoder(Path("statistics"))
    (tmp_path / "fit").mkdir()
    save_autoencoder(tmp_path / "fit", model, metadata)
    monkeypatch.chdir(tmp_path)
    assert main([*audit_words(place, "--generator", "fit"), "--out", str(tmp_path / "audit")]) == 2
    assert "--generator fit: a folder here, and the word for fitting one" in capsys.readouterr().err
