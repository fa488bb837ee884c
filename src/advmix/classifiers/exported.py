"""Networks as files: TorchScript, torch.export, ONNX."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from advmix.classifiers.archive import check_archive
from advmix.classifiers.found import Found, one_line
from advmix.classifiers.script import check_script
from advmix.errors import UserError

SUFFIXES = (".pt", ".pth", ".ts", ".pt2", ".onnx")


class Exported(nn.Module):
    """A graph whose mode is fixed, and its batch size too where it was exported with one.

    Args:
        graph: images to logits.
        batch: number of images that it takes at once; None for any. The last batch is filled with copies.
    """

    def __init__(self, graph: nn.Module, batch: int | None = None) -> None:
        super().__init__()
        self.graph, self.batch = graph, batch

    def train(self, mode: bool = True) -> Self:
        """An exported graph has one mode."""
        self.training = mode
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Images `(B, C, H, W)`, any B, to what the graph answers."""
        if self.batch is None or len(images) == self.batch:
            answer: Tensor = self.graph(images)
            return answer
        lacking = -len(images) % self.batch
        filled = torch.cat([images, images[-1:].expand(lacking, -1, -1, -1)])
        return torch.cat([self.graph(part) for part in filled.split(self.batch)])[: len(images)]


class OnnxNetwork(nn.Module):
    """An ONNX graph under onnxruntime, on the CPU: no gradients.

    Args:
        session: an `onnxruntime.InferenceSession` with a single input.
    """

    def __init__(self, session: Any) -> None:
        super().__init__()
        self.session, self.input = session, session.get_inputs()[0].name

    def forward(self, images: Tensor) -> Tensor:
        """Images as the graph wants them to its first output, on their device."""
        array = images.detach().float().cpu().contiguous().numpy()
        return torch.from_numpy(self.session.run(None, {self.input: array})[0]).to(images.device)


def from_file(path: Path) -> Found:
    """A network that its file describes whole.

    Raises:
        UserError: missing, damaged, unsafe, or not for images.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if path.suffix == ".onnx":
        return _from_onnx(path)
    return _from_export(path) if path.suffix == ".pt2" else _from_torchscript(path)


def _from_torchscript(path: Path) -> Found:
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
    return Found(Exported(graph.eval()), "torchscript", True, channels=guess_channels(graph))


def _from_export(path: Path) -> Found:
    data = check_archive(path.read_bytes(), path)
    try:
        program = torch.export.load(io.BytesIO(data))
        inputs = program.graph_signature.user_inputs
        shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
        graph = program.module()
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded by torch.export ({one_line(error)})") from error
    batch, channels, size = _fixed(path, shapes)
    return Found(Exported(graph, batch), "export", True, size=size, channels=channels)


def _from_onnx(path: Path) -> Found:
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError(f"{path}: needs onnxruntime; pip install 'advmix[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise UserError(f"{path}: cannot be loaded by onnxruntime ({one_line(error)})") from error
    batch, channels, size = _fixed(path, [entry.shape for entry in session.get_inputs()])
    return Found(Exported(OnnxNetwork(session), batch), "onnx", True, size=size, channels=channels)


def _fixed(path: Path, shapes: Sequence[Sequence[Any]]) -> tuple[int | None, int | None, int | None]:
    """Batch size, channels and side of the single input, as far as the graph fixes them."""
    if len(shapes) != 1 or len(shapes[0]) != 4:
        described = " and ".join(str(tuple(shape)) for shape in shapes)
        raise UserError(f"{path}: its input is {described}; one input (B, C, H, W) of images is wanted")
    batch, channels, height, width = (side if isinstance(side, int) else None for side in shapes[0])
    if height != width:
        raise UserError(f"{path}: wants images of {height}x{width}; only square ones are made here")
    return batch, channels, height


def guess_channels(network: nn.Module) -> int | None:
    """What the first convolution takes, where that is grey or RGB."""
    kernels = (part for part in network.parameters() if part.ndim == 4)
    first = next(kernels, None)
    return int(first.shape[1]) if first is not None and first.shape[1] in (1, 3) else None
