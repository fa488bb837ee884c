"""Networks in 16 bits: what a machine can do, and that what is found is worth the same in 32."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from advmix.classifiers.networks import conv_net
from advmix.cli import main
from advmix.data.images import ImageSet
from advmix.generators.layers import EdgePaddedConv2d, instance_norm
from advmix.generators.style import StyleGenerator
from advmix.latents import Latents, Split
from advmix.metrics import evaluate_latents
from advmix.mixing import AdvMix, Mix, cross_entropy
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.classify import ClassifierTrainee, TrainOptions
from advmix.training.loop import Loop
from advmix.training.objectives import Nominal
from advmix.utils.arithmetic import ArithmeticOptions, has_bf16
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import answers, global_seed
from advmix.utils.torch_tools import generator as seeded
from tiny import VECTOR, make_classifier, make_generator, make_latents, no_gradients

CPU = torch.device("cpu")
BF16 = ArithmeticOptions("bf16")
SPLIT = Split.fine(6, 2)
LABELS = torch.arange(40) % 3


def parts() -> tuple[StyleGenerator, nn.Module, Latents, Latents]:
    """The tests' generator, classifier, codes and pool, in float32."""
    latents, pool = make_latents(VECTOR, 40, seed=1), make_latents(VECTOR, 50, seed=2)
    networks = make_generator().float(), make_classifier().float()
    return *networks, latents.to(dtype=torch.float32), pool.to(dtype=torch.float32)


def found(classifier: nn.Module, arithmetic: ArithmeticOptions, **settings: Any) -> tuple[StyleGenerator, Mix]:
    generator, _, latents, pool = parts()
    search = AdvMix(generator, SPLIT, restarts=2, steps=3, arithmetic=arithmetic, **settings)
    return generator, search(classifier, latents, LABELS, pool, rng=seeded(0))


