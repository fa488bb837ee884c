"""The mean answer over random z⊥: a generator whose truth is known, and the command on small real data."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix import Latents, Marginalized, Split
from advmix.cli import main
from advmix.encoders.network import Encoder
from advmix.generators.base import Generator, State
from advmix.marginalized import draw_perp
from advmix.utils.files import write_tensors
from advmix.utils.torch_tools import eval_mode
from advmix.utils.torch_tools import generator as seeded
from trained import shared

SPLIT = Split(2, (1,))
SIDE = 4


class Palette(Generator):
    """Style 0 is the brightness of the left half, style 1 the colour of the right half: nothing is lost."""

    resolution, channels, layers = SIDE, 3, 2

    def prefix(self, latents: Latents, split: Split) -> State:
        return State(latents.styles, latents, split)

    def render_signed(self, state: State, perp: Tensor) -> Tensor:
        styles = state.split.with_perp(state.latents, perp).styles
        halves = styles[:, :, :, None, None].expand(-1, -1, -1, SIDE, SIDE // 2)
        return torch.cat([halves[:, 0], halves[:, 1]], dim=3)


class Eye(Encoder):
    """The exact inverse; given `blur`, the colour leaks into z∥."""

    def __init__(self, leak: float = 0.0) -> None:
        super().__init__()
        self.leak = leak

    def encode_signed(self, images: Tensor) -> Latents:
        left, right = images[..., 0, 0], images[..., 0, -1]
        return Latents(torch.stack([left + self.leak * right, right], dim=1))


def classifier() -> nn.Sequential:
    """Reads both halves, with a nonlinearity that no mean can be taken through; saw seeded weights only."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    rng = seeded(5)
    for weight in network.parameters():
        nn.init.normal_(weight, std=0.7, generator=rng)
    return network


def codes(count: int, seed: int) -> Latents:
    return Latents(torch.rand(count, 2, 3, generator=seeded(seed), dtype=torch.float64) * 1.6 - 0.8)


POOL, SHOWN = codes(40, 1), codes(6, 2)


def marginalized(samples: int, seed: int = 0, leak: float = 0.0, residual: bool = False) -> Marginalized:
    return Marginalized(classifier(), Palette(), Eye(leak), SPLIT, POOL, samples, seed, residual)


def test_perfect_encoder_forgets_the_images_own_perp() -> None:
    """The same z∥ with two z⊥ are two images with two plain answers, and one marginalized answer."""
    other = SPLIT.combine(SHOWN, codes(6, 3))
    images, changed = Palette()(SHOWN), Palette()(other)
    assert (images - changed).abs().amax(dim=(1, 2, 3)).min() > 0.05
    assert (classifier()(images) - classifier()(changed)).abs().amax(dim=1).min() > 0.01
    robust = marginalized(samples=5)
    torch.testing.assert_close(robust(images), robust(changed), rtol=0, atol=1e-12)
    leaking = marginalized(samples=5, leak=0.2)
    assert (leaking(images) - leaking(changed)).abs().amax(dim=1).min() > 0.001


def test_answer_is_the_log_of_the_mean_probability() -> None:
    """Literally: every image with every drawn part, one at a time."""
    samples, images = 7, Palette()(SHOWN)
    rows = draw_perp(POOL, SPLIT, samples, seed=0)
    network, expected = classifier(), []
    for index in range(len(SHOWN)):
        answers = []
        for row in rows:
            latents = Latents(torch.stack([SHOWN.styles[index, 0], row])[None])
            answers.append(network(Palette()(latents)).softmax(dim=1)[0])
        expected.append(torch.stack(answers).mean(dim=0))
    found = marginalized(samples)(images)
    torch.testing.assert_close(found.exp(), torch.stack(expected))
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(len(SHOWN), dtype=torch.float64))


def test_answer_does_not_depend_on_the_batch() -> None:
    images, robust = Palette()(SHOWN), marginalized(samples=5)
    together = robust(images)
    for index in range(len(images)):
        torch.testing.assert_close(robust(images[index : index + 1]), together[index : index + 1])


def test_seed_fixes_the_draw_and_more_samples_add_to_it() -> None:
    images = Palette()(SHOWN)
    assert torch.equal(marginalized(5)(images), marginalized(5)(images))
    assert not torch.equal(marginalized(5)(images), marginalized(5, seed=1)(images))
    assert torch.equal(draw_perp(POOL, SPLIT, 100, seed=0)[:5], draw_perp(POOL, SPLIT, 5, seed=0))


