"""What other people's networks answer with, take, and do: each ends in a right answer or one true line."""

from __future__ import annotations

import warnings
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.settings import ClassifierOptions
from advmix.classifiers.wrapper import Classifier
from advmix.utils.errors import UserError
from asked import IMAGES, MakesGrey, Named, Net, opened, refusal

Pair = namedtuple("Pair", ["logits", "features"])


@dataclass
class Plain:
    scores: Tensor


@pytest.mark.parametrize(
    "answer",
    [
        lambda z: {"logits": z},
        lambda z: {"logits": z, "features": z.repeat(1, 4)},
        lambda z: {"loss": z.sum(), "anything": z},
        lambda z: {"out": {"logits": z, "aux": z + 1}},
        lambda z: (z,),
        lambda z: [z],
        lambda z: (z, z.repeat(1, 4)),
        lambda z: (z.sum(), z),
        lambda z: (z, None, [z[:, None, None].repeat(1, 2, 2, 1)]),
        lambda z: Pair(z, z.repeat(1, 4)),
        Plain,
        lambda z: z[:, :, None, None],
        lambda z: z.detach().numpy(),
        lambda z: z.double(),
        lambda z: z.squeeze(),
        lambda z: z.to_sparse(),
    ],
    ids=(
        "dict",
        "dict of logits and features",
        "dict of one that fits",
        "nested",
        "tuple",
        "list",
        "two",
        "loss and logits",
        "None and more",
        "namedtuple",
        "dataclass",
        "map of one pixel",
        "array",
        "double",
        "squeezed",
        "sparse",
    ),
)
def test_logits_are_found_in_what_a_network_returns(named: Named, answer: Callable[[Tensor], Any]) -> None:
    mine, expected = opened(named(Net(answer))), Net().logits(IMAGES)
    for part in (slice(None), slice(1)):
        found = mine.network(IMAGES[part])
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected[part])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda z: z.argmax(dim=1), "whole numbers of shape (6,)"),
        (lambda z: z.argmax(dim=1, keepdim=True), "whole numbers of shape (6, 1)"),
        (lambda z: z.argmax(dim=1).float(), "whole numbers: classes"),
        (lambda z: {"age": z, "sex": z[:, :2]}, "age (6, 3) and sex (6, 2); say which are the logits with --head"),
        (lambda z: z > 0, "yes and no of shape (6, 3)"),
        (lambda z: z.mean(dim=0), "shape (3,), not with logits (6, K)"),
        (lambda z: z[:1], "shape (1, 3), not with logits (6, K)"),
        (lambda z: z[None], "shape (1, 6, 3)"),
        (lambda z: z.to(torch.complex64), "complex numbers"),
        (lambda z: "cat", "with a str, not with logits"),
        (lambda z: None, "with a NoneType, not with logits"),
        (lambda z: {}, "with a dict, not with logits"),
        (lambda z: z * float("nan"), "answers are not finite"),
        (lambda z: z[:, :2] if len(z) == 1 else z, "3 outputs for 6 images and 2 for one"),
    ],
    ids=range(14),
)
def test_other_answers_get_one_true_line(named: Named, answer: Callable[[Tensor], Any], words: str) -> None:
    said = refusal(named(Net(answer)))
    assert words in said
    assert "--input-size" not in said


def test_one_of_two_heads_is_chosen_by_its_name(named: Named) -> None:
    name = named(Net(lambda z: {"age": z, "sex": z[:, :2]}))
    mine = opened(name, ("no", "yes"), head="sex")
    torch.testing.assert_close(mine.network(IMAGES), Net().logits(IMAGES)[:, :2])
    assert "--head height: no output is called so; there are age (6, 3)" in refusal(name, head="height")
    assert mine.fingerprint != opened(name, head="age").fingerprint


@pytest.mark.parametrize("outputs", [2, 3, 10])
def test_a_network_whose_first_output_is_zero_is_no_single_one(
    named: Named, outputs: int, capsys: pytest.CaptureFixture[str]
) -> None:
    first = torch.eye(outputs)[0]
    mine = opened(named(Net(lambda z: z * (1 - first), outputs)), None)
    assert "probability" not in capsys.readouterr().out
    torch.testing.assert_close(mine.network(IMAGES), Net(outputs=outputs).logits(IMAGES) * (1 - first))


def test_sigmoids_of_their_own_become_their_log_odds(named: Named, capsys: pytest.CaptureFixture[str]) -> None:
    mine = opened(named(Net(torch.sigmoid)))
    assert "a probability for each output on its own" in " ".join(capsys.readouterr().out.split())
    torch.testing.assert_close(mine.network(IMAGES), Net().logits(IMAGES), atol=1e-3, rtol=1e-3)


def test_logits_in_between_zero_and_one_are_no_probabilities(named: Named, capsys: pytest.CaptureFixture[str]) -> None:
    mine = opened(named(Net(lambda z: z / 1000 + 0.5)))
    assert "probabilit" not in capsys.readouterr().out
    torch.testing.assert_close(mine.network(IMAGES), Net().logits(IMAGES) / 1000 + 0.5)


def test_a_network_of_zeros_is_none_of_probabilities(named: Named, capsys: pytest.CaptureFixture[str]) -> None:
    assert opened(named(Net(lambda z: 0 * z))).network(IMAGES).eq(0).all()
    assert "probabilit" not in capsys.readouterr().out


