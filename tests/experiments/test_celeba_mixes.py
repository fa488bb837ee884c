"""Label survival by attribute and split, variants of the photo autoencoder, and the pictures: on patches, not faces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from running import main
from test_celeba import SMALL, folder, other_generator, photos, study
from test_survival import make_model, tiny_images

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder, load_autoencoder, save_autoencoder
from advmix.generators.stylegan import StyleGanConfig
from advmix.inspect.survival import label_survival
from advmix.latents import Split
from advmix.mixing import FINEST, SearchOptions
from advmix.report.figures import VariationGallery
from advmix.report.tables import schema
from advmix.training.autoencode import FitOptions
from advmix.utils.errors import UserError
from advmix.utils.files import make_folder
from advmix.utils.torch_tools import generator, global_seed
from experiments.faces import gallery
from experiments.faces.gallery import GalleryConfig, folder_for
from experiments.faces.label_survival import make_scene, random_mixes, searched_mixes
from experiments.faces.settings import VARIANTS
from experiments.faces.variants import TARGET, compared_with_base, pixel_error, reached
from experiments.faces.variations import (
    made_up_cast,
    neighbours,
    open_gan,
    perturbations,
    poles,
    probability,
    search_of,
    widest,
)
from tiny import SPATIAL, make_classifier

__all__ = ["folder", "photos"]
PARTS = [*SMALL, "--seed", "0"]


@pytest.fixture(scope="module")
def cells(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classifiers and the generator of one seed."""
    place = tmp_path_factory.mktemp("cells")
    command = ["study", "celeba", "--data", str(folder), *SMALL, "--cells", str(place / "cells"), "--seeds", "0"]
    assert main([*command, "--methods", "nominal", "advmix", "--out", str(place / "out")]) == 0
    return place / "cells"


def run(study: str, folder: Path, cells: Path, out: Path, *arguments: str) -> dict[str, Any]:
    command = ["study", study, "--data", str(folder), *PARTS, "--cells", str(cells), "--out", str(out)]
    assert main([*command, *arguments]) == 0
    results: dict[str, Any] = json.loads((out / "results.json").read_text())
    jsonschema.validate(results, schema())
    return results


def test_random_mixes_are_those_of_label_survival_with_their_change() -> None:
    model, reference = make_model(SPATIAL), make_classifier().float()
    images, lenders = tiny_images(SPATIAL, reference)
    scene = make_scene(model, images, lenders, reference, donors=3, residual=True)
    split = Split(SPATIAL.layers, (0, 2))
    found, change = random_mixes(scene, split)
    expected = label_survival(
        reference, model.generator, model.encoder, split, images, lenders, scene.donors, residual=True
    )
    assert torch.equal(found.predictions, expected.predictions)
    assert torch.equal(found.right, expected.right)
    with torch.no_grad():
        mixed = [model.generator(split.combine(scene.latents, scene.pool[row])) for row in scene.donors]
        plain = model.generator(scene.latents)
    assert change == pytest.approx(float(torch.stack([(mix - plain).abs().mean() for mix in mixed]).mean()), rel=1e-5)


def test_searched_mixes_keep_fewer_labels_than_random_ones() -> None:
    model, reference = make_model(SPATIAL), make_classifier().float().eval()
    images, lenders = tiny_images(SPATIAL, reference)
    scene = make_scene(model, images, lenders, reference, donors=3, residual=False)
    options = SearchOptions(perp=(0, 1, 2, 3), restarts=4, steps=3, step_size=1.0, radius=None)
    random, _ = random_mixes(scene, options.split(SPATIAL.layers))
    searched = searched_mixes(scene, options.mixer(model.generator), reference)
    assert torch.equal(random.right, searched.right)
    shares = random.share(), searched.share()
    assert shares[0] is not None
    assert shares[1] is not None
    assert shares[1].value < shares[0].value