def logits_of(classifier: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = classifier.eval()(images)
    return logits


@pytest.mark.parametrize(
    ("kind", "capabilities", "wanted"),
    [
        ("cpu", {"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ("cpu", {"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ("cpu", {"avx512_bf16": False, "amx_bf16": False}, "32"),
        ("cpu", {}, "32"),
        ("mps", {"avx512_bf16": True}, "32"),
    ],
)
def test_auto_is_what_the_machine_has(
    monkeypatch: pytest.MonkeyPatch, kind: str, capabilities: dict[str, bool], wanted: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert ArithmeticOptions("auto").on(torch.device(kind)).precision == wanted
    assert ArithmeticOptions("32").on(torch.device(kind)).precision == "32"
    assert BF16.on(torch.device(kind)).precision == "bf16"


def test_a_torch_that_does_not_tell_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16("cpu")


def test_a_precision_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UserError, match="--precision 16: unknown; choose from auto 32 bf16"):
        ArithmeticOptions("16")


def test_compiling_needs_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match="--compile: needs a C\\+\\+ compiler"):
        ArithmeticOptions(compile=True)


@pytest.mark.parametrize("stop_early", [False, True])
def test_a_search_in_16_bits_is_judged_in_32(stop_early: bool) -> None:
    classifier = parts()[1]
    generator, mix = found(classifier, BF16, stop_early=stop_early)
    with torch.no_grad():
        torch.testing.assert_close(mix.images, generator(mix.latents), rtol=0, atol=1e-6)
    logits = logits_of(classifier, mix.images)
    assert mix.losses is not None
    torch.testing.assert_close(mix.losses, cross_entropy(logits, LABELS), rtol=1e-4, atol=1e-5)
    assert mix.fooled is not None
    assert mix.flips is not None
    assert (answers(logits) == LABELS)[~mix.fooled].all()
    assert torch.equal(mix.flips.there.any(dim=0), mix.fooled)
    runs, rows = mix.flips.there.nonzero().unbind(1)
    assert len(rows) > 10
    with torch.no_grad():
        flipped = generator(SPLIT.with_perp(mix.latents[rows], mix.flips.perp[runs, rows]))
    assert (answers(logits_of(classifier, flipped)) != LABELS[rows]).all()


def test_a_search_in_16_bits_finds_about_as_much() -> None:
    classifier = parts()[1]
    plain, reduced = (found(classifier, how)[1].losses for how in (ArithmeticOptions(), BF16))
    assert plain is not None
    assert reduced is not None
    assert not torch.equal(plain, reduced)
    assert float(reduced.mean()) == pytest.approx(float(plain.mean()), rel=0.03)


class Shaky(nn.Module):
    """Right in 32 bits and wrong in 16, or the other way round."""

    def __init__(self, right_in: torch.dtype) -> None:
        super().__init__()
        self.right_in, self.network = right_in, nn.Linear(192, 3)

    def forward(self, images: Tensor) -> Tensor:
        """The label of every row, which is its place modulo 3, or another one."""
        scores: Tensor = self.network(images.flatten(1))
        label = images.new_zeros(len(images), 3)
        label[:, 1] = 10 if scores.dtype == self.right_in else -10
        return label + 0.01 * scores.float()


@pytest.mark.parametrize("stop_early", [False, True])
@pytest.mark.parametrize("right_in", [torch.float32, torch.bfloat16])
def test_what_16_bits_say_of_an_answer_does_not_count(right_in: torch.dtype, stop_early: bool) -> None:
    generator, _, latents, pool = parts()
    with global_seed(0):
        classifier = Shaky(right_in)
    search = AdvMix(generator, SPLIT, restarts=2, steps=2, stop_early=stop_early, arithmetic=BF16)
    mix = search(classifier, latents, torch.ones_like(LABELS), pool, rng=seeded(0))
    assert mix.fooled is not None
    assert mix.flips is not None
    assert bool(mix.fooled.all()) == (right_in == torch.bfloat16) == bool(mix.fooled.any())
    assert torch.equal(mix.flips.there.any(dim=0), mix.fooled)


@pytest.mark.parametrize("verdicts", [False, True])
def test_without_verdicts_nothing_is_asked_again(verdicts: bool) -> None:
    generator, _, latents, pool = parts()
    with global_seed(0):
        classifier = Shaky(torch.float32)
    asked: list[bool] = []
    classifier.register_forward_hook(lambda *_: asked.append(torch.is_autocast_enabled("cpu")))
    search = AdvMix(generator, SPLIT, restarts=2, steps=2, arithmetic=BF16, verdicts=verdicts)
    mix = search(classifier, latents, torch.ones_like(LABELS), pool, rng=seeded(0))
    assert mix.fooled is not None
    assert mix.fooled.all() == (not verdicts)
    assert asked.count(True) == 3
    assert (asked.count(False) > 0) == verdicts


def test_trained_and_audited_in_16_bits(tmp_path: Path) -> None:
    """`auto` is decided before anything is written, and a run goes on in the precision in which it began."""
    data = ["--train-images", "96", "--device", "cpu"]
    fit, latents, net = (str(tmp_path / name) for name in ("fit", "latents", "net"))
    assert main(["fit", *data, "--fit-steps", "4", "--precision", "bf16", "--out", fit]) == 0
    assert main(["encode", "--generator", fit, "--device", "cpu", "--out", latents]) == 0
    mixes = ["--method", "advmix", "--generator", fit, "--latents", latents, "--epochs", "1", "--device", "cpu"]
    assert main(["train", *mixes, "--precision", "auto", "--out", net]) == 0
    written = json.loads((tmp_path / "net" / "config.json").read_text())["arithmetic"]
    assert written == {"precision": "bf16" if has_bf16("cpu") else "32", "compile": False}
    other = "32" if has_bf16("cpu") else "bf16"
    assert main(["train", *mixes, "--precision", other, "--resume", "--out", net]) == 2
    search = ["--restarts", "2", "--steps", "2", "--worst-images", "20", "--device", "cpu", "--precision", "bf16"]
    judged = ["evaluate", "--classifier", net, "--generator", fit, "--latents", latents, *search]
    assert main([*judged, "--out", str(tmp_path / "evaluation")]) == 0
    assert json.loads((tmp_path / "evaluation" / "results.json").read_text())["runs"][0]["accuracy_worst_case"] <= 1


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Compiled as a user's networks are, but for the C++ code at the end; says how many graphs there are so far."""
    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    before = counters["stats"]["unique_graphs"]
    yield lambda: counters["stats"]["unique_graphs"] - before
    torch.compiler.reset()


def test_a_compiled_search_is_the_same(graphs: Callable[[], int]) -> None:
    """In batches of any size, and compiled once."""
    generator, classifier, pool = make_generator(), make_classifier(), make_latents(VECTOR, 50, seed=2)
    classifier.requires_grad_(True)
    latents, compiled = make_latents(VECTOR, 40, seed=1), ArithmeticOptions(compile=True)
    for stop_early in (False, True):
        plain, quick = (
            AdvMix(generator, SPLIT, restarts=2, steps=2, stop_early=stop_early, arithmetic=how)
            for how in (None, compiled)
        )
        for count in (40, 35, 3):
            asked = classifier, latents[:count], LABELS[:count], pool
            wanted, mix = (search(*asked, rng=seeded(1)) for search in (plain, quick))
            torch.testing.assert_close(mix.images, wanted.images, rtol=0, atol=1e-8)
            assert mix.fooled is not None
            assert wanted.fooled is not None
            assert torch.equal(mix.fooled, wanted.fooled)
    assert graphs() == 1
    assert no_gradients(classifier, generator)
    assert all(weight.requires_grad for weight in classifier.parameters())


def test_the_few_rows_that_are_measured_first_are_not_compiled(graphs: Callable[[], int]) -> None:
    generator, classifier, latents, pool = parts()
    search = AdvMix(generator, SPLIT, restarts=2, steps=2, arithmetic=ArithmeticOptions(compile=True))
    evaluate_latents(classifier, search, latents, LABELS, pool, seed=0)
    assert graphs() == 1


def test_compiled_normalisation_is_the_same(graphs: Callable[[], int]) -> None:
    x = torch.randn(3, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(3, 4, 6, 6)
    results = []
    for function in (instance_norm, torch.compile(instance_norm)):
        out = function(x)
        results.append((out, *torch.autograd.grad((out * weight).sum(), x)))
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert graphs() == 1


@pytest.mark.parametrize("stride", [1, 2])
def test_compiled_convolution_of_a_continued_image_is_the_same(stride: int) -> None:
    """As torch's own, and without the padding whose gradient the compiler takes for another one."""
    seen: list[str] = []

    def backend(module: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        seen.extend(str(node.target) for node in module.graph.nodes)
        return module.forward

    conv = EdgePaddedConv2d(4, 5, stride).to(memory_format=torch.channels_last)
    literal = nn.Conv2d(4, 5, 3, stride, 1, padding_mode="replicate")
    literal.load_state_dict(conv.state_dict())
    torch.compiler.reset()
    compiled = torch.compile(conv, backend=backend)
    x = torch.randn(3, 4, 6, 6).contiguous(memory_format=torch.channels_last).requires_grad_()
    results = [(out, *torch.autograd.grad(out.square().sum(), x)) for out in (literal(x), conv(x), compiled(x))]
    for found in results[1:]:
        for part, wanted in zip(found, results[0], strict=True):
            torch.testing.assert_close(part, wanted, rtol=1e-4, atol=1e-5)
    assert any("cat" in name for name in seen)
    assert not any("pad" in name for name in seen)


def test_compiled_training_is_the_same_and_compiled_once_for_a_size(graphs: Callable[[], int]) -> None:
    images = ImageSet(torch.randint(256, (21, 3, 16, 16), dtype=torch.uint8), torch.arange(21) % 3, ("a", "b", "c"))
    states = []
    for compiled in (False, True):
        with global_seed(0):
            network = conv_net(3, widths=(4, 4))
        options = TrainOptions(epochs=3, batch=8)
        trainee = ClassifierTrainee(network, Nominal(), images, options, 0, make_fabric("cpu"), compiled=compiled)
        Loop("train", options.steps(images)).train(trainee)
        states.append(network.state_dict())
    for name, tensor in states[0].items():
        torch.testing.assert_close(states[1][name], tensor, rtol=1e-3, atol=1e-4)
    assert graphs() == 2  # batches of 8 and 5


def test_a_compiled_fit_is_the_same(graphs: Callable[[], int]) -> None:
    images = ImageSet(torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8), torch.zeros(20).long(), ("only",))
    losses = []
    for compiled in (False, True):
        options = FitOptions(fit_steps=6, fit_batch=8)
        loop = Loop("fit", 6, log_every=1)
        loop.train(AutoencoderTrainee(images, options, 0, make_fabric("cpu"), compiled=compiled))
        losses.append([line["loss"] for line in loop.history])
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert 0 < graphs() <= 4  # on both sides of the noise, and not one for each seed of it
