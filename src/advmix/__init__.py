"""advmix: adversarial mixing of disentangled latents.

The contents page. The paper's Algorithm 1 is in `advmix.mixing`, its Algorithm 2 in `advmix.encoders.optimize`. Names
are loaded when they are first used, so that `import advmix` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from advmix import transforms as transforms
    from advmix.attacks import MixAttack
    from advmix.audit.results import AuditResult
    from advmix.audit.run import audit_classifier
    from advmix.classifiers.open import open_classifier
    from advmix.classifiers.wrapper import Classifier
    from advmix.commands.fit import fit
    from advmix.data.datasets import open_images
    from advmix.encoders.autoencoder import Autoencoder
    from advmix.latents import Latents, Split
    from advmix.marginalized import Marginalized
    from advmix.mixing import AdvMix, RandMix, Search
    from advmix.pools import load
    from advmix.utils.errors import UserError

__version__ = "0.1.0"

_HOMES = {
    "AdvMix": "mixing",
    "AuditResult": "audit.results",
    "Autoencoder": "encoders.autoencoder",
    "Classifier": "classifiers.wrapper",
    "Latents": "latents",
    "Marginalized": "marginalized",
    "MixAttack": "attacks",
    "RandMix": "mixing",
    "Search": "mixing",
    "Split": "latents",
    "UserError": "utils.errors",
    "audit_classifier": "audit.run",
    "fit": "commands.fit",
    "load": "pools",
    "open_classifier": "classifiers.open",
    "open_images": "data.datasets",
}

__all__ = [
    "AdvMix",
    "AuditResult",
    "Autoencoder",
    "Classifier",
    "Latents",
    "Marginalized",
    "MixAttack",
    "RandMix",
    "Search",
    "Split",
    "UserError",
    "audit_classifier",
    "fit",
    "load",
    "open_classifier",
    "open_images",
]


if not TYPE_CHECKING:  # or else no wrong name would be found

    def __getattr__(name: str) -> Any:
        """A public name, from the module where it lives; or the module `transforms`."""
        if name == "transforms":
            return import_module("advmix.transforms")
        if name not in _HOMES:
            raise AttributeError(f"module 'advmix' has no attribute {name!r}")
        return getattr(import_module(f"advmix.{_HOMES[name]}"), name)

    def __dir__() -> list[str]:
        return [*__all__, "__version__", "transforms"]
