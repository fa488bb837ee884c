"""`advmix fit`: train a generator and its encoder on a data set."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from advmix.config import to_dict
from advmix.data import DataConfig, open_data
from advmix.encoders.autoencoder import FILE, save_autoencoder
from advmix.engine import make_fabric
from advmix.progress import console
from advmix.runs import open_run
from advmix.training.autoencode import AutoencoderTrainee, FitOptions, reconstruction_mse
from advmix.training.loop import Loop


@dataclass(frozen=True)
class FitConfig:
    """Train a style generator and its encoder on the (biased) training images alone.

    Writes generator.safetensors, log.jsonl and config.json.

    Args:
        data: the data set.
        fit: how they are trained.
        seed: fixes the data's colours, the first weights and every batch.
        out: folder for what is written.
        device: auto, cpu, cuda, cuda:N or mps.
        resume: go on with a run that was stopped; it ends in the same weights as one that was not.
        checkpoint_seconds: time between checkpoints.
    """

    data: DataConfig = field(default_factory=DataConfig)
    fit: FitOptions = field(default_factory=FitOptions)
    seed: int = 0
    out: Path = Path("runs/fit")
    device: str = "auto"
    resume: bool = False
    checkpoint_seconds: float = 20.0


def run_fit(config: FitConfig) -> None:
    """Fit, unless `out` holds the finished result already.

    Raises:
        UserError: bad input, or a loss that is not finite.
    """
    fabric = make_fabric(config.device)
    images = open_data(config.data, config.seed).train
    run = open_run(config.out, "fit", config, config.resume, {"images": images.fingerprint})
    if (config.out / FILE).is_file():
        console.print(f"  done already: {config.out / FILE}")
        return
    trainee = AutoencoderTrainee(images, config.fit, config.seed, fabric)
    steps = config.fit.steps(images.pixels.shape[-1])
    loop = Loop("fit generator and encoder", steps, config.out, run, config.checkpoint_seconds)
    loop.train(trainee)
    model = trainee.model.eval()
    mse = reconstruction_mse(model, images, fabric.device)
    metadata = {
        "data": to_dict(config.data),
        "data_seed": config.seed,
        "data_fingerprint": images.fingerprint,
        "fit": to_dict(config.fit),
        "fit_seconds": round(loop.seconds, 2),
        "reconstruction_mse": mse,
    }
    save_autoencoder(config.out, model, metadata)
    loop.finish()
    console.print(
        f"  generator in {config.out / FILE}: reconstruction error {mse:.4f} (mean square, images in [-1, 1])"
    )
