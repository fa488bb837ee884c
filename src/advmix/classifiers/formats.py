"""Networks as files: TorchScript, torch.export, ONNX."""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from advmix.classifiers.safe_archive import check_archive, check_script
from advmix.classifiers.wrapper import FoundNetwork
from advmix.utils.errors import UserError, one_line, printable

ONNX_TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}
"""Of inputs; whole numbers are 0 to 255."""
LOCATION = re.compile(rb"\x0a\x08location\x12(?:([\x00-\x7f])|([\x80-\xff])([\x00-\x7f]))")
"""How an .onnx says that weights lie in a file beside it; then the length of its name comes, and its name."""


class Exported(nn.Module):
    """A graph whose mode is fixed, and its batch size too where it was exported with one.

    Args:
        graph: images to its answer.
        batch: number of images that it takes at once; None for any. The last batch is filled with copies.
    """

    def __init__(self, graph: nn.Module, batch: int | None = None) -> None:
        super().__init__()
        self.graph, self.batch = graph, batch

    def train(self, mode: bool = True) -> Self:
        """An exported graph has one mode."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Any:
        """Images `(B, C, H, W)`, any B, to what the graph answers."""
        if self.batch is None or len(images) == self.batch:
            return self.graph(images)
        lacking = -len(images) % self.batch
        filled = torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
        return _joined([self.graph(part) for part in filled.split(self.batch)], self.batch, len(images))


def _joined(answers: Sequence[Any], batch: int, count: int) -> Any:
    """The answers to batches as one: what has a row for each image, at any depth, `count` rows of it."""
    first = answers[0]
    if isinstance(first, Mapping):
        return {name: _joined([answer[name] for answer in answers], batch, count) for name in first}
    if isinstance(first, tuple | list):
        return [_joined(parts, batch, count) for parts in zip(*answers, strict=True)]
    if isinstance(first, Tensor) and first.ndim == 0 and batch == 1:
        return torch.stack(list(answers))[:count]
    if isinstance(first, Tensor) and first.ndim and len(first) == batch:
        return torch.cat(list(answers))[:count]
    return first


class OnnxNetwork(nn.Module):
    """An ONNX graph under onnxruntime, on the CPU: no gradients.

    Args:
        session: an `onnxruntime.InferenceSession` with a single input.
        channels_last: whether it wants images as `(B, H, W, C)`.
    """

    def __init__(self, session: Any, channels_last: bool = False) -> None:
        super().__init__()
        (entry,) = session.get_inputs()
        self.session, self.input, self.dtype = session, entry.name, ONNX_TYPES[entry.type]
        self.names, self.channels_last = [output.name for output in session.get_outputs()], channels_last

    def forward(self, images: Tensor) -> Any:
        """Images as the graph wants them to its output, on their device; to several by their names."""
        shown = images.detach().cpu()
        if self.dtype == torch.uint8:
            shown = (shown.clamp(0, 1) * 255).round()
        array = (shown.permute(0, 2, 3, 1) if self.channels_last else shown).to(self.dtype).contiguous().numpy()
        found = self.session.run(None, {self.input: array})
        answers = {
            name: torch.from_numpy(part) for name, part in zip(self.names, found, strict=True) if _is_array(part)
        }
        return answers if len(answers) != 1 else next(iter(answers.values())).to(images.device)


def _is_array(part: Any) -> bool:
    """Whether an output is of numbers; others are sequences and maps."""
    return isinstance(part, np.ndarray) and part.dtype.kind in "fiub"


def from_file(path: Path) -> FoundNetwork:
    """A network that its file describes whole.

    Raises:
        UserError: missing, damaged, unsafe, or not for images.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _from_onnx(path)
    return _from_export(path) if path.suffix == ".pt2" else _from_torchscript(path)


def _from_torchscript(path: Path) -> FoundNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch would rather have torch.export
        try:
            graph = torch.jit.load(io.BytesIO(check_script(path.read_bytes(), path)), map_location="cpu")
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"{path}: not a TorchScript file, or damaged; weights alone go to --weights, and their network to "
                "--classifier"
            ) from error
    return FoundNetwork(Exported(graph.eval()), "torchscript", True)


