"""AdvMix in Hugging Face's Trainer: `compute_loss` is overridden, everything else is theirs.

advmix fit --out runs/fit
advmix encode --generator runs/fit --out runs/latents
python examples/huggingface_trainer.py        (about two minutes on two cores; nothing is downloaded)
"""

import argparse
import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import ResNetConfig, ResNetForImageClassification, Trainer, TrainingArguments

import advmix
from advmix import AdvMix, Classifier
from advmix.data.images import ImageSet
from advmix.pools import FittedModel

parser = argparse.ArgumentParser()
parser.add_argument("--generator", default="runs/fit")
parser.add_argument("--latents", default="runs/latents")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()


class Examples(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Pixels as this model wants them, and each example's place in the pool."""

    def __init__(self, images: ImageSet) -> None:
        self.images, self.labels = images.batch(slice(None))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> dict[str, Tensor]:
        pixels = (self.images[place] - 0.5) / 0.5
        return {"pixel_values": pixels, "labels": self.labels[place], "index": torch.tensor(place)}


class Logits(nn.Module):
    """A model of theirs as images to logits; `Classifier` around it knows the normalisation."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: Tensor) -> Tensor:
        logits: Tensor = self.model(pixel_values=pixels).logits
        return logits


class MixTrainer(Trainer):
    def __init__(self, parts: FittedModel, **options: Any) -> None:
        super().__init__(**options)
        device = self.args.device
        self.mixer, self.pool = AdvMix(parts.generator.to(device), parts.split), parts.pool.to(device)

    def compute_loss(
        self, model: nn.Module, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        index = inputs.pop("index")
        outputs = model(**inputs)
        loss = outputs.loss
        if model.training:
            classifier = Classifier(Logits(model), mean=(0.5,), std=(0.5,)).to(self.args.device)
            mix = self.mixer(classifier, self.pool[index], inputs["labels"], self.pool, exclude=index)
            loss = 0.5 * loss + 0.5 * F.cross_entropy(classifier(mix.images), inputs["labels"])
        return (loss, outputs) if return_outputs else loss


def share_right(prediction: Any) -> dict[str, float]:
    return {"right": float((prediction.predictions.argmax(1) == prediction.label_ids).mean())}


torch.set_flush_denormal(True)
parts = advmix.load(args.generator, args.latents)
train, test = Examples(parts.data.train), Examples(parts.data.test)
shape: dict[str, Any] = {"embedding_size": 32, "hidden_sizes": [32, 64, 128], "depths": [1, 1, 1]}
config = ResNetConfig(**shape, layer_type="basic", num_labels=len(parts.data.train.classes))  # type: ignore[call-arg]
with tempfile.TemporaryDirectory() as folder:
    options = TrainingArguments(
        output_dir=folder,
        num_train_epochs=args.epochs,
        per_device_train_batch_size=64,
        learning_rate=1e-3,
        remove_unused_columns=False,  # or it takes the index away
        save_strategy="no",
        report_to="none",
        seed=0,
    )
    model = ResNetForImageClassification(config)
    trainer = MixTrainer(
        parts, model=model, args=options, train_dataset=train, eval_dataset=test, compute_metrics=share_right
    )
    trainer.train()
    print(f"{trainer.evaluate()['eval_right']:.1%} right when the colours are shuffled")
