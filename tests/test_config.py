from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import pytest

from advmix.audit.settings import AuditConfig
from advmix.commands.demo import DemoConfig
from advmix.commands.evaluate import EvaluateConfig
from advmix.commands.fit import FitConfig
from advmix.commands.train import TrainConfig
from advmix.data.settings import DataConfig
from advmix.doctor.run import DoctorConfig
from advmix.encoders.optimize import OptimizeOptions
from advmix.export.run import ExportConfig
from advmix.generators.style import StyleConfig
from advmix.mixing import SearchOptions
from advmix.training.autoencode import FitOptions
from advmix.training.classify import TrainOptions
from advmix.training.encoding import EncodeConfig
from advmix.utils import config as configs
from advmix.utils.config import from_dict, to_dict
from advmix.utils.errors import UserError

DATA = DataConfig("kmnist", Path("elsewhere"), color_variance=0.25, target="color", train_images=100)
SEARCH = SearchOptions(perp=(0, -1), perp_grid=True, restarts=4, steps=5, step_size=0.125, radius=2.0, step="gradient")
OUT: dict[str, Any] = {"out": Path("x/y"), "device": "cpu", "resume": True}
CONFIGS: list[Any] = [
    DemoConfig(),
    DemoConfig(data=DATA, methods=("advmix", "jitter"), fit=FitOptions(fit_steps=7), train=TrainOptions(2, 8), seed=3),
    FitConfig(),
    FitConfig(data=DATA, fit=FitOptions(fit_steps=5, fit_lr=0.5), seed=9, **OUT),
    EncodeConfig(generator=Path("fit")),
    EncodeConfig(generator=Path("fit"), encoder="refine", features="train", optimize=OptimizeOptions(3), **OUT),
    TrainConfig(),
    TrainConfig(method="randmix", generator=Path("fit"), latents=Path("latents"), data=DATA, search=SEARCH, **OUT),
    EvaluateConfig(classifier="train"),
    EvaluateConfig(classifier="train", generator=Path("fit"), latents=Path("l"), search=SEARCH, **OUT),
    StyleConfig(8, 1, 4, (3, 2), 4, 2),
]
EVERY = pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)


@EVERY
def test_config_survives_the_way_through_json(config: Any) -> None:
    text = json.dumps(to_dict(config))
    assert from_dict(type(config), json.loads(text), "here") == config


@EVERY
def test_saved_config_is_loaded(config: Any, tmp_path: Path) -> None:
    configs.save(tmp_path, "command", config, {"images": "0" * 16})
    assert configs.load(tmp_path / "config.json", "command", type(config)) == config


@EVERY
def test_every_key_is_needed(config: Any) -> None:
    for name in to_dict(config):
        data = to_dict(config)
        del data[name]
        with pytest.raises(UserError, match=rf"^here: missing key {name}$"):
            from_dict(type(config), data, "here")


def changed(path: str, change: Callable[[dict[str, Any], str], None]) -> dict[str, Any]:
    """The default demo's dictionary with something done to the place at `path`."""
    data = to_dict(DemoConfig())
    place = data
    *outer, last = path.split(".")
    for name in outer:
        place = place[name]
    change(place, last)
    return data


def put(value: Any) -> Callable[[dict[str, Any], str], None]:
    return lambda place, name: place.__setitem__(name, value)


@pytest.mark.parametrize("path", ["colour", "data.colour", "search.restart"])
def test_unknown_key_is_named_with_its_place(path: str) -> None:
    with pytest.raises(UserError, match=f"^here: unknown key {path}$"):
        from_dict(DemoConfig, changed(path, put(1)), "here")


@pytest.mark.parametrize("path", ["seed", "data", "data.color_std", "train.lr"])
def test_missing_key_is_named_with_its_place(path: str) -> None:
    with pytest.raises(UserError, match=f"^here: missing key {path}$"):
        from_dict(DemoConfig, changed(path, lambda place, name: place.__delitem__(name)), "here")


def test_several_unknown_keys_are_named_together() -> None:
    data = to_dict(DemoConfig()) | {"b": 1, "a": 2}
    with pytest.raises(UserError, match="unknown keys a, b"):
        from_dict(DemoConfig, data, "here")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("seed", "three"),
        ("seed", 1.5),
        ("seed", None),
        ("data.color_std", "wide"),
        ("train.epochs", "many"),
        ("out", 5),
        ("out", None),
        ("methods", 5),
        ("methods", [1]),
        ("data.data", 5),
        ("search.step", 3),
    ],
)
def test_wrong_type_is_named_with_its_place(path: str, value: Any) -> None:
    with pytest.raises(UserError, match=rf"^here: .*{path}"):
        from_dict(DemoConfig, changed(path, put(value)), "here")


@pytest.mark.parametrize("value", [5, None, [1], "text"])
def test_part_that_is_no_object_is_named(value: Any) -> None:
    with pytest.raises(UserError, match="here: search must be a JSON object"):
        from_dict(DemoConfig, changed("search", put(value)), "here")
    with pytest.raises(UserError, match="here: the whole file must be a JSON object"):
        from_dict(DemoConfig, value, "here")


def test_whole_number_is_taken_for_a_real_one() -> None:
    config = from_dict(DemoConfig, changed("data.color_std", put(0)), "here")
    assert config.data.color_std == 0


def test_value_that_the_config_itself_refuses_is_refused() -> None:
    with pytest.raises(UserError, match="--color-std -1"):
        from_dict(DemoConfig, changed("data.color_std", put(-1.0)), "here")


@pytest.mark.parametrize("content", ['{"command": "train"}', "{}", "[]", "5"])
def test_config_of_another_command_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=r"config\.json: a config of .*, not of 'fit'"):
        configs.load(tmp_path / "config.json", "fit", FitConfig, edited=True)


def test_lists_and_paths_become_plain_json() -> None:
    @dataclass(frozen=True)
    class Inner:
        sizes: tuple[int, ...] = (1, 2)

    @dataclass(frozen=True)
    class Outer:
        path: Path = Path("a/b")
        inner: Inner = field(default_factory=Inner)

    assert to_dict(Outer()) == {"path": "a/b", "inner": {"sizes": [1, 2]}}


def test_a_config_that_a_run_is_taken_up_by_is_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    configs.save(tmp_path, "fit", FitConfig(), {})
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(UserError, match="damaged or changed since"):
        configs.load(path, "fit", FitConfig)
    assert configs.load(path, "fit", FitConfig, edited=True).seed == 1


@pytest.mark.parametrize(
    "config",
    [
        AuditConfig("net", generator="g", latents="l", out="o"),  # type: ignore[arg-type]
        FitConfig(regime="invert", generator="g", out="o"),  # type: ignore[arg-type]
        EncodeConfig("g", out="o"),  # type: ignore[arg-type]
        TrainConfig(generator="g", latents="l", out="o"),  # type: ignore[arg-type]
        EvaluateConfig("net", weights="w", out="o"),  # type: ignore[arg-type]
        ExportConfig("a", out="o"),  # type: ignore[arg-type]
        DoctorConfig(("a", "b"), out="o"),  # type: ignore[arg-type]
        DataConfig(Path("some/photos"), data_dir="d"),  # type: ignore[arg-type]
    ],
    ids=lambda config: type(config).__name__,
)
def test_paths_may_be_text(config: Any) -> None:
    """As they come back from a file, where they are text."""
    again = from_dict(type(config), json.loads(json.dumps(to_dict(config))), "here")
    assert again == config
    values = {part.name: getattr(config, part.name) for part in fields(config) if "Path" in str(part.type)}
    assert all(not isinstance(value, str) for value in values.values())
    assert values
