"""The generators that a file can hold, by name: another one is one more entry."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from advmix.generators.base import Generator
from advmix.generators.style import NetworkConfig
from advmix.utils.config import from_dict, to_dict
from advmix.utils.errors import UserError

NETWORKS = {
    "style": ("style", "StyleConfig", "StyleGenerator"),
    "stylegan": ("stylegan", "StyleGanConfig", "StyleGan"),
    "stylegan2": ("stylegan2", "StyleGan2Config", "StyleGan2"),
    "moments": ("moments", "MomentsConfig", "MomentsGenerator"),
    "statistics": ("image_statistics", "StatisticsConfig", "Statistics"),
}
"""The module of each, its shape and the network itself."""


def _kinds(name: str) -> tuple[type[Any], Callable[[Any], Generator]]:
    """Shape and network of a generator, imported when they are needed."""
    module, shape, network = NETWORKS[name]
    home = import_module(f"advmix.generators.{module}")
    return getattr(home, shape), getattr(home, network)


def build_generator(config: NetworkConfig) -> Generator:
    """The generator of this shape, with new weights."""
    return _kinds(_name(config))[1](config)


def write_network(config: NetworkConfig) -> dict[str, Any]:
    """Name and shape, as they stand in a file's metadata."""
    return {"architecture": _name(config), "network": to_dict(config)}


def read_network(metadata: dict[str, Any], source: str) -> NetworkConfig:
    """The inverse of `write_network`.

    Raises:
        UserError: a network that this advmix does not know, or a shape that is none.
    """
    name, shape = metadata.get("architecture"), metadata.get("network")
    if not isinstance(name, str) or name not in NETWORKS:
        raise UserError(f"{source}: holds a {str(name)[:40]!r} generator, but this advmix knows {', '.join(NETWORKS)}")
    try:
        config: NetworkConfig = from_dict(_kinds(name)[0], shape, "network")
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{source}: {str(error)[:200]}; make it again") from error
    return config


def _name(config: NetworkConfig) -> str:
    return next(name for name, (_, shape, _) in NETWORKS.items() if type(config).__name__ == shape)
