"""`RandomStyle` in pipelines of torchvision, `AdversarialStyle` in a training loop."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

import advmix
from advmix.attacks import MixAttack
from advmix.data.images import ImageSet, to_bytes
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.image_statistics import KINDS, StatisticsConfig
from advmix.generators.style import StyleConfig
from advmix.latents import Latents
from advmix.mixing import RandMix, Search, cross_entropy
from advmix.pools import FittedModel
from advmix.transforms import AdversarialStyle, RandomStyle, open_styles
from advmix.utils.errors import UserError
from advmix.utils.torch_tools import global_seed
from tiny import cli, no_gradients


def pictures(count: int, size: tuple[int, int] = (20, 24), channels: int = 3, seed: int = 0) -> Tensor:
    """Noise around a shade, each image and channel with its own mean and contrast; in [0, 1]."""
    rng = torch.Generator().manual_seed(seed)
    shade, contrast = torch.rand(2, count, channels, 1, 1, generator=rng)
    noise = torch.rand(count, channels, *size, generator=rng) - 0.5
    made: Tensor = (0.3 + 0.4 * shade) + (0.1 + 0.4 * contrast) * noise
    return made


POOL = pictures(7, (18, 30), seed=1)


def at(seed: int, transform: Callable[..., Any], *sample: Any) -> Any:
    with global_seed(seed):
        found: Any = transform(*sample)
    return found


def photo_model(pool: Tensor, working_size: int = 64) -> FittedModel:
    """A learned generator with random weights, which reconstructs badly; of any size, where there is a working size."""
    settings: dict[str, Any] = {"resolution": 16, "style_dim": 4, "widths": (6, 6, 5), "start": 4, "grid_channels": 8}
    with global_seed(0):
        model = Autoencoder(StyleConfig(**settings, working_size=working_size)).eval().requires_grad_(False)
        nn.init.normal_(model.generator.to_image.weight, std=0.5)  # type: ignore[arg-type, union-attr]
    return FittedModel(model, Latents(model.encoder(pool).styles), {"fingerprint": "tests"}, Path("tests"))


def seeded_mixes(transform: RandomStyle, model: Any, images: Tensor, pool: Latents, strength: float) -> Tensor:
    """The reference: RandMix of one image at a time, with the donors that the transform drew."""
    params, mixes = transform.make_params([images]), images.clone()
    mixer = RandMix(model.generator, transform._styles.split, strength)
    for row, donor in zip(params["rows"].tolist(), params["donors"].tolist(), strict=True):
        image = images[row : row + 1]
        latents = model.generator.complete(model.encoder(image), image)
        mixes[row] = mixer(None, latents, torch.zeros(1), pool[donor : donor + 1]).images[0]
    return mixes


@pytest.mark.parametrize("p", [0.5, 1.0])
@pytest.mark.parametrize("strength", [1.0, 0.3])
@pytest.mark.parametrize("kind", KINDS)
def test_images_are_mixed_as_randmix_mixes_them(kind: str, strength: float, p: float) -> None:
    images, model = pictures(6), Autoencoder(StatisticsConfig(kind))
    transform = RandomStyle(p, POOL, strength, f"statistics:{kind}")
    with global_seed(3):
        expected = seeded_mixes(transform, model, images, Latents(model.encoder(POOL).styles), strength)
    torch.testing.assert_close(at(3, transform, images), expected, rtol=0, atol=1e-5)
    assert p < 1 or ((expected - images).abs().amax(dim=(1, 2, 3)) > 0.01).all()


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_a_learned_generator_keeps_the_residual(strength: float) -> None:
    images, model = pictures(6, (21, 18)), photo_model(POOL)
    transform = RandomStyle(0.8, model, strength)
    with global_seed(1):
        expected = seeded_mixes(transform, model, images, model.pool, strength)
    found = at(1, transform, images)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert not torch.equal(found, images)
    torch.testing.assert_close(RandomStyle(1, model, 1e-6)(images), images, rtol=0, atol=1e-4)


def test_a_mix_is_as_exact_under_autocast() -> None:
    images, transform = pictures(4), RandomStyle(1, photo_model(POOL), 0.3)
    expected = at(0, transform, images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(at(0, transform, images), expected)


def test_another_device_has_one_copy() -> None:
    styles, device = open_styles(photo_model(POOL)), torch.device("meta")
    assert styles.on(torch.device("cpu")) is styles
    copied = styles.on(device)
    assert styles.on(device) is copied
    assert copied.pool is not None
    assert styles.pool is not None
    assert next(copied.generator.parameters()).is_meta
    assert next(copied.encoder.parameters()).is_meta
    assert copied.pool.styles.is_meta
    assert not next(styles.generator.parameters()).is_meta
    assert not styles.pool.styles.is_meta
    assert pickle.loads(pickle.dumps(styles))._copies == {}


def test_an_image_gets_its_donor_s_mean_and_contrast() -> None:
    images, transform = pictures(5), RandomStyle(p=1, pool=POOL)
    with global_seed(0):
        donors = POOL[transform.make_params([images])["donors"]]
    found = at(0, transform, images)
    assert 0 < found.min() < found.max() < 1, "the clamp would change the statistics"
    torch.testing.assert_close(found.mean(dim=(2, 3)), donors.mean(dim=(2, 3)))
    own, lent = (part.var(dim=(2, 3), correction=0) + 0.02**2 for part in (images, donors))
    torch.testing.assert_close(found.var(dim=(2, 3), correction=0), lent * (1 - 0.02**2 / own), rtol=1e-4, atol=0)


def test_images_of_a_batch_are_each_other_s_donors() -> None:
    images, transform = pictures(6), RandomStyle(1, None)
    with global_seed(0):
        donors = transform.make_params([images])["donors"]
    assert (donors != torch.arange(6)).all()
    assert len(donors.unique()) > 2
    torch.testing.assert_close(at(0, transform, images).mean(dim=(2, 3)), images.mean(dim=(2, 3))[donors])
    assert torch.equal(transform(images[:1]), images[:1])
    assert transform(images[:0]).shape == (0, 3, 20, 24)


def test_each_image_of_a_batch_has_its_own_draw() -> None:
    images, transform = pictures(1).repeat(200, 1, 1, 1), RandomStyle(p=0.5, pool=POOL, strength=(0.2, 0.6))
    with global_seed(0):
        params = transform.make_params([images])
    changed = at(0, transform, images).ne(images).flatten(1).any(dim=1)
    assert changed.nonzero()[:, 0].tolist() == params["rows"].tolist()
    assert 70 < int(changed.sum()) < 130
    assert set(params["donors"].tolist()) == set(range(len(POOL)))
    assert 0.2 <= params["strengths"].min() < 0.25
    assert 0.55 < params["strengths"].max() <= 0.6


def test_the_seed_decides() -> None:
    images, transform = pictures(8), RandomStyle(pool=POOL, strength=(0, 1))
    assert torch.equal(at(5, transform, images), at(5, transform, images))
    assert not torch.equal(at(5, transform, images), at(6, transform, images))
    assert torch.equal(at(5, pickle.loads(pickle.dumps(transform)), images), at(5, transform, images))


@pytest.mark.parametrize(("p", "strength"), [(0, 1), (1, 0), (1.0, (0.0, 0.0))])
def test_nothing_changes_without_probability_or_strength(p: float, strength: float) -> None:
    images = pictures(4)
    assert torch.equal(RandomStyle(p, POOL, strength)(images), images)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_the_type_of_images_stays(dtype: torch.dtype) -> None:
    images, transform = pictures(6), RandomStyle(p=0.5, pool=POOL)
    given = to_bytes(images) if dtype == torch.uint8 else images.to(dtype)
    found = at(1, transform, given)
    assert (found.dtype, found.shape, found.is_contiguous()) == (dtype, given.shape, True)
    expected = at(1, transform, given / 255 if dtype == torch.uint8 else given.float())
    assert torch.equal(found, to_bytes(expected) if dtype == torch.uint8 else expected.to(dtype))
    assert torch.equal(at(1, transform, given[0]), at(1, transform, given[:1])[0])


@pytest.mark.parametrize("size", [(16, 16), (17, 45)])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    pool = pictures(4, channels=channels)
    transform, image = RandomStyle(1, pool, channels=channels), pictures(1, size, channels)[0]
    with global_seed(2):
        donor = int(transform.make_params([image])["donors"])
    torch.testing.assert_close(at(2, transform, image).mean(dim=(1, 2)), pool[donor].mean(dim=(1, 2)))


def test_boxes_masks_and_labels_pass() -> None:
    boxes = tv_tensors.BoundingBoxes(torch.tensor([[1, 2, 8, 9]]), format="XYXY", canvas_size=(20, 24))
    sample = {
        "image": tv_tensors.Image(to_bytes(pictures(1)[0])),
        "box": boxes,
        "mask": tv_tensors.Mask(torch.zeros(1, 20, 24, dtype=torch.uint8)),
        "label": torch.tensor(3),
        "name": "a",
    }
    found = RandomStyle(p=1, pool=POOL)(sample)
    assert type(found["image"]) is tv_tensors.Image
    assert not torch.equal(found["image"], sample["image"])
    assert all(found[name] is sample[name] for name in ("box", "mask", "label", "name"))
    assert RandomStyle(p=1, pool=POOL)({"name": "a"}) == {"name": "a"}


def test_images_of_one_sample_share_their_draw() -> None:
    left, right = (tv_tensors.Image(part) for part in pictures(2))
    transform = RandomStyle(p=1, pool=POOL)
    found = transform(left, right)
    torch.testing.assert_close(*(part.as_subclass(Tensor).mean(dim=(1, 2)) for part in found))
    with pytest.raises(UserError, match="images of one sample: 2 and 1"):
        transform(left, tv_tensors.Image(pictures(2)))


def test_pictures_of_pillow() -> None:
    image = F.to_pil_image(to_bytes(pictures(1)[0]))
    inside = v2.Compose([RandomStyle(p=1, pool=POOL), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])
    after = v2.Compose([v2.ToImage(), v2.ToDtype(torch.float32, scale=True), RandomStyle(p=1, pool=POOL)])
    found, exact = at(0, inside, image), at(0, after, image)
    assert isinstance(exact, tv_tensors.Image)
    assert torch.equal(to_bytes(found), to_bytes(exact))
    assert isinstance(RandomStyle(p=1, pool=POOL)(image), Image.Image)
    with pytest.raises(UserError, match="mode P: styles are for RGB or L"):
        RandomStyle(p=1, pool=POOL)(image.convert("P"))


class Numbered(Dataset[Tensor]):
    """Images that a transform changes when they are read."""

    def __init__(self, transform: RandomStyle) -> None:
        self.transform = transform

    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        found: Tensor = self.transform(pictures(1, seed=index)[0])
        return found


def loaded(transform: RandomStyle, seed: int) -> Tensor:
    loader = DataLoader(
        Numbered(transform),
        batch_size=3,
        num_workers=2,
        multiprocessing_context="fork",
        generator=torch.Generator().manual_seed(seed),
    )
    return torch.cat(list(loader))


def test_in_the_workers_of_a_loader() -> None:
    transform, images = RandomStyle(p=0.5, pool=POOL), torch.cat([pictures(1, seed=index) for index in range(12)])
    found = loaded(transform, 0)
    assert 0 < found.ne(images).flatten(1).any(dim=1).sum() < 12
    assert torch.equal(found, loaded(transform, 0))
    assert not torch.equal(found, loaded(transform, 1))


def test_pools_of_every_kind(tmp_path: Path) -> None:
    pixels = to_bytes(POOL[:, :, :18, :18])
    for number, image in enumerate(pixels):
        F.to_pil_image(image).save(tmp_path / f"{number}.png")
    model = Autoencoder(StatisticsConfig())
    styles = model.encoder(pixels / 255).styles
    words = ["--generator", "statistics", "--pool", str(tmp_path), "--size", "18", "--out", str(tmp_path / "latents")]
    assert cli(["encode", *words, "--device", "cpu"]) == 0
    pools: list[Any] = [
        tmp_path,
        str(tmp_path / "latents"),
        pixels,
        pixels / 255,
        ImageSet(pixels, torch.zeros(7, dtype=torch.int64), ("",)),
        Latents(styles),
        advmix.load("statistics", tmp_path / "latents"),
    ]
    for pool in pools:
        found = open_styles(pool, size=18).pool
        assert found is not None
        assert found.grid is None
        torch.testing.assert_close(found.styles, styles, rtol=0, atol=1e-5)
    few = open_styles(tmp_path, size=18, pool_images=3).pool
    assert few is not None
    assert len(few) == 3


@pytest.mark.parametrize("generator", ["photo", "statistics", "statistics:pyramid"])
def test_the_shipped_pool(generator: str) -> None:
    images = pictures(3, (33, 50))
    found = at(0, RandomStyle(1, "photos", generator=generator), images)
    assert found.shape == images.shape
    assert (found - images).abs().mean() > 0.02
    with pytest.raises(UserError, match="pool: styles of"):
        RandomStyle(pool=open_styles("photos", generator).pool, generator="statistics:local")


def test_the_shipped_pool_is_of_colours() -> None:
    with pytest.raises(UserError, match=r"pool photos: photographs in colour, but these images have 1 channels"):
        RandomStyle(pool="photos", channels=1)


def test_a_folder_of_grey_images(tmp_path: Path) -> None:
    for number, image in enumerate(to_bytes(pictures(4, (18, 18), channels=1))):
        F.to_pil_image(image).save(tmp_path / f"{number}.png")
    out = str(tmp_path / "latents")
    words = ["--generator", "statistics", "--pool", str(tmp_path), "--size", "18", "--channels", "1", "--out", out]
    assert cli(["encode", *words, "--device", "cpu"]) == 0
    for pool in (tmp_path, out):
        assert RandomStyle(1, pool, channels=1)(pictures(2, channels=1)).shape == (2, 1, 20, 24)
    with pytest.raises(UserError, match="latents of generator"):
        RandomStyle(pool=out)


def test_some_layers_alone() -> None:
    images = pictures(3)
    found = RandomStyle(1, POOL, perp=(0,))(images)
    assert not torch.allclose(found.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=0.01)
    torch.testing.assert_close(found.std(dim=(2, 3)), images.std(dim=(2, 3)))


class Noisy(nn.Sequential):
    """A classifier in train mode, whose mode must come back."""

    def __init__(self) -> None:
        with global_seed(1):
            super().__init__(
                *(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Tanh(), nn.Dropout()),
                *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)),
            )
            nn.init.normal_(self[-1].weight)  # type: ignore[arg-type]
            self(pictures(16))


HALFWAY = Search(strength=0.5)


def losses(classifier: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    classifier.eval()
    with torch.no_grad():
        found = cross_entropy(classifier(images), labels)
    classifier.train()
    return found


@pytest.mark.parametrize("pool", ["images", "batch", "learned"])
def test_an_adversarial_style_is_worse_than_a_random_one(pool: str) -> None:
    images, labels, classifier = pictures(12), torch.arange(12) % 3, Noisy()
    lent: Any = {"images": POOL, "batch": None, "learned": photo_model(POOL)}[pool]
    before = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    found = at(4, AdversarialStyle(lent), classifier, images, labels)
    random = at(4, AdversarialStyle(lent, search=Search(steps=0)), classifier, images, labels)
    assert classifier.training
    assert all(part.training for part in classifier.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in classifier.state_dict().items())
    assert no_gradients(classifier)
    assert all(parameter.requires_grad for parameter in classifier.parameters())
    assert not found.requires_grad
    ours, theirs = losses(classifier, found, labels), losses(classifier, random, labels)
    assert (ours >= theirs - 1e-4).all()
    assert (ours > theirs + 1e-3).sum() >= 8
    assert 0 <= found.min() <= found.max() <= 1


def test_an_adversarial_style_is_an_attack_with_a_pool() -> None:
    images, labels, classifier = pictures(5), torch.arange(5) % 3, Noisy()
    styles = open_styles(POOL)
    mixer = advmix.AdvMix(styles.generator, styles.split, restarts=2, steps=1, strength=0.5)
    assert styles.pool is not None
    attack = MixAttack(mixer, styles, loss=cross_entropy)
    search = Search(restarts=2, steps=1, strength=0.5)
    found = at(0, AdversarialStyle(POOL, search=search), classifier, images, labels)
    assert torch.equal(found, at(0, attack, classifier, images, labels))


def test_an_adversarial_style_keeps_the_type() -> None:
    images, labels, adversarial = pictures(3), torch.arange(3), AdversarialStyle(None)
    assert adversarial(Noisy(), images.double(), labels).dtype == torch.float64
    assert torch.equal(adversarial(Noisy(), images[:1], labels[:1]), images[:1])
    with pytest.raises(UserError, match=r"images of torch.uint8: a classifier is shown floating"):
        adversarial(Noisy(), to_bytes(images), labels)


def test_an_adversarial_style_under_autocast() -> None:
    images, labels, adversarial = pictures(3), torch.arange(3), AdversarialStyle(photo_model(POOL), search=HALFWAY)
    with torch.autocast("cpu", torch.bfloat16):
        found = at(0, adversarial, Noisy(), images, labels)
    assert found.dtype == torch.float32
    assert not torch.allclose(found, images, atol=0.01)


def test_the_user_s_model_stays_as_it_is() -> None:
    model = photo_model(POOL)
    transform = RandomStyle(1, model)
    model.generator.train()
    nn.init.zeros_(model.generator.to_image.weight)  # type: ignore[arg-type, union-attr]
    assert not torch.allclose(transform(pictures(2)), pictures(2), atol=1e-3)
    assert model.generator.training
    assert list(transform.parameters()) == []
    assert transform.state_dict() == {}


def test_what_it_says_of_itself() -> None:
    text = "RandomStyle(p=0.5, pool=7 styles, strength=(1.0, 1.0), generator=Statistics)"
    assert repr(RandomStyle(pool=POOL)) == text
    assert "pool=the batch" in repr(RandomStyle(pool=None))


FIXED = replace(photo_model(POOL[..., :16, :16], working_size=0), metadata={"fingerprint": "fixed"})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"p": 1.5}, "p=1.5: must be a number between 0 and 1"),
        ({"p": "often"}, "p=often: must be"),
        ({"strength": 2}, "strength=2: must be between 0 and 1"),
        ({"strength": (0.5, 0.2)}, r"strength=\(0.5, 0.2\): must be"),
        ({"strength": float("nan")}, "strength=nan"),
        ({"generator": "nothing"}, "nothing"),
        ({"generator": "statistics:median"}, "'median': unknown; use moments"),
        ({"pool": "nowhere"}, "nowhere: no such file or folder"),
        ({"pool": 3}, "pool: of type int; name a folder"),
        ({"pool": torch.rand(3, 20, 20)}, r"pool: images of shape \(3, 20, 20\)"),
        ({"pool": POOL[:0]}, "pool: no images"),
        ({"pool": POOL[:, :1]}, "pool: images of 1 channels, but styles of 3; .* name channels=1"),
        ({"pool": POOL[..., :15, :]}, "pool: images of 30x15 pixels"),
        ({"pool": Latents(torch.rand(5, 2, 1))}, r"pool: styles of \(2, 1\), but those of this generator are \(2, 3\)"),
        ({"pool": Latents(torch.full((5, 2, 3), torch.nan))}, "5 of 5 styles are not finite"),
        ({"perp": (2,)}, "outside the network"),
        ({"channels": 2}, "--channels 2"),
    ],
)
def test_bad_settings_are_one_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words) as found:
        RandomStyle(**arguments)
    assert "\n" not in str(found.value)


def test_an_empty_folder_is_no_pool(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no images in it"):
        RandomStyle(pool=tmp_path)
    F.to_pil_image(POOL[0]).save(tmp_path / "one.png")
    with pytest.raises(UserError, match="1 image; 2 are needed"):
        RandomStyle(pool=tmp_path)


@pytest.mark.parametrize(
    ("pool", "images", "words"),
    [
        (POOL, pictures(2, (15, 40)), "40x15 pixels"),
        (POOL, pictures(2, channels=1), "images of 1 channels, but styles of 3"),
        (POOL, pictures(2) * 4 - 2, r"images from -\d.* normalise after them"),
        (POOL, torch.full((3, 20, 20), torch.nan), "images from nan to nan"),
        (POOL, torch.zeros(3, 20, 20, dtype=torch.int64), "images of torch.int64"),
        (POOL, torch.rand(20, 20), r"shape \(1, 20, 20\)"),
        (None, pictures(1)[0], "name a pool for single images"),
        (FIXED, pictures(2), "images of 24x20 pixels, but the generator draws 16x16"),
    ],
)
def test_images_that_cannot_be_mixed_are_one_line(pool: Any, images: Tensor, words: str) -> None:
    with pytest.raises(UserError, match=words):
        RandomStyle(p=0, pool=pool)(images)


def test_the_module_is_loaded_when_it_is_used() -> None:
    assert "transforms" in dir(advmix)
    assert getattr(advmix, "__getattr__")("transforms").RandomStyle is RandomStyle  # noqa: B009
