"""One loop for everything that is trained: progress, history, checkpoints, exact resume, a stop at the first NaN."""

from __future__ import annotations

import hashlib
import json
import math
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from advmix.utils.device import anywhere, mean_over
from advmix.utils.errors import UserError
from advmix.utils.files import atomic_write, make_folder, read_checkpoint, write_checkpoint
from advmix.utils.program import Interrupted, deferred_interrupt
from advmix.utils.progress import track

if TYPE_CHECKING:
    from lightning_fabric import Fabric

History = list[dict[str, float]]


class Stepper(ABC):
    """What a `Loop` runs: it can take a numbered step and put itself away.

    All that a step draws at random follows from the seed and the step's number, so this state is the whole state.

    Args:
        fabric: the machine.
    """

    def __init__(self, fabric: Fabric) -> None:
        self.fabric = fabric

    @abstractmethod
    def loss(self, step: int) -> Tensor:
        """The loss of step number `step`; nothing is changed yet."""

    @abstractmethod
    def update(self, loss: Tensor) -> None:
        """Change the weights by the loss."""

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimisers and whatever else a step depends on."""
        return {name: part.state_dict() for name, part in self._parts().items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put everything back."""
        for name, part in self._parts().items():
            part.load_state_dict(state[name])

    @abstractmethod
    def _parts(self) -> dict[str, Any]:
        """Everything that has a state, by name."""


class Trainee(Stepper):
    """A network with its optimiser and schedule: Adam, one cycle.

    Args:
        network: what is trained.
        fabric: the machine; forward passes are in its precision.
        lr: peak learning rate.
        steps: of the cycle.
        betas: of Adam.
        compiled: whether its forward and backward passes are compiled, for each shape that they meet.
    """

    def __init__(
        self,
        network: nn.Module,
        fabric: Fabric,
        lr: float,
        steps: int,
        betas: tuple[float, float],
        compiled: bool = False,
    ) -> None:
        super().__init__(fabric)
        self.network = network
        if compiled:
            network.compile(dynamic=False)
        optimizer = torch.optim.Adam(network.parameters(), lr=lr, betas=betas)
        self.wrapped, self.optimizer = fabric.setup(network, optimizer)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=max(steps, 2))

    def update(self, loss: Tensor) -> None:
        """Change the weights by the loss."""
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.scheduler.step()

    def _parts(self) -> dict[str, Any]:
        return {"network": self.network, "optimizer": self.optimizer, "scheduler": self.scheduler}


@dataclass
class Loop:
    """How a trainee is run.

    Args:
        title: shown while it runs.
        steps: how many there are.
        folder: where `checkpoint.pt` and `log.jsonl` go; None keeps nothing on disk.
        run: identifies the run; a checkpoint of another one is refused.
        checkpoint_seconds: time between checkpoints.
        log_every: steps between lines of the history.
        watch: called after every step with the number of steps done, in the first process alone.
    """

    title: str
    steps: int
    folder: Path | None = None
    run: str = ""
    checkpoint_seconds: float = 20.0
    log_every: int = 10
    watch: Callable[[int], None] | None = None
    history: History = field(default_factory=list)
    seconds: float = 0.0

    def train(self, trainee: Stepper) -> None:
        """Run to the end, from the checkpoint where there is one. `history` and `seconds` tell what happened.

        Raises:
            UserError: the loss is not finite (names the step and the last good checkpoint), or a foreign checkpoint.
        """
        first, fabric = self._resume(trainee), trainee.fabric
        if self.folder is not None and fabric.is_global_zero:
            make_folder(self.folder)
            if first:
                self._write_log()  # the session before may have ended between checkpoint and log
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        with track(self.title, self.steps, first) as advance, deferred_interrupt() as interrupted:
            for step in range(first, self.steps):
                loss = trainee.loss(step)
                value = self._checked(mean_over(fabric, loss), step)
                trainee.update(loss)
                stop = anywhere(fabric, bool(interrupted()))
                done, self.seconds = step + 1, time.monotonic() - started
                if done % self.log_every == 0 or done == self.steps:
                    self.history.append({"step": done, "loss": round(value, 6)})
                advance(1, f"loss {value:.4f}")
                if self.watch is not None and fabric.is_global_zero:
                    self.watch(done)
                if stop or time.monotonic() - saved >= self.checkpoint_seconds or done == self.steps:
                    self._save(trainee, done)
                    saved = time.monotonic()
                if stop:
                    raise Interrupted(interrupted() or signal.SIGINT)

    @property
    def _checkpoint(self) -> Path | None:
        return None if self.folder is None else self.folder / "checkpoint.pt"

    def _resume(self, trainee: Stepper) -> int:
        path = self._checkpoint
        if path is None or not path.exists():
            return 0
        state = read_checkpoint(path)
        if state.get("run") != self.run:
            raise UserError(f"{path}: a checkpoint of another run; delete it to start anew")
        try:
            trainee.load_state_dict(state["trainee"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise UserError(f"{path}: does not fit this network; delete it to start anew") from error
        self.history, self.seconds = list(state["history"]), float(state["seconds"])
        return int(state["step"])

    def _save(self, trainee: Stepper, step: int) -> None:
        state = trainee.state_dict()
        if not _finite(state):
            raise UserError(f"{self.title}: the weights are not finite after step {step - 1}; {self._remedy()}")
        if self._checkpoint is None or not trainee.fabric.is_global_zero:
            return
        progress = {"step": step, "history": self.history, "seconds": self.seconds, "run": self.run}
        write_checkpoint(self._checkpoint, {**progress, "trainee": state})
        self._write_log()

    def _write_log(self) -> None:
        if self.folder is not None:
            write_log(self.folder / "log.jsonl", self.history)

    def _checked(self, value: float, step: int) -> float:
        if math.isfinite(value):
            return value
        raise UserError(f"{self.title}: the loss is {value} at step {step}; {self._remedy()}")

    def _remedy(self) -> str:
        path = self._checkpoint
        kept = "there is no checkpoint"
        if path is not None and path.exists():
            kept = f"the last good checkpoint is {path} (step {read_checkpoint(path)['step']})"
        return f"{kept}. Try a smaller learning rate, with another --out"

    @property
    def log_digest(self) -> str:
        """SHA-256 of `log.jsonl` at the end, in hex."""
        return hashlib.sha256(_log(self.history)).hexdigest()

    def finish(self) -> None:
        """The result is safe on disk: the checkpoint is no longer needed."""
        if self._checkpoint is not None:
            self._checkpoint.unlink(missing_ok=True)


def write_log(path: Path, history: History) -> None:
    """JSON lines, one for each logged step."""
    atomic_write(path, _log(history))


def read_log(path: Path, digest: str) -> History:
    """What `write_log` wrote.

    Args:
        path: of the file.
        digest: `Loop.log_digest`, which the result of the loop remembers.

    Raises:
        UserError: missing or changed since.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it again") from error
    if hashlib.sha256(data).hexdigest() != digest:
        raise UserError(f"{path}: damaged or changed since it was written; make it again")
    return [json.loads(line) for line in data.splitlines()]


def _log(history: History) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in history).encode()


def _finite(state: Any) -> bool:
    if isinstance(state, Tensor):
        return bool(torch.isfinite(state).all())
    if isinstance(state, dict):
        return all(_finite(value) for value in state.values())
    return True
