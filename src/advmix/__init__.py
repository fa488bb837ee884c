"""advmix: adversarial mixing of disentangled latents.

The contents page. The paper's Algorithm 1 is in `advmix.mixing`, its Algorithm 2 in `advmix.encoders.optimize`.
"""

from advmix.classifiers import Classifier
from advmix.encoders import Encoder, LatentStore, OptimizeEncoder, StyleEncoder, load_autoencoder
from advmix.errors import UserError
from advmix.generators import Generator, StyleConfig, StyleGan, StyleGanConfig, StyleGenerator
from advmix.latents import Latents, Split
from advmix.marginalized import Marginalized
from advmix.mixing import AdvMix, Mix, Mixer, RandMix
from advmix.stages.sources import Mixable, load

__version__ = "0.1.0"

__all__ = [
    "AdvMix",
    "Classifier",
    "Encoder",
    "Generator",
    "LatentStore",
    "Latents",
    "Marginalized",
    "Mix",
    "Mixable",
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
