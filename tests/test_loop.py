from __future__ import annotations

import json
import os
import pickle
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from advmix.data.colored import ColoredDigits
from advmix.training.autoencode import AutoencoderTrainee, FitOptions
from advmix.training.loop import Loop, Trainee
from advmix.utils.device import make_fabric
from advmix.utils.errors import UserError
from advmix.utils.files import read_checkpoint, write_checkpoint
from advmix.utils.torch_tools import generator as seeded
from advmix.utils.torch_tools import global_seed
from tiny import assert_same_state, interrupt_at, state_of

STEPS = 8


class Line(Trainee):
    """A straight line fitted to seeded points; at `broken_at` its loss is not finite."""

    def __init__(
        self, broken_at: int | None = None, value: float = float("nan"), stop: signal.Signals | None = None
    ) -> None:
        with global_seed(0):
            network = nn.Linear(2, 1)
        super().__init__(network, make_fabric("cpu"), 0.05, STEPS, (0.9, 0.999))
        self.broken_at, self.value, self.stop, self.taken = broken_at, value, stop, 0

    def loss(self, step: int) -> Tensor:
        self.taken += 1
        if step == self.broken_at and self.stop is not None:
            signal.raise_signal(self.stop)
        x = torch.randn(8, 2, generator=seeded(0, "line", step))
        loss: Tensor = (self.wrapped(x) - x.sum(dim=1, keepdim=True)).square().mean()
        return loss * self.value if step == self.broken_at and self.stop is None else loss


def make_loop(folder: Path | None = None, run: str = "this", seconds: float = 0.0) -> Loop:
    return Loop("fit a line", STEPS, folder, run, checkpoint_seconds=seconds, log_every=3)