def test_whole_pool_is_drawn_without_repetition() -> None:
    drawn, pool = draw_perp(POOL, SPLIT, len(POOL), seed=3), SPLIT.perp_of(POOL)
    assert torch.equal(drawn.sort(dim=0).values, pool.sort(dim=0).values)
    assert len(draw_perp(POOL, SPLIT, 2 * len(POOL) + 1, seed=3)) == 2 * len(POOL) + 1
    with pytest.raises(ValueError, match="at least 1"):
        draw_perp(POOL, SPLIT, 0, seed=0)


def test_gradients_reach_the_images_and_modes_are_kept() -> None:
    images, robust = Palette()(SHOWN).requires_grad_(), marginalized(3).train()
    with eval_mode(robust) as (network,):
        (gradient,) = torch.autograd.grad(network(images)[:, 0].sum(), images)
        assert not robust.classifier.training
    assert robust.classifier.training
    assert gradient[..., : SIDE // 2].abs().max() > 0
    assert gradient[..., SIDE // 2 :].abs().max() == 0


def test_images_of_another_size_are_resized_for_the_encoder() -> None:
    images = Palette()(SHOWN)
    larger = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    assert marginalized(2)(larger).shape == (6, 3)


def test_residual_keeps_what_the_generator_cannot_draw() -> None:
    """Literally: the difference of two decodings, added to an image with details of its own."""
    details = 0.02 * torch.randn(6, 3, SIDE, SIDE, generator=seeded(7), dtype=torch.float64)
    details[..., 0, 0], details[..., 0, -1] = 0, 0  # where the encoder looks
    images, network = Palette()(SHOWN) + details, classifier()
    expected = torch.zeros(6, 3, dtype=torch.float64)
    for row in draw_perp(POOL, SPLIT, 4, seed=0):
        latents = Latents(torch.stack([SHOWN.styles[:, 0], row.expand(6, -1)], dim=1))
        shown = images + Palette()(latents) - Palette()(SHOWN)
        assert (shown - shown.clamp(0, 1)).abs().max() == 0
        expected += network(shown).softmax(dim=1) / 4
    torch.testing.assert_close(marginalized(4, residual=True)(images).exp(), expected)
    assert (marginalized(4)(images).exp() - expected).abs().max() > 0.001


def test_residual_is_differentiated_too() -> None:
    robust = marginalized(3, residual=True)
    torch.autograd.gradcheck(robust, (Palette()(SHOWN[:2]).requires_grad_(),))


def test_residual_has_the_size_of_the_image() -> None:
    asked: list[Tensor] = []
    robust = marginalized(1, residual=True)
    robust.classifier = nn.Sequential(nn.AdaptiveAvgPool2d(SIDE), robust.classifier)
    robust.classifier.register_forward_pre_hook(lambda _, inputs: asked.append(inputs[0]))
    images = Palette()(SHOWN).repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    robust(images)
    assert asked[0].shape == images.shape


SMALL = ["--data", "digits", "--train-images", "80", "--test-images", "30", "--device", "cpu"]


@shared
def runs(runs: Path) -> None:
    """A generator with its latents and a classifier, hardly trained."""
    fit, latents = runs / "fit", runs / "latents"
    for words in (
        ["fit", *SMALL, "--fit-steps", "20", "--out", fit],
        ["encode", "--generator", fit, "--device", "cpu", "--out", latents],
        ["train", *SMALL, "--method", "nominal", "--epochs", "2", "--out", runs / "nominal"],
    ):
        assert main([str(word) for word in words]) == 0


def predict(out: Path, *words: object) -> tuple[dict[str, Any], list[dict[str, str]]]:
    assert main(["predict", *map(str, words), "--device", "cpu", "--out", str(out)]) == 0
    rows = list(csv.DictReader((out / "predictions.csv").read_text().splitlines()))
    return json.loads((out / "results.json").read_text()), rows


def test_predictions_are_written_with_labels_and_accuracy(runs: Path, tmp_path: Path) -> None:
    results, rows = predict(tmp_path / "p", "--classifier", runs / "nominal")
    assert len(rows) == results["images"] == 30
    assert list(rows[0]) == ["image", "label", "prediction", *(f"p {digit}" for digit in range(10))]
    right = sum(row["label"] == row["prediction"] for row in rows) / len(rows)
    assert results["accuracy"] == pytest.approx(right)
    for row in rows:
        values = [float(row[f"p {digit}"]) for digit in range(10)]
        assert sum(values) == pytest.approx(1, abs=1e-4)
        assert values[int(row["prediction"])] == max(values)


def test_marginalized_run_depends_on_nothing_but_its_settings(runs: Path, tmp_path: Path) -> None:
    mixing = ["--generator", runs / "fit", "--latents", runs / "latents", "--marginalize", 3]
    words = ["--classifier", runs / "nominal", *mixing]
    _, whole = predict(tmp_path / "whole", *words)
    plain = predict(tmp_path / "plain", "--classifier", runs / "nominal")[1]
    assert [row["image"] for row in whole] == [row["image"] for row in plain]
    assert whole != plain
    _, parts = predict(tmp_path / "parts", *words, "--shard-size", 8, "--memory", "1MB")
    assert [row["prediction"] for row in parts] == [row["prediction"] for row in whole]
    assert not list((tmp_path / "parts").glob("shard-*"))
    for key in [name for name in whole[0] if name.startswith("p ")]:
        assert [float(row[key]) for row in parts] == pytest.approx([float(row[key]) for row in whole], abs=1e-4)


def test_residual_gives_another_answer(runs: Path, tmp_path: Path) -> None:
    mixing = ["--generator", runs / "fit", "--latents", runs / "latents", "--marginalize", 2]
    drawn = predict(tmp_path / "drawn", "--classifier", runs / "nominal", *mixing)
    kept = predict(tmp_path / "kept", "--classifier", runs / "nominal", *mixing, "--residual")
    assert kept[0]["config"]["residual"]
    assert kept[1] != drawn[1]


def test_stopped_run_keeps_its_shards(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real, asked = write_tensors, 0

    def stop_at_third(*shard: Any) -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise KeyboardInterrupt
        real(*shard)

    words = ["--classifier", str(runs / "nominal"), "--shard-size", "10"]
    monkeypatch.setattr("advmix.commands.predict.write_tensors", stop_at_third)
    assert main(["predict", *words, "--device", "cpu", "--out", str(tmp_path / "s")]) == 130
    _, rows = predict(tmp_path / "s", *words, "--resume")
    assert asked == 4
    assert rows == predict(tmp_path / "w", *words)[1]


def test_another_pool_does_not_go_on_with_a_run(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refined = ["--encoder", "refine", "--optimize-steps", "1", "--device", "cpu"]
    assert main(["encode", "--generator", str(runs / "fit"), *refined, "--out", str(tmp_path / "latents")]) == 0
    words = ["--classifier", str(runs / "nominal"), "--generator", str(runs / "fit"), "--marginalize", "2"]
    predict(tmp_path / "p", *words, "--latents", runs / "latents")
    again = ["predict", *words, "--latents", str(tmp_path / "latents"), "--device", "cpu", "--resume"]
    capsys.readouterr()
    assert main([*again, "--out", str(tmp_path / "p")]) == 2
    assert "began with another latents" in capsys.readouterr().err


def test_images_are_read_with_the_classifiers_channels(tmp_path: Path) -> None:
    from pictures import digit, encoded, write

    write(tmp_path / "data", {f"{i % 2}/{i}.png": encoded(digit(i).convert("RGB")) for i in range(20)})
    grey = ["--data", str(tmp_path / "data"), "--size", "16", "--channels", "1", "--epochs", "1", "--device", "cpu"]
    assert main(["train", *grey, "--method", "nominal", "--out", str(tmp_path / "grey")]) == 0
    words = ["--classifier", tmp_path / "grey", "--data", tmp_path / "data", "--unlabelled"]
    assert predict(tmp_path / "p", *words)[0]["images"] == 20


def test_folder_of_unlabelled_images(runs: Path, tmp_path: Path, digits: Any) -> None:
    from torchvision.utils import save_image

    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    images, _ = digits.shuffled.batch(slice(0, 3))
    for name, image in zip(("b.png", "a.png", "deep/c.png"), images, strict=True):
        save_image(image, folder / name)
    results, rows = predict(tmp_path / "p", "--classifier", runs / "nominal", "--data", folder, "--unlabelled")
    assert results["accuracy"] is None
    assert [row["image"] for row in rows] == ["a.png", "b.png", "deep/c.png"]
    assert "label" not in rows[0]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--generator", "statistics"], "--generator statistics: goes together with --marginalize N"),
        (["--marginalize", "-1"], "--marginalize -1"),
        (["--residual"], "--marginalize N"),
        (["--part", "mine"], "--part mine"),
        (["--part", "val"], "--part val"),
        (["--unlabelled"], "--data"),
    ],
)
def test_bad_input_is_one_line(
    words: list[str], line: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["predict", "--classifier", str(runs / "nominal"), *words, "--out", str(out), "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1
    assert not out.exists()
