"""Every command on a few images, with all that it reads."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.io import write_png

import foreign_nvidia
from advmix.utils.torch_tools import generator
from faults.forks import run

FEW = ["--train-images", "40", "--test-images", "20"]
CPU = ["--device", "cpu"]
ALL_SAVED = ["--checkpoint-seconds", "0"]
SHORT = ["--epochs", "1", "--batch", "16"]
GAN = ["--gan-steps", "3", "--gan-batch", "4", "--gan-channels", "8", "--preview-every", "2"]
INVERT = ["--invert-steps", "3", "--invert-batch", "4"]
SEARCH = ["--restarts", "1", "--steps", "1"]
PARTS = ("fit", "latents", "nominal", "judge", "gan", "imported", "audit", "refined", "alone")
"""What the inputs hold, made by commands of their own."""


@dataclass(frozen=True)
class Job:
    """A command in a working folder, into `out` there.

    Attributes:
        name: of the command, and its kind.
        words: its command line.
        reads: which parts of the inputs it needs.
        goes_on: by `--resume`, or by itself.
        trains: whether it trains or searches for a while.
    """

    name: str
    words: tuple[str, ...]
    reads: tuple[str, ...] = ()
    goes_on: bool = True
    trains: bool = False

    @property
    def line(self) -> list[str]:
        """As it is started, the first time and again."""
        return [*self.words, "--out", "out", *(["--resume"] if self.goes_on else [])]


def jobs(inputs: Path) -> dict[str, Job]:
    """All of them, by name.

    Args:
        inputs: folder of what they read.
    """
    at = {name: str(inputs / name) for name in (*PARTS, "photos", "snapshot.pkl")}
    mixed = ["--generator", at["fit"], "--latents", at["latents"], *CPU]
    audit = ["--images", "6", "--chunk", "3", "--resamples", "5", "--pictures", "1", *SEARCH, *CPU]
    own = ["--fit-steps", "3", "--fit-batch", "8"]
    judged = ["--classifier", at["nominal"]]
    found = [
        Job("data", ("data", at["photos"], "--size", "16", "--columns", "2"), goes_on=False),
        Job("fit", ("fit", *FEW, "--fit-steps", "11", "--fit-batch", "4", *ALL_SAVED, *CPU), trains=True),
        Job(
            "fit gan",
            ("fit", "--regime", "gan", *FEW, *GAN, *INVERT, "--features", at["judge"], *ALL_SAVED, *CPU),
            ("judge",),
            trains=True,
        ),
        Job(
            "fit invert",
            ("fit", "--regime", "invert", *FEW, *INVERT, "--generator", at["gan"], *ALL_SAVED, *CPU),
            ("gan",),
            trains=True,
        ),
        Job("import", ("import", at["snapshot.pkl"], "--samples", "4", *CPU)),
        Job("sample", ("sample", "--generator", at["gan"], "--count", "5", *CPU), ("gan",)),
        Job("encode", ("encode", "--generator", at["fit"], "--shard-size", "16", *CPU), ("fit",)),
        Job(
            "encode refine",
            (
                "encode",
                *("--generator", at["fit"], "--encoder", "refine", "--optimize-steps", "2"),
                *("--shard-size", "16", *CPU),
            ),
            ("fit",),
            trains=True,
        ),
        Job(
            "encode features",
            (
                *("encode", "--generator", at["fit"], "--encoder", "refine", "--optimize-steps", "1"),
                *("--features", at["gan"], *CPU),
            ),
            ("fit", "gan"),
        ),
        Job(
            "train",
            ("train", "--method", "advmix", *mixed, *SHORT, *SEARCH, *ALL_SAVED),
            ("fit", "latents"),
            trains=True,
        ),
        Job(
            "evaluate",
            ("evaluate", *judged, *mixed, "--worst-images", "4", *SEARCH),
            ("fit", "latents", "nominal"),
            trains=True,
        ),
        Job(
            "inspect",
            (
                "inspect",
                *(*mixed, "--unbiased", "train", "--images", "6", "--dimension-images", "2", "--resamples", "3"),
                *SHORT,
            ),
            ("fit", "latents"),
            trains=True,
        ),
        Job(
            "audit",
            ("audit", *judged, *mixed, "--reference", at["judge"], *audit[:-2]),
            ("fit", "latents", "nominal", "judge"),
            trains=True,
        ),
        Job("audit alone", ("audit", *judged, *own, *audit), ("nominal",), trains=True),
        Job("export audit", ("export", "--audit", at["audit"], *CPU), ("fit", "latents", "nominal", "judge", "audit")),
        Job(
            "export",
            ("export", *judged, *mixed, "--images", "4", "--originals", *SEARCH),
            ("fit", "latents", "nominal"),
            trains=True,
        ),
        Job("predict", ("predict", *judged, "--shard-size", "6", *CPU), ("nominal",)),
        Job(
            "predict mixed",
            ("predict", *judged, *mixed, "--marginalize", "2", "--shard-size", "6"),
            ("fit", "latents", "nominal"),
            trains=True,
        ),
        Job(
            "predict refined",
            (
                *("predict", *judged, "--generator", at["fit"], "--latents", at["refined"], *CPU),
                *("--marginalize", "1", "--shard-size", "20"),
            ),
            ("fit", "refined", "nominal"),
        ),
        Job(
            "predict unlabelled",
            ("predict", *judged, "--data", at["photos"], "--unlabelled", "--shard-size", "3", *CPU),
            ("nominal",),
        ),
        Job(
            "doctor",
            ("doctor", at["fit"], at["latents"], at["nominal"], "--images", "6", "--search-images", "3", *CPU),
            ("fit", "latents", "nominal"),
            goes_on=False,
        ),
        Job(
            "doctor alone",
            ("doctor", at["alone"], "--images", "6", "--search-images", "3", *CPU),
            ("nominal", "alone"),
            goes_on=False,
        ),
        Job(
            "demo",
            (
                "demo",
                *("--methods", "nominal", "advmix", *FEW, *own, *SHORT, *SEARCH),
                *("--worst-images", "3", "--worst-restarts", "1", "--worst-steps", "1", *CPU),
            ),
            goes_on=False,
            trains=True,
        ),
    ]
    return {job.name: job for job in found}


def make_inputs(inputs: Path, parts: tuple[str, ...] = PARTS) -> None:
    """What the commands read: `PARTS`, pictures and a file of somebody's generator."""
    inputs.mkdir(parents=True)
    foreign_nvidia.write_snapshot(inputs / "snapshot.pkl", foreign_nvidia.make_network())
    _photos(inputs / "photos")
    known = jobs(inputs)
    trained = ["train", "--method", "nominal", *FEW, *SHORT, *CPU]
    made = {
        "fit": known["fit"].words,
        "latents": known["encode"].words,
        "nominal": trained,
        "judge": ["train", "--method", "mixup", *trained[3:]],
        "gan": [word for word in known["fit gan"].words if word not in ("--features", str(inputs / "judge"))],
        "imported": known["import"].words,
        "audit": known["audit"].words,
        "refined": known["encode refine"].words,
        "alone": known["audit alone"].words,
    }
    for part in parts:
        ended = run([*made[part], "--out", part], inputs, inputs.parent / "logs")
        assert ended.code == 0, (part, ended.err)


def _photos(folder: Path) -> None:
    rng = generator(0, "tests", "faults")
    for label in ("dark", "light"):
        (folder / label).mkdir(parents=True)
        for number in range(4):
            pixels = torch.randint(0, 100, (3, 16, 16), generator=rng, dtype=torch.uint8)
            write_png(pixels + (150 if label == "light" else 0), str(folder / label / f"{number}.png"))


def fresh(folder: Path) -> Path:
    """An empty working folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
