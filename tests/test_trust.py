"""Functions that a file names: called only where the user says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from advmix.audit.settings import AuditConfig
from advmix.classifiers.open import open_classifier
from advmix.classifiers.settings import ClassifierOptions
from advmix.cli import main, parse
from advmix.commands.predict import PredictConfig
from advmix.doctor.inputs import find_runs
from advmix.export.run import ExportConfig
from advmix.utils.config import to_dict
from advmix.utils.errors import UserError
from advmix.utils.files import write_json
from advmix.utils.trust import names_code

HOSTILE = "os:system"


@pytest.mark.parametrize(
    "name",
    [
        "os:system",
        "shop.nets:make",
        "__main__:network",
        "a:b.c",
        "./os:system",
        ".//./a:b",
        "foolbox:os.system",
        "a:b.json",
    ],
)
def test_functions_are_known_by_their_names(name: str) -> None:
    assert names_code(name)


@pytest.mark.parametrize(
    "name", ["torchvision:resnet18", "timm:hf-hub:a/b", "C:net.pt", "runs/a:b", "net.onnx", "", "a:"]
)
def test_files_and_libraries_are_no_functions(name: str) -> None:
    assert not names_code(name)


@pytest.mark.parametrize("name", ["torchvision:set_image_backend", "shop:attack.pt", "timm:x"])
def test_attacks_are_of_foolbox_or_code(name: str) -> None:
    assert names_code(name, "attack")
    assert not names_code("foolbox:LinfPGD", "attack")


def saved(command: str, config: Any, **changed: Any) -> Path:
    write_json(Path("config.json"), {"command": command, **to_dict(config), **changed})
    return Path("config.json")


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [
        {"classifier": HOSTILE},
        {"compare": [HOSTILE]},
        {"reference": HOSTILE},
        {"attack": {"attack": HOSTILE, "attack_args": "{}"}},
        {"classifier": HOSTILE, "trust_code": True},
    ],
    ids=str,
)
def test_a_saved_config_is_not_believed(changed: dict[str, Any]) -> None:
    path = saved("audit", AuditConfig("runs/mine"), **changed)
    with pytest.raises(UserError, match=f"names a function, {HOSTILE}, .*--trust-code"):
        parse(["audit", "--config", str(path)])
    assert parse(["audit", "--config", str(path), "--trust-code"]).trust_code


def test_what_the_command_line_names_too_is_called() -> None:
    path = saved("predict", PredictConfig("shop:net"))
    assert parse(["predict", "--config", str(path), "--classifier", "shop:net"]).classifier == "shop:net"
    assert parse(["predict", "--config", str(path), "--classifier", "runs/mine"]).classifier == "runs/mine"
    assert parse(["predict", "--classifier", "shop:net"]).classifier == "shop:net"


def test_an_export_says_it_too() -> None:
    mine = ExportConfig(
        classifier=ClassifierOptions(HOSTILE, trust_code=True), generator=Path("fit"), latents=Path("latents")
    )
    path = saved("export", mine)
    with pytest.raises(UserError, match="--trust-code"):
        parse(["export", "--config", str(path)])
    assert parse(["export", "--config", str(path), "--trust-code"]).classifier.trust_code


@pytest.mark.parametrize("changed", [{"classifier": HOSTILE}, {"compare": [HOSTILE]}, {"reference": HOSTILE}], ids=str)
def test_the_doctor_calls_nothing_that_a_run_names(changed: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    saved("audit", AuditConfig("runs/mine"), **changed).rename("run/config.json")
    assert main(["doctor", "run"]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in ("run/config.json", HOSTILE, "--trust-code"))
    with pytest.raises(UserError, match="nothing says which images"):  # so the function was let pass
        find_runs([Path("run")], trust_code=True)


@pytest.mark.parametrize("command", ["audit", "evaluate", "predict", "export", "inspect", "fit", "encode"])
def test_every_command_that_opens_classifiers_has_the_flag(command: str) -> None:
    needed = {
        "audit": ["--classifier", "a"],
        "evaluate": ["--classifier", "a"],
        "predict": ["--classifier", "a"],
        "export": ["--audit", "a"],
        "inspect": ["--generator", "a", "--latents", "b"],
        "encode": ["--generator", "a"],
    }
    if command != "export":
        assert parse([command, *needed.get(command, []), "--trust-code"]).trust_code
    else:
        words = ["--classifier", "a", "--generator", "b", "--latents", "c", "--trust-code"]
        assert parse([command, *words]).classifier.trust_code


def test_what_a_json_file_names_lies_beside_it() -> None:
    Path("far").mkdir()
    network = nn.Linear(12, 4)
    torch.save({"1.weight": network.weight, "1.bias": network.bias}, "far/four.pth")
    Path("shop_of_trust.py").write_text(
        "from torch import nn\ndef make(outputs):\n    return nn.Sequential(nn.Flatten(), nn.Linear(12, outputs))\n"
    )
    told = {"classifier": "shop_of_trust:make", "classifier_args": {"outputs": 4}, "weights": "four.pth"}
    Path("far/mine.json").write_text(json.dumps(told))
    mine = open_classifier(ClassifierOptions("far/mine.json", trust_code=True), image=(3, 2, 2))
    images = torch.rand(2, 3, 2, 2)
    torch.testing.assert_close(mine.network(images), network(images.flatten(1)))


@pytest.mark.parametrize("more", [{}, {"trust_code": True}])
def test_a_function_that_a_file_names_is_not_called(more: dict[str, Any]) -> None:
    told = {"classifier": "os:system", "classifier_args": json.dumps({"command": "touch trace"}), **more}
    Path("mine.json").write_text(json.dumps(told))
    with pytest.raises(UserError) as caught:
        open_classifier(ClassifierOptions("mine.json"))
    said = str(caught.value)
    assert all(word in said for word in ("mine.json", "os:system", "--trust-code", "command line"))
    assert not Path("trace").exists()


@pytest.mark.parametrize("name", ["./evil_of_trust:make", "foolbox:attacks.base.os.system", "evil_of_trust:make.json"])
def test_other_ways_to_name_a_function_are_no_ways(name: str) -> None:
    Path("evil_of_trust.py").write_text("open('trace', 'w').close()\n")
    arguments = {"command": "touch trace"} if name.endswith("system") else {}
    Path("mine.json").write_text(json.dumps({"classifier": name, "classifier_args": arguments}))
    with pytest.raises(UserError, match="names a function"):
        open_classifier(ClassifierOptions("mine.json"))
    assert not Path("trace").exists()


@pytest.mark.parametrize("name", ["torchvision:set_image_backend", "evil_of_trust:make.pt"])
def test_an_attack_of_a_saved_config_is_code_whatever_it_looks_like(name: str) -> None:
    path = saved("audit", AuditConfig("runs/mine"), attack={"attack": name, "attack_args": "{}"})
    with pytest.raises(UserError, match="names a function"):
        parse(["audit", "--config", str(path)])


@pytest.mark.parametrize("given", [{"std": {"a": 1}}, {"mean": "abc"}, {"head": {}}])
def test_values_of_another_kind_are_one_line(given: dict[str, Any]) -> None:
    Path("mine.json").write_text(json.dumps({"classifier": "torchvision:resnet18", **given}))
    with pytest.raises(UserError, match=r"mine.json: \w+ is .*, of another kind than this setting"):
        open_classifier(ClassifierOptions("mine.json"))
