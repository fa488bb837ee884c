"""advmix: adversarial mixing of disentangled latents.

The contents page. The paper's Algorithm 1 is in `advmix.mixing`, its Algorithm 2 in `advmix.encoders.optimize`. Names
are loaded when they are first used, so that `import advmix` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advmix.classifiers import Classifier
    from advmix.encoders import Encoder, LatentStore, OptimizeEncoder, StyleEncoder, load_autoencoder
    from advmix.generators import Generator, StyleConfig, StyleGan, StyleGanConfig, StyleGenerator
    from advmix.latents import Latents, Split
    from advmix.marginalized import Marginalized
    from advmix.mixing import AdvMix, Mix, Mixer, RandMix
    from advmix.pools import FittedModel, load
    from advmix.utils.errors import UserError

__version__ = "0.1.0"

_HOMES = {
    "classifiers": ("Classifier",),
    "encoders": ("Encoder", "LatentStore", "OptimizeEncoder", "StyleEncoder", "load_autoencoder"),
    "utils.errors": ("UserError",),
    "generators": ("Generator", "StyleConfig", "StyleGan", "StyleGanConfig", "StyleGenerator"),
    "latents": ("Latents", "Split"),
    "marginalized": ("Marginalized",),
    "mixing": ("AdvMix", "Mix", "Mixer", "RandMix"),
    "pools": ("FittedModel", "load"),
}

__all__ = [
    "AdvMix",
    "Classifier",
    "Encoder",
    "FittedModel",
    "Generator",
    "LatentStore",
    "Latents",
    "Marginalized",
    "Mix",
    "Mixer",
    "OptimizeEncoder",
    "RandMix",
    "Split",
    "StyleConfig",
    "StyleEncoder",
    "StyleGan",
    "StyleGanConfig",
    "StyleGenerator",
    "UserError",
    "__version__",
    "load",
    "load_autoencoder",
]


def __getattr__(name: str) -> Any:
    """A public name, from the module where it lives."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'advmix' has no attribute {name!r}")
    return getattr(import_module(f"advmix.{home}"), name)


def __dir__() -> list[str]:
    return __all__
