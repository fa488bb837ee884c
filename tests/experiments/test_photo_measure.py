"""What `photo-measure` counts, against literal loops, on tiny networks and made images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from advmix.data.images import ImageSet
from advmix.encoders.autoencoder import Autoencoder
from advmix.generators.style import StyleConfig
from advmix.latents import Latents
from advmix.utils.torch_tools import global_seed
from experiments.photo_generator.domains import DOMAINS, tasks
from experiments.photo_generator.measure import Mixed, kinds_table


class Brightness(nn.Module):
    """Tells bright images, class 1, from dark ones."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([-mean, mean], dim=1)


class Contrast(nn.Module):
    """Tells images with contrast, class 1, from flat ones."""

    def forward(self, images: Tensor) -> Tensor:
        spread = images.std(dim=(1, 2, 3)) - 0.27
        return torch.stack([-spread, spread], dim=1)


def test_mixes_are_asked_about_as_a_literal_loop_does() -> None:
    with global_seed(0):
        model = Autoencoder(StyleConfig(16, 3, 4, (8, 8), 8, 2)).eval()
    rng = torch.Generator().manual_seed(0)
    images = ImageSet(
        torch.randint(256, (5, 3, 16, 16), generator=rng, dtype=torch.uint8), torch.tensor([0, 1, 0, 1, 1]), ("a", "b")
    )
    donors = torch.tensor([[1, 2, 3, 4, 0], [2, 3, 4, 0, 1]])
    judges = {"nominal": Brightness(), "reference": Contrast()}
    found = Mixed.of(model, images, donors, judges)
    pixels, squares = images.batch(slice(None))[0], []
    with torch.no_grad():
        for image in range(5):
            own = model.encoder(pixels[image : image + 1])
            plain = model.generator(own)
            shown = [pixels[image : image + 1], plain]
            for row in donors:
                donor = model.encoder(pixels[row[image] : row[image] + 1])
                swapped = model.generator(Latents(donor.styles, own.grid))
                mix = (swapped + pixels[image : image + 1] - plain).clamp(0, 1)
                shown.append(mix)
                squares.append(float((mix - pixels[image]).square().mean()))
            for name, judge in judges.items():
                wanted = [int(judge(one).argmax()) for one in shown]
                assert found.answers[name][:, image].tolist() == wanted
    assert abs(found.change - (sum(squares) / len(squares)) ** 0.5) < 1e-5


def test_numbers_are_shares_of_the_right_images() -> None:
    nominal = torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    reference = torch.tensor([[0, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 1], [1, 1, 0, 1]])
    labels = torch.tensor([0, 1, 0, 1])
    found = Mixed({"nominal": nominal, "reference": reference}, 0.25).numbers(labels)
    assert found["accuracy_clean"] == 0.75
    assert found["accuracy_reconstruction"] == 0.75
    assert found["accuracy_random_mix"] == 0.5
    assert found["reference_accuracy"] == 0.75
    assert abs(found["labels_kept"]["value"] - 5 / 6) < 1e-12  # of images 0, 1 and 3, whose mixes keep 1, 2 and 2 of 2
    assert kinds_table([{"domain": "a", "size": 32, "mse": 0.01, **found}]).row_count == 1


def test_parts_of_a_folder_follow_one_another_so_that_it_is_read_once() -> None:
    order = [(domain.folder, size) for domain, size in tasks()]
    assert len(order) == sum(len(domain.sizes) for domain in DOMAINS)
    changes = [one for one, before in zip(order, [None, *order], strict=False) if one != before]
    assert len(changes) == len(set(changes))