def test_history_has_every_third_step_and_the_last(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    loop.train(Line())
    assert [line["step"] for line in loop.history] == [3, 6, 8]
    assert loop.history[-1]["loss"] < loop.history[0]["loss"]
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == loop.history


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_loop().train(Line())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_names_the_step_and_the_checkpoint(tmp_path: Path, value: float) -> None:
    trainee = Line(broken_at=5, value=value)
    with pytest.raises(UserError) as caught:
        make_loop(tmp_path).train(trainee)
    assert f"fit a line: the loss is {value} at step 5" in str(caught.value)
    assert f"{tmp_path / 'checkpoint.pt'} (step 5)" in str(caught.value)
    assert "\n" not in str(caught.value)
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    assert state["step"] == 5
    assert all(torch.isfinite(weight).all() for weight in state["trainee"]["network"].values())


def test_first_loss_that_is_not_finite_says_that_there_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nan at step 0; there is no checkpoint"):
        make_loop(tmp_path).train(Line(broken_at=0))
    assert not (tmp_path / "checkpoint.pt").exists()


def test_weights_that_are_not_finite_are_never_kept(tmp_path: Path) -> None:
    class Root(Line):
        """The gradient of the loss is infinite at step 4, the loss itself is zero."""

        def loss(self, step: int) -> Tensor:
            return super().loss(step) if step < 4 else (self.wrapped(torch.zeros(1, 2)) * 0).sqrt().sum()

    with pytest.raises(UserError, match="not finite after step 4"):
        make_loop(tmp_path).train(Root())
    state = read_checkpoint(tmp_path / "checkpoint.pt")
    assert state["step"] == 4
    assert all(torch.isfinite(weight).all() for weight in state["trainee"]["network"].values())


def test_last_step_that_breaks_the_weights_is_an_error_too(tmp_path: Path) -> None:
    class Root(Line):
        def loss(self, step: int) -> Tensor:
            return super().loss(step) if step < STEPS - 1 else (self.wrapped(torch.zeros(1, 2)) * 0).sqrt().sum()

    with pytest.raises(UserError, match="not finite"):
        make_loop(tmp_path).train(Root())


def test_after_a_broken_loss_training_goes_on_from_the_checkpoint(tmp_path: Path) -> None:
    whole, mended = Line(), Line()
    make_loop().train(whole)
    with pytest.raises(UserError):
        make_loop(tmp_path).train(Line(broken_at=5))
    make_loop(tmp_path).train(mended)
    assert mended.taken == STEPS - 5
    assert_same_state(mended.network.state_dict(), state_of(whole.network))


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_goes_on_as_if_it_had_not_been(tmp_path: Path, stop: signal.Signals) -> None:
    whole, stopped, resumed = Line(), Line(broken_at=4, stop=stop), Line()
    uninterrupted, handlers = make_loop(), (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    uninterrupted.train(whole)
    with pytest.raises(KeyboardInterrupt):
        make_loop(tmp_path, seconds=1000).train(stopped)
    assert stopped.taken == 5
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    loop = make_loop(tmp_path)
    loop.train(resumed)
    assert resumed.taken == 3
    assert loop.history == uninterrupted.history
    assert_same_state(resumed.network.state_dict(), state_of(whole.network))
    optimizers = [trainee.optimizer.state_dict()["state"][0]["exp_avg_sq"] for trainee in (resumed, whole)]
    assert torch.equal(*optimizers)


def test_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    make_loop(tmp_path).train(Line())
    again = Line()
    make_loop(tmp_path).train(again)
    assert again.taken == 0


def test_finish_removes_the_checkpoint(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    loop.train(Line())
    loop.finish()
    loop.finish()
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    make_loop(tmp_path, run="that").train(Line())
    with pytest.raises(UserError, match=r"checkpoint\.pt: a checkpoint of another run"):
        make_loop(tmp_path, run="this").train(Line())


class Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.trace}'",)


@pytest.mark.parametrize("by_torch", [True, False])
def test_checkpoint_that_would_run_a_command_is_refused(tmp_path: Path, by_torch: bool) -> None:
    path, trace = tmp_path / "run" / "checkpoint.pt", tmp_path / "trace"
    path.parent.mkdir()
    hostile = {"step": 1, "run": "this", "trainee": Hostile(trace)}
    if by_torch:
        torch.save(hostile, path)
    else:
        path.write_bytes(pickle.dumps(hostile))
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint of advmix") as caught:
        make_loop(path.parent).train(Line())
    assert "\n" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("content", [b"", b"damaged", b"PK\x03\x04damaged"])
def test_damaged_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint of advmix"):
        make_loop(tmp_path).train(Line())


@pytest.mark.parametrize("state", [{"step": 3, "run": "this"}, {"weights": 1}, [1, 2]])
def test_checkpoint_without_the_trainee_is_refused(tmp_path: Path, state: object) -> None:
    write_checkpoint(tmp_path / "checkpoint.pt", state)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"checkpoint\.pt: not a checkpoint of advmix"):
        make_loop(tmp_path).train(Line())


class TestAutoencoder:
    @staticmethod
    def make(data: ColoredDigits, seed: int = 0, precision: str = "32") -> AutoencoderTrainee:
        fabric = make_fabric("cpu", precision=precision)
        return AutoencoderTrainee(data.train, FitOptions(fit_steps=STEPS, fit_batch=16), seed, fabric)

    def test_loss_falls(self, digits: ColoredDigits) -> None:
        loop = Loop("fit", STEPS, log_every=1)
        loop.train(self.make(digits))
        assert loop.history[-1]["loss"] < 0.5 * loop.history[0]["loss"]

    def test_same_seed_same_weights(self, digits: ColoredDigits) -> None:
        first, again, other = self.make(digits), self.make(digits), self.make(digits, seed=1)
        for trainee in (first, again, other):
            Loop("fit", STEPS).train(trainee)
        assert_same_state(first.model.state_dict(), state_of(again.model))
        name = "generator.to_image.weight"
        assert not torch.equal(first.model.get_parameter(name), other.model.get_parameter(name))

    @pytest.mark.parametrize("precision", ["32", "bf16"])
    def test_resumed_training_equals_one_without_a_stop(
        self, digits: ColoredDigits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
    ) -> None:
        whole, stopped, resumed = (self.make(digits, precision=precision) for _ in range(3))
        Loop("fit", STEPS).train(whole)
        interrupt_at(3, stopped, monkeypatch)
        with pytest.raises(KeyboardInterrupt):
            Loop("fit", STEPS, tmp_path).train(stopped)
        loop = Loop("fit", STEPS, tmp_path)
        assert read_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
        loop.train(resumed)
        assert_same_state(resumed.model.state_dict(), state_of(whole.model))
