"""TorchScript files as a hostile hand writes them: their code is read as text, and refused in one line."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.utils.errors import UserError


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 1)), nn.AdaptiveAvgPool2d(1), nn.Flatten())

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images)  # type: ignore[no-any-return]


def with_code(lines: str) -> Path:
    """A file whose network runs these lines first, saved without asking torch."""
    torch.jit.save(torch.jit.script(Net().eval()), "net.pt")
    with zipfile.ZipFile("net.pt") as old, zipfile.ZipFile("hostile.pt", "w") as new:
        for name in old.namelist():
            text = old.read(name)
            if name.endswith("__torch__.py") or b"class Net" in text:
                before, sign, after = text.decode().partition("-> Tensor:\n")
                text = (before + sign + "".join(f"    {line}\n" for line in lines.splitlines()) + after).encode()
            new.writestr(name, text)
    return Path("hostile.pt")


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize(
    "lines",
    [
        'torch.save(images, "trace")',
        'getattr(torch, "save")(images, "trace")',
        'getattr(torch, "sa" "ve")(images, "trace")',
        'getattr(torch, "sa\\166e")(images, "trace")',
        'getattr(getattr(ops, "aten"), "save")(images, "trace")',
        'writer = torch.save\nwriter(images, "trace")',
        'torch.save # text\n(images, "trace")',
        "torch.manual_seed(3)",
        "torch.set_grad_enabled(False)",
        "spaces = ops\ndone = spaces.symm_mem.has_multicast_support(0)",
        "made = __torch__.torch.classes.profiling._ScriptProfile()",
    ],
)
def test_code_that_reaches_out_is_refused(lines: str) -> None:
    with pytest.raises(UserError, match=r"refused, because its code calls [^\n]*$"):
        open_classifier(ClassifierOptions(str(with_code(lines))))
    assert not Path("trace").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_code_that_computes_passes() -> None:
    images = torch.rand(2, 3, 8, 8)
    opened = open_classifier(ClassifierOptions(str(with_code("other = torch.neg(images)")))).network(images)
    torch.testing.assert_close(opened, torch.jit.load("net.pt")(images))
