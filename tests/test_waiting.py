"""What a search asks of the device: a question whose answer Python needs makes it wait for a GPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import advmix
from advmix.candidates import CandidateJudge
from advmix.generators.base import Generator
from advmix.latents import Latents, Split
from advmix.mixing import AdvMix
from advmix.utils.arithmetic import ArithmeticOptions
from advmix.utils.torch_tools import generator as seeded
from test_silent_gradients import Rounded
from tiny import SPATIAL, VECTOR, make_classifier, make_generator, make_latents

ATEN = torch.ops.aten
WAITS = {
    ATEN._local_scalar_dense.default: "a number",
    ATEN.nonzero.default: "places",
    ATEN.masked_select.default: "places",
    ATEN.lift_fresh.default: "a tensor made of Python's numbers, which is copied to the device",
}
LABELS = torch.arange(12) % 3


class Questions(TorchDispatchMode):
    """Counts what would make a GPU wait, from the first candidate of a search on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.asked: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITS:
            self.asked[WAITS[func]] += 1
        if func in (ATEN.index.Tensor, ATEN.index_put.default, ATEN.index_put_.default):
            self.asked["places"] += any(one is not None and one.dtype == torch.bool for one in args[1])
        return func(*args, **(kwargs or {}))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], Counter[str]]:
    """What is asked between the first candidate and the last one."""
    judge = CandidateJudge.__call__

    def count(search: Callable[[], object]) -> Counter[str]:
        questions, seen = Questions(), []

        def judged(*arguments: Any) -> Any:
            seen.append(questions.asked.copy())
            found = judge(*arguments)
            seen.append(questions.asked.copy())
            return found

        monkeypatch.setattr(CandidateJudge, "__call__", judged)
        with questions:
            search()
        return seen[-1] - seen[0]

    return count


def ready_made(name: str) -> tuple[Generator, Split, Latents, Latents]:
    model = advmix.load(name, "photos")
    images = torch.rand(12, 3, 16, 16, generator=seeded(1))
    latents = model.generator.complete(model.encoder(images), images)
    return model.generator, model.split, latents, model.pool


def fitted(name: str) -> tuple[Generator, Split, Latents, Latents]:
    config = SPATIAL if name == "grid" else VECTOR
    split = Split(config.layers, (1, 3), grid=name == "grid")
    return make_generator(config), split, make_latents(config, 12, seed=1), make_latents(config, 30, seed=2)


FITTED, READY_MADE = ("styles", "grid"), ("moments", "pyramid", "local", "fourier")


@pytest.mark.parametrize("name", [*FITTED, *(f"statistics:{kind}" for kind in READY_MADE), "photo:moments"])
def test_a_search_asks_nothing_from_step_to_step(name: str, asked: Callable[..., Counter[str]]) -> None:
    """Also where no gradient says which way is up."""
    generator, split, latents, pool = fitted(name) if name in FITTED else ready_made(name)
    network = make_classifier().to(latents.styles.dtype)
    plain = network if name in FITTED else nn.Sequential(nn.AvgPool2d(2), network)
    for classifier in (plain, Rounded(plain)):
        mixer = AdvMix(generator, split, restarts=2, steps=2, strength=0.8)
        assert not asked(lambda: mixer(classifier, latents, LABELS, pool, rng=seeded(0)))  # noqa: B023


def test_nor_does_one_in_16_bits_for_training(asked: Callable[..., Counter[str]]) -> None:
    generator, split, latents, pool = fitted("styles")
    how = ArithmeticOptions("bf16")
    mixer = AdvMix(generator.float(), split, restarts=2, steps=2, arithmetic=how, verdicts=False)
    codes = latents.to(dtype=torch.float32), LABELS, pool.to(dtype=torch.float32)
    assert not asked(lambda: mixer(make_classifier().float(), *codes, rng=seeded(0)))


@pytest.mark.parametrize("settings", [{"stop_early": True}, {"arithmetic": ArithmeticOptions("bf16")}])
def test_what_saves_work_is_asked_once_for_a_candidate(
    settings: dict[str, Any], asked: Callable[..., Counter[str]]
) -> None:
    """Which examples are left, and which of the answers in 16 bits are to be looked at again."""
    generator, split, latents, pool = fitted("styles")
    mixer = AdvMix(generator.float(), split, restarts=2, steps=2, **settings)
    codes = latents.to(dtype=torch.float32), LABELS, pool.to(dtype=torch.float32)
    found = asked(lambda: mixer(make_classifier().float(), *codes, rng=seeded(0)))
    assert found.keys() == {"places"}
    assert found["places"] <= 3
