"""Exported networks with several outputs and of other kinds, and outputs that are merged to classes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from asked import IMAGES, MakesGrey, Named, Net, opened, refusal


class Dict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = MakesGrey().net

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        logits = self.net(images[:, :1])
        return {"features": logits.repeat(1, 4), "logits": logits}


class Tuple(Dict):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        logits = self.net(images[:, :1])
        return logits, logits.repeat(1, 4)


@pytest.mark.parametrize("network", [Dict(), Tuple()], ids=["dict", "tuple"])
@pytest.mark.parametrize("batch", [1, 2, None])
def test_exported_networks_with_several_outputs(named: Named, network: nn.Module, batch: int | None) -> None:
    network, images = network.eval(), torch.rand(batch or 2, 3, 16, 16)
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(network, (images,), dynamic_shapes=shapes), "net.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save("net.pt")
        outputs = ["features", "logits"] if isinstance(network, Dict) and not isinstance(network, Tuple) else ["a", "b"]
        axes = None if batch else {key: {0: "batch"} for key in ["x", *outputs]}
        torch.onnx.export(
            network, (images,), "net.onnx", input_names=["x"], output_names=outputs, dynamic_axes=axes, dynamo=False
        )
    for name in ("net.pt", "net.pt2"):
        torch.testing.assert_close(opened(name).network(IMAGES), MakesGrey().net(IMAGES[:, :1]))
    options: dict[str, Any] = {"head": "a"} if outputs == ["a", "b"] else {}
    if options:
        assert "a (6, 3) and b (6, 12); say which are the logits with --head" in refusal("net.onnx")
    expected = MakesGrey().net(IMAGES[:, :1])
    torch.testing.assert_close(opened("net.onnx", **options).network(IMAGES), expected, atol=1e-5, rtol=1e-4)


def onnx(kind: str, shape: list[Any], nodes: list[Any], outputs: int = 3) -> str:
    """An ONNX file whose input is called x, of a kind and shape, with nodes from it to y."""
    from onnx import TensorProto, checker, helper, save

    given = helper.make_tensor_value_info("x", getattr(TensorProto, kind), shape)
    found = helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, outputs])
    graph = helper.make_graph([helper.make_node(*node[:3], **node[3]) for node in nodes], "net", [given], [found])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    save(model, "net.onnx")
    return "net.onnx"


def means(kind: str, axes: list[int]) -> list[Any]:
    return [
        ("Cast", ["x"], ["f"], {"to": 1}),
        ("ReduceMean", ["f"], ["y"], {"axes": axes, "keepdims": 0}),
    ]


@pytest.mark.parametrize("kind", ["FLOAT", "FLOAT16", "DOUBLE", "UINT8"])
def test_onnx_of_other_types(named: Named, kind: str) -> None:
    mine = opened(onnx(kind, ["b", 3, 16, 16], means(kind, [2, 3])))
    scale = 255 if kind == "UINT8" else 1
    torch.testing.assert_close(mine.network(IMAGES), scale * IMAGES.mean(dim=(2, 3)), atol=0.2, rtol=1e-2)
    if kind == "UINT8":
        assert "whole numbers from 0 to 255; leave out --mean" in refusal("net.onnx", mean=(0.5,) * 3)


def test_onnx_of_whole_numbers_that_are_no_bytes(named: Named) -> None:
    assert "its input is tensor(int64)" in refusal(onnx("INT64", ["b", 3, 16, 16], means("INT64", [2, 3])))


def onnx_beside(weights: float, location: str = "net.onnx.data") -> str:
    """An ONNX file whose weights lie in a file beside it, as most exports have them."""
    import numpy as np
    import onnx as library
    from onnx import external_data_helper, helper, numpy_helper

    weight = numpy_helper.from_array(np.full((3, 3), weights, dtype=np.float32), "w")
    external_data_helper.set_external_data(weight, location)
    Path("net.onnx.data").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    nodes = [*means("FLOAT", [2, 3])[:1], ("ReduceMean", ["f"], ["m"], {"axes": [2, 3], "keepdims": 0})]
    made = [helper.make_node(*node[:3], **node[3]) for node in nodes] + [helper.make_node("MatMul", ["m", "w"], ["y"])]
    given = helper.make_tensor_value_info("x", 1, ["b", 3, 16, 16])
    graph = helper.make_graph(made, "net", [given], [helper.make_tensor_value_info("y", 1, [None, 3])], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    Path("net.onnx").write_bytes(model.SerializeToString())
    assert library.load_model("net.onnx", load_external_data=False).graph.name == "net"
    return "net.onnx"


def test_weights_beside_an_onnx_are_part_of_it(named: Named) -> None:
    first, second = opened(onnx_beside(1.0)), opened(onnx_beside(2.0))
    torch.testing.assert_close(
        second.network(IMAGES), 2 * IMAGES.mean(dim=(2, 3)).sum(dim=1, keepdim=True).repeat(1, 3)
    )
    assert first.fingerprint != second.fingerprint


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../net.onnx.data", r"keeps weights elsewhere, in ../net.onnx.data"),
        ("/etc/passwd", "keeps weights elsewhere, in /etc/passwd"),
        ("a/../../b", "keeps weights elsewhere"),
        ("other.data", "lacks its weights, other.data"),
        ("n" * 200, "lacks its weights, nnn"),
    ],
)
def test_weights_elsewhere_are_not_read(named: Named, location: str, words: str) -> None:
    assert words in refusal(onnx_beside(1.0, location))


@pytest.mark.parametrize("shape", [["b", 16, 16, 3], ["b", "h", "w", 3], [2, 16, 12, 3]])
def test_onnx_with_channels_last(named: Named, shape: list[Any]) -> None:
    mine = opened(onnx("FLOAT", shape, means("FLOAT", [1, 2])))
    images = IMAGES if shape[2] != 12 else nn.functional.interpolate(IMAGES, (16, 12), mode="bilinear", antialias=True)
    torch.testing.assert_close(mine.network(IMAGES), images.mean(dim=(2, 3)))


@pytest.mark.parametrize(
    ("entries", "groups"),
    [
        (("0=a", "*=b"), [[0], [1, 2, 3, 4]]),
        (("0,2=a", "1=b", "3-4=b"), [[0, 2], [1, 3, 4]]),
        (("*=b", "1-2=a"), [[0, 3, 4], [1, 2]]),
        (("1=a", "3=b"), [[1], [3]]),
    ],
)
def test_outputs_are_merged_and_left_out(named: Named, entries: tuple[str, ...], groups: list[list[int]]) -> None:
    mine = opened(named(Net(outputs=5)), ("a", "b"), classes=entries)
    found = mine.network(IMAGES).softmax(dim=1)
    probabilities = Net(outputs=5).logits(IMAGES).softmax(dim=1)
    order = [entry.partition("=")[2] for entry in dict.fromkeys(entries)]
    sums = torch.stack([probabilities[:, group].sum(dim=1) for group in groups], dim=1)
    expected = sums[:, [list(dict.fromkeys(order)).index(name) for name in ("a", "b")]]
    torch.testing.assert_close(found, expected / expected.sum(dim=1, keepdim=True))
    assert mine.differentiable
    assert mine.outputs == 2


def test_of_sigmoids_the_rest_is_none_of_those_named(named: Named) -> None:
    mine = opened(named(Net(torch.sigmoid)), ("yes", "no"), classes=("1=yes", "*=no"))
    probability = Net().logits(IMAGES).sigmoid()[:, 1]
    torch.testing.assert_close(mine.network(IMAGES).softmax(dim=1)[:, 0], probability, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        (("happy=a", "*=b"), "--classes happy=a: no output happy; they are numbered 0 to 2"),
        (("7=a", "*=b"), "no output 7; they are numbered 0 to 2"),
        (("2-1=a", "*=b"), "no output 2-1"),
        (("0=a", "0=b"), "output 0 is named twice"),
        (("0=a", "1=a"), "a single class"),
        (("=a", "*=b"), "write OUTPUT,OUTPUT=CLASS"),
        (("0=a", "*=c"), "tells a c apart, but the images are labelled a b"),
    ],
)
def test_classes_that_cannot_be_meant_are_refused(named: Named, entries: tuple[str, ...], words: str) -> None:
    assert words in refusal(named(Net()), ("a", "b"), classes=entries)


def test_another_number_of_outputs_names_the_remedy(named: Named) -> None:
    said = refusal(named(Net(outputs=7)), ("Smiling", "not"))
    assert "has 7 classes, but the images have 2" in said
    assert "--classes 0,2=Smiling '*=not'" in said
    assert "--classes" not in refusal(named(Net(outputs=2)))
    assert "--classes 0,2=NAME '*=NAME'" in refusal(named(Net(outputs=7)), None, classes=("Smiling", "not"))