def test_chance_in_a_network_is_said(named: Named, capsys: pytest.CaptureFixture[str]) -> None:
    opened(named(Net(lambda z: z + torch.randn_like(z))))
    assert "answers vary from call to call" in " ".join(capsys.readouterr().out.split())


class Untracked(Net):
    def forward(self, images: Tensor) -> Tensor:
        return self.logits(torch.from_numpy(images.numpy()))


def test_a_network_that_bears_no_gradients_is_tried_without(named: Named) -> None:
    mine = opened(named(Untracked()))
    assert not mine.differentiable
    torch.testing.assert_close(mine.network(IMAGES), Net().logits(IMAGES))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_floating_types(named: Named, dtype: torch.dtype) -> None:
    mine = opened(named(Net().to(dtype)), mean=(0.5,) * 3, std=(0.5,) * 3)
    found = mine.network(IMAGES)
    assert found.dtype == torch.float32
    assert mine.differentiable
    torch.testing.assert_close(found, Classifier(Net(), (0.5,) * 3, (0.5,) * 3)(IMAGES), atol=0.2, rtol=0.05)


def test_probabilities_of_half_precision_are_known(named: Named) -> None:
    mine = opened(named(Net(lambda z: z.softmax(dim=1)).half()))
    assert mine.network.probabilities
    assert mine.network(IMAGES).isfinite().all()


@pytest.mark.parametrize("image", [None, (3, 16, 16), (1, 16, 16)])
def test_channels_are_tried_both_ways(named: Named, image: Any) -> None:
    mine = opened(named(MakesGrey()), image=image)
    torch.testing.assert_close(mine.network(IMAGES), MakesGrey()(IMAGES))
    grey = opened(named(MakesGrey().net), image=image)
    luminance = IMAGES.mul(torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    torch.testing.assert_close(grey.network(IMAGES), MakesGrey().net(luminance))


def test_one_number_of_mean_says_nothing_of_channels(named: Named) -> None:
    mine = opened(named(Net()), mean=(0.5,), std=(0.5,))
    torch.testing.assert_close(mine.network(IMAGES), Net().logits((IMAGES - 0.5) / 0.5))


def test_what_was_shown_is_what_is_said(named: Named) -> None:
    said = refusal(named(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 3))), input_size=24)
    assert "fails on images of 24x24 pixels and 3 channels" in said
    grey = opened(named(nn.Sequential(nn.Flatten(), nn.Linear(48 * 48, 3))), input_size=48)
    assert grey.network(IMAGES).shape == (5, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)},
            "divide by 255: --mean 0.485 0.456 0.406 --std 0.229 0.224 0.225",
        ),
        ({"std": (255.0,)}, "divide by 255: --std 1"),
        ({"std": (0.0, 0.5, 0.5)}, "--std 0 0.5 0.5: every number must be more than 0"),
        ({"std": (-0.5,)}, "more than 0"),
        ({"std": (float("nan"),)}, "finite"),
        ({"mean": (float("inf"),)}, "finite"),
        ({"input_size": "64y"}, "--input-size 64y: write a side in pixels"),
        ({"input_size": "0x64"}, "--input-size 0x64"),
        ({"input_size": 0}, "--input-size 0"),
    ],
    ids=str,
)
def test_numbers_that_cannot_be_meant_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as caught:
        ClassifierOptions("net", **options)
    assert words in str(caught.value)


@pytest.mark.parametrize(("size", "shape"), [("12x20", (12, 20)), ("12x12", (12, 12)), ("12", (12, 12))])
def test_height_and_width_may_differ(named: Named, size: Any, shape: tuple[int, int]) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * shape[0] * shape[1], 3))
    mine = opened(named(flat), input_size=size)
    small = nn.functional.interpolate(IMAGES, shape, mode="bilinear", antialias=True)
    torch.testing.assert_close(mine.network(IMAGES), flat(small))
    assert mine.input_size == max(shape)


def test_python_may_name_things_as_it_likes(tmp_path: Path) -> None:
    given: dict[str, Any] = {
        "classifier": tmp_path,
        "classifier_args": {"width": 3},
        "weights": "w.pth",
        "mean": [0.5],
        "std": [0.5],
        "classes": ["a", "b"],
    }
    same = ClassifierOptions(str(tmp_path), '{"width": 3}', Path("w.pth"), (0.5,), (0.5,), classes=("a", "b"))
    assert ClassifierOptions(**given) == same


class Exits(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        raise SystemExit(f"no use for {len(images)}")


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Exits(), "fails on images of 16x16 pixels and 3 channels: SystemExit: no use for 6"),
        (nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), "has no weights yet for 1.weight; name --weights"),
        (nn.Module(), "NotImplementedError"),
    ],
    ids=["exits", "lazy", "nothing"],
)
def test_networks_that_cannot_run_get_one_line(named: Named, network: nn.Module, words: str) -> None:
    assert words in refusal(named(network))


def test_a_network_with_packed_weights(named: Named) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        packed = torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}, dtype=torch.qint8)
        mine = opened(named(packed))
    torch.testing.assert_close(mine.network(IMAGES), Net().logits(IMAGES), atol=0.2, rtol=0.1)
    assert len(mine.fingerprint) == 16