@pytest.mark.parametrize("variant", ["base", "survival"])
def test_survival_by_attribute_and_split(variant: str, folder: Path, cells: Path, tmp_path: Path) -> None:
    """Attributes share a generator, unless it learns from a classifier of theirs."""
    arguments = ["--targets", "Smiling", "Male", "--images", "4", "--donors", "2", "--threshold", "0"]
    arguments += ["--variant", variant]
    found = run("celeba-survival", folder, cells, tmp_path / "out", *arguments)
    assert [record["target"] for record in found["targets"]] == ["Smiling", "Male"]
    shared = found["targets"][0]["generator"] == found["targets"][1]["generator"]
    assert shared == (variant == "base")
    for record in found["targets"]:
        names = [row["name"] for row in record["splits"]]
        assert names == ["finest", "two finest", "all styles", "proposed"]
        assert record["proposal"]["flags"] == record["splits"][-1]["flags"]
        ranges = [row["range"] for row in record["splits"]]
        assert ranges[0] < ranges[2]
        for share in (row[key] for row in record["splits"] for key in ("survival", "survival_searched")):
            assert share["low"] - 1e-9 <= share["value"] <= share["high"] + 1e-9
    written = (tmp_path / "out" / "points" / "Male.json").stat().st_mtime_ns
    assert run("celeba-survival", folder, cells, tmp_path / "out", *arguments)["targets"] == found["targets"]
    assert (tmp_path / "out" / "points" / "Male.json").stat().st_mtime_ns == written