def _from_export(path: Path) -> FoundNetwork:
    data = check_archive(path.read_bytes(), path)
    try:
        with _told_by_us():
            program = torch.export.load(io.BytesIO(data))
        inputs = program.graph_signature.user_inputs
        shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
        graph = program.module()
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded by torch.export ({one_line(error)})") from error
    batch, channels, size, last = _fixed(path, shapes)
    if last:
        raise UserError(f"{path}: its input is {tuple(shapes[0])}; images (B, C, H, W) are wanted")
    return FoundNetwork(Exported(graph, batch), "export", True, size=size, channels=channels)


@contextmanager
def _told_by_us() -> Iterator[None]:
    """torch logs the error that stopped it, with its traceback, and raises one that says less; here the first comes."""
    stopped: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        stopped.extend(error for error in (record.exc_info or ())[1:2] if isinstance(error, BaseException))
        return False

    logger = logging.getLogger(torch.export.__name__)
    logger.addFilter(keep)
    try:
        yield
    except Exception as error:
        raise (stopped or [error])[0] from error
    finally:
        logger.removeFilter(keep)


def _from_onnx(path: Path) -> FoundNetwork:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs onnxruntime; pip install 'advmix[onnx]'") from error
    files_of(path)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it raises is told
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded by onnxruntime ({one_line(error)})") from error
    entries = session.get_inputs()
    batch, channels, size, channels_last = _fixed(path, [entry.shape for entry in entries])
    if entries[0].type not in ONNX_TYPES:
        raise UserError(f"{path}: its input is {entries[0].type}; floating numbers or uint8 are wanted")
    network = Exported(OnnxNetwork(session, channels_last), batch)
    bytes_wanted = entries[0].type == "tensor(uint8)"
    return FoundNetwork(network, "onnx", True, size=size, channels=channels, normalised=not bytes_wanted)


def files_of(path: Path) -> list[Path]:
    """The file of a network, and those beside an .onnx in which it keeps weights.

    Raises:
        UserError: one of them is not there, or leads out of the folder.
    """
    if path.suffix != ".onnx":
        return [path]
    names = dict.fromkeys(_locations(path.read_bytes()))
    for name in names:
        parts = PurePosixPath(name.replace("\\", "/"))
        if parts.is_absolute() or ".." in parts.parts:
            raise UserError(f"{path}: keeps weights elsewhere, in {printable(name)[:80]}; they lie beside it")
        if "\0" in name or not (path.parent / name).is_file():
            raise UserError(f"{path}: lacks its weights, {printable(name)[:80]}; they lie beside it")
    return [path, *(path.parent / name for name in names)]


def _locations(data: bytes) -> Iterator[str]:
    for found in LOCATION.finditer(data):
        short, low, high = found.groups()
        length = short[0] if short else (low[0] & 127) + 128 * high[0]
        yield data[found.end() : found.end() + length].decode(errors="replace")


Fixed = tuple[int | None, int | None, int | tuple[int, int] | None, bool]


def _fixed(path: Path, shapes: Sequence[Sequence[Any]]) -> Fixed:
    """Batch size, channels and size of the single input, as far as fixed, and whether channels are last."""
    if len(shapes) != 1 or len(shapes[0]) != 4:
        described = " and ".join(str(tuple(shape)) for shape in shapes) or "nothing"
        raise UserError(f"{path}: its input is {described}; one input (B, C, H, W) of images is wanted")
    batch, *sides = (side if isinstance(side, int) else None for side in shapes[0])
    if any(side is not None and side < 1 for side in (batch, *sides)):
        raise UserError(f"{path}: its input is {tuple(shapes[0])}, no images; export it again")
    last = sides[2] in (1, 3) and sides[0] not in (1, 3)
    channels, height, width = [sides[2], *sides[:2]] if last else sides
    if (height is None) != (width is None):
        raise UserError(f"{path}: fixes one side of its images, {shapes[0]}; export it with both fixed, or both free")
    if height is None or width is None:
        return batch, channels, None, last
    return batch, channels, height if height == width else (height, width), last