@pytest.mark.parametrize("study", ["celeba-survival", "photo-autoencoder"])
def test_what_was_measured_under_another_generator_is_not_gone_on_with(
    study: str, folder: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {
        "celeba-survival": ["--targets", "Smiling", "--images", "2", "--donors", "1"],
        "photo-autoencoder": ["--variants", "base", "--images", "2", "--donors", "1", "--resamples", "2"],
    }[study]
    run(study, folder, cells, tmp_path / "out", *few)
    others = other_generator(cells, tmp_path / "cells")
    command = ["study", study, "--data", str(folder), *PARTS, "--cells", str(others), "--out", str(tmp_path / "out")]
    assert main([*command, *few]) == 2
    assert f"{tmp_path / 'out'}: this run began with another generator" in capsys.readouterr().err


def test_variants_of_the_photo_autoencoder(folder: Path, cells: Path, tmp_path: Path) -> None:
    names = ["base", "perceptual", "survival", "grid4", "vector"]
    arguments = ["--variants", *names, "--images", "4", "--donors", "1", "--resamples", "20"]
    found = run("photo-autoencoder", folder, cells, tmp_path / "out", *arguments)["variants"]
    assert [row["variant"] for row in found] == names
    assert len({row["fingerprint"] for row in found}) == len(names)
    (base,) = (path for path in cells.glob("celeba-generator-*-seed0-????????"))
    assert found[0]["fingerprint"] == load_autoencoder(base)[1]["fingerprint"]
    for row in found:
        assert row["images"] == 4
        assert row["classifier_lost"]["low"] <= row["classifier_lost"]["value"] <= row["classifier_lost"]["high"]
        assert [row["reached"], row["reached_by_reference"]] == reached(row, TARGET)
    assert {len(row["perp"]) for row in found} == {6, 4}


@pytest.mark.parametrize(
    ("lost", "by_reference", "kept", "expected"),
    [
        (0.01, 0.02, 0.95, [True, False]),
        (0.011, 0.0, 0.95, [False, True]),
        (-0.1, -0.1, 0.949, [False, False]),
        (0.0, 0.0, None, [False, False]),
    ],
)
def test_both_marks_must_be_reached(lost: float, by_reference: float, kept: float | None, expected: list[bool]) -> None:
    row = {
        "classifier_lost": {"value": lost},
        "reference_lost": {"value": by_reference},
        "survival_decoded": None if kept is None else {"value": kept},
    }
    assert reached(row, TARGET) == expected


@pytest.mark.parametrize("name", ["perceptual", "survival", "vector"])
def test_the_study_is_made_with_the_variant_that_was_chosen(
    name: str, folder: Path, cells: Path, tmp_path: Path
) -> None:
    """Made anew elsewhere, its teacher first: the same as in the comparison."""
    arguments = ["--variants", name, "--images", "4", "--donors", "1", "--resamples", "20"]
    (compared,) = run("photo-autoencoder", folder, cells, tmp_path / "compared", *arguments)["variants"]
    empty = tmp_path / "cells"
    command = ["--seeds", "0", "--methods", "nominal", "advmix", "--variant", name]
    found = study(folder, empty, tmp_path / "study", *command)
    assert found["generators"][0]["generator"]["fingerprint"] == compared["fingerprint"]
    teacher = "-????????" if VARIANTS[name].is_taught else ""
    network = load_autoencoder(next(empty.glob(f"celeba-generator-*-{name}{teacher}")))[0].config
    assert (
        list(SearchOptions(perp=tuple(found["config"]["search"]["perp"])).split(network.layers).perp)
        == compared["perp"]
    )
    assert len(list(empty.glob("celeba-Smiling-*/nominal"))) == (1 if name == "vector" else 2)


def test_classifiers_under_each_variant_are_those_of_the_study(folder: Path, cells: Path, tmp_path: Path) -> None:
    methods = ["--methods", "nominal", "advmix", "advmix-decoded"]
    arguments = ["--variants", "base", "vector", "--images", "4", "--donors", "1", "--resamples", "20", *methods]
    rows = run("photo-autoencoder", folder, cells, tmp_path / "compared", *arguments)["classifiers"]
    assert [row["variant"] for row in rows] == ["base"] * 3 + ["vector"] * 3
    assert (tmp_path / "compared" / "figures" / "classifiers.png").is_file()
    for place, variant in enumerate(("base", "vector")):
        command = ["--seeds", "0", *methods, "--variant", variant, "--resamples", "20"]
        found = study(folder, cells, tmp_path / variant, *command)["methods"]
        for row, expected in zip(rows[3 * place :], found, strict=False):
            shared = row.keys() & expected.keys() - {"train_seconds"}
            assert {"method", "error", "change", "accuracy_worst_case", "error_by_seed"} < shared
            assert {key: row[key] for key in shared} == {key: expected[key] for key in shared}
    for row, base in zip(rows[3:], rows[:3], strict=True):
        assert row["less_base"]["value"] == pytest.approx(row["error"]["value"] - base["error"]["value"])
        assert compared_with_base(base) is None
    assert rows[3]["less_base"]["value"] == 0, "no generator changes nominal training"


@pytest.mark.parametrize(
    ("study_name", "words"),
    [
        ("celeba", "--variant sharper: unknown; choose from base longer"),
        ("photo-autoencoder", "--variant survival: this study compares several; name them with --variants"),
        ("photo-autoencoder", "--methods advmix: nominal must be among them"),
    ],
)
def test_variants_that_are_refused(
    study_name: str, words: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flag, name = words.split(":", maxsplit=1)[0].split()
    command = ["study", study_name, "--data", str(folder), flag, name, "--out", str(tmp_path / "out")]
    assert main(command) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_variant_is_another_one() -> None:
    fit = FitOptions(fit_steps=10)
    made = {(variant.options(fit, 64), variant.survival_weight) for variant in VARIANTS.values()}
    assert len(made) == len(VARIANTS)
    assert VARIANTS["base"].options(fit, 64) == fit
    assert [name for name, variant in VARIANTS.items() if variant.is_taught] == ["perceptual", "survival"]
    assert VARIANTS["longer"].options(fit, 64).fit_steps == 40


def test_pixel_error_is_in_signed_units() -> None:
    def grey(value: int) -> ImageSet:
        return ImageSet(torch.full((3, 3, 4, 4), value, dtype=torch.uint8), torch.zeros(3).long(), ("only",))

    assert pixel_error(grey(0), grey(255)) == pytest.approx(4)


def make_gan(folder: Path, resolution: int = 32) -> Path:
    """An untrained StyleGAN of a few numbers, as `fit --regime gan` keeps one."""
    widths = (8, 8, 8, 8, 4)[: (resolution // 4).bit_length()]
    with global_seed(1):
        model = Autoencoder(StyleGanConfig(resolution=resolution, style_dim=8, mapping_layers=2, widths=widths))
        torch.nn.init.normal_(model.get_parameter("generator.to_image.weight"), std=1.0)
    facts = {"data": {"data": "/somewhere"}, "gan": {"gan_steps": 0}, "frechet_distance": 9.5}
    save_autoencoder(make_folder(folder), model, {"data_fingerprint": "0" * 16, **facts})
    return folder


def test_pictures_of_people_stay_here(folder: Path, cells: Path, tmp_path: Path) -> None:
    command = ["study", "celeba-pictures", "--data", str(folder), *PARTS, "--cells", str(cells)]
    arguments = ["--methods", "nominal", "advmix", "--candidates", "4", "--out", str(tmp_path / "out")]
    assert main([*command, *arguments]) == 0
    names = {path.stem for path in (tmp_path / "out" / "local-only").iterdir()}
    assert names == {"poles", "worst", "perturbations", "misclassified-nominal", "misclassified-advmix"}
    assert not (tmp_path / "out" / "figures").exists()
    assert not (tmp_path / "out" / "results.json").exists()


def test_made_up_faces_may_be_published(folder: Path, cells: Path, tmp_path: Path) -> None:
    gan = make_gan(tmp_path / "gan")
    arguments = ["--methods", "nominal", "--candidates", "8", "--generator", str(gan), "--publish"]
    found = run("celeba-pictures", folder, cells, tmp_path / "out", *arguments)
    assert found["made_up"] is True
    assert found["generator"] == load_autoencoder(gan)[1]["fingerprint"]
    told = {"gan": {"gan_steps": 0}, "fit_seconds": None, "frechet_distance": 9.5}
    assert found["made_by"] == told  # and not where the data were
    names = {"poles", "worst", "perturbations", "misclassified-nominal", "samples", "mixing"}
    assert {path.stem for path in (tmp_path / "out" / "figures").iterdir()} == names
    assert [path.name for path in (tmp_path / "out" / "local-only").iterdir()] == ["nearest.png"]  # shows real people
    for name in ("made_up", "held_out"):
        assert 0 < found["nearest"][name]["least"] <= found["nearest"][name]["median"] < 1


def test_a_remembered_face_is_found_even_mirrored() -> None:
    rng = generator(0, "tests", "memory")
    pixels = torch.randint(256, (1500, 3, 8, 8), generator=rng, dtype=torch.uint8)
    images = ImageSet(pixels, torch.zeros(1500).long(), ("face",))
    shown = torch.cat([pixels[[1200]].flip(3), pixels[[7]], pixels[[30]]]) / 255
    shown[1] = (shown[1] + 0.1).clamp(0, 1)
    found = neighbours(shown, images, count=2)
    assert found.places[:, 0].tolist() == [1200, 7, 30]
    root_mean_squares = (shown - torch.stack([images.batch(slice(7, 8))[0][0]] * 3)).square().mean((1, 2, 3)).sqrt()
    torch.testing.assert_close(found.distances[1, 0], root_mean_squares[1], rtol=1e-3, atol=1e-4)
    assert found.distances[0, 0] < 1e-3 < found.distances[0, 1]
    assert found.summary()["least"] == pytest.approx(float(found.distances[:, 0].min()))


@pytest.mark.parametrize("case", ["none", "autoencoder", "other size"])
def test_nothing_else_may(
    case: str, folder: Path, cells: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["study", "celeba-pictures", "--data", str(folder), *PARTS, "--cells", str(cells), "--publish"]
    place, words = {
        "none": (None, "name a StyleGAN with --generator"),
        "autoencoder": (next(cells.glob("celeba-generator-*")), "only faces that one makes up from random latents"),
        "other size": (make_gan(tmp_path / "gan", 16), "draws 3 channels of 16 pixels"),
    }[case]
    arguments = [] if place is None else ["--generator", str(place)]
    assert main([*command, "--methods", "nominal", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_cast_of_real_faces_is_refused_wherever_it_comes_from(tmp_path: Path) -> None:
    network = open_gan(make_gan(tmp_path), (3, 32, 32))
    cast = made_up_cast(network, {"a": linear(0)}, ("no", "yes"), 6, seed=0)
    config = GalleryConfig(generator=tmp_path, publish=True, out=tmp_path / "out")
    assert folder_for(config, cast) == tmp_path / "out" / "figures"
    assert folder_for(replace(config, publish=False), cast).name == "local-only"
    with pytest.raises(UserError, match="real faces"):
        folder_for(config, replace(cast, made_up=False))


def make_linear() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 2))


def linear(seed: int) -> torch.nn.Module:
    with global_seed(seed):
        return make_linear()


def test_made_up_faces_are_those_on_which_all_classifiers_agree(tmp_path: Path) -> None:
    network = open_gan(make_gan(tmp_path), (3, 32, 32))
    both = {"a": linear(3), "b": linear(4)}
    cast = made_up_cast(network, both, ("no", "yes"), 6, seed=0)
    for classifier in both.values():
        assert torch.equal((probability(classifier, cast.images) > 0.5).long(), cast.labels)
    swap = torch.nn.Linear(2, 2, bias=False)
    swap.weight.data = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    with pytest.raises(UserError, match="agree on 0 of 48 faces"):
        made_up_cast(network, {"a": both["a"], "b": torch.nn.Sequential(both["a"], swap)}, ("no", "yes"), 6, seed=0)


def test_perturbations_stay_in_their_bounds_and_the_searched_one_hurts_more(tmp_path: Path) -> None:
    classifier = linear(3)
    cast = made_up_cast(open_gan(make_gan(tmp_path), (3, 32, 32)), {"a": classifier}, ("no", "yes"), 6, seed=0)
    search = search_of(cast, replace(FINEST, restarts=3, steps=3, step_size=1.0, radius=None))
    found = perturbations(cast, classifier, search, steps=3, seed=0)
    assert list(found) == ["mixup", "linf4", "linf8", "randmix", "advmix"]
    for name, radius in (("linf4", 4 / 255), ("linf8", 8 / 255)):
        assert radius / 2 < float((found[name] - cast.images).abs().max()) <= radius + 1e-6
    certain = {name: probability(classifier, images)[:, None] for name, images in found.items()}
    of_label = {name: torch.cat([1 - p, p], 1).gather(1, cast.labels[:, None]).mean() for name, p in certain.items()}
    assert of_label["advmix"] < of_label["randmix"]
    assert of_label["linf8"] < of_label["linf4"]


def test_only_faces_that_a_classifier_gets_right_are_varied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[VariationGallery] = []
    monkeypatch.setattr(gallery, "variations", lambda found, called: shown.append(found))
    classifier = linear(3)
    cast = made_up_cast(open_gan(make_gan(tmp_path), (3, 32, 32)), {"a": classifier}, ("no", "yes"), 6, seed=0)
    wrong = torch.arange(len(cast.labels)) % 2
    changed = replace(cast, labels=(cast.labels + wrong) % 2)
    search = search_of(cast, replace(FINEST, restarts=1, steps=1))
    gallery.misclassified(changed, classifier, search, "nominal", seed=0)
    torch.testing.assert_close(shown[0].originals, cast.images[wrong == 0])


def test_poles_are_two_sides_of_one_face(tmp_path: Path) -> None:
    network = open_gan(make_gan(tmp_path), (3, 32, 32))
    classifier = linear(3)
    cast = made_up_cast(network, {"a": classifier}, ("no", "yes"), 6, seed=0)
    assert torch.equal(cast.labels, (probability(classifier, cast.images) > 0.5).long())
    search = search_of(cast, replace(FINEST, restarts=3, steps=3, step_size=1.0, radius=None))
    assert search.split == Split.fine(8, 4)
    found = poles(cast, classifier, search, seed=0)
    assert bool((found.p_low < found.p_high).all())
    rows = widest(found, 3)
    certainty = torch.minimum(found.p_high, 1 - found.p_low)
    assert certainty[rows].tolist() == certainty.sort(descending=True).values[:3].tolist()
