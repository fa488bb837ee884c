"""The command line: `advmix COMMAND --help`."""

from __future__ import annotations

import sys

from advmix.utils.program import Command, Program

COMMANDS = {
    "demo": Command("advmix.commands.demo", "DemoConfig", "run_demo", "the main job on coloured digits, from nothing"),
    "data": Command("advmix.commands.data", "PreviewConfig", "run_preview", "what is in images of your own"),
    "fit": Command("advmix.commands.fit", "FitConfig", "run_fit", "train a generator and its encoder"),
    "import": Command(
        "advmix.commands.sample", "ImportConfig", "run_import", "read somebody else's StyleGAN2 generator"
    ),
    "sample": Command("advmix.commands.sample", "SampleConfig", "run_sample", "images that a StyleGAN makes up"),
    "encode": Command("advmix.commands.encode", "EncodeConfig", "run_encode", "the latents of a data set: the pool"),
    "train": Command(
        "advmix.commands.train", "TrainConfig", "run_train", "train a classifier, with AdvMix or otherwise"
    ),
    "evaluate": Command(
        "advmix.commands.evaluate", "EvaluateConfig", "run_evaluate", "test a classifier on painted digits"
    ),
    "inspect": Command("advmix.inspect.run", "InspectConfig", "run_inspect", "which layers are z⊥"),
    "audit": Command("advmix.audit.run", "AuditConfig", "run_audit", "what flips a classifier: a page with pictures"),
    "changes": Command(
        "advmix.commands.changes", "ChangesConfig", "run_changes", "what light, colour and place cost a classifier"
    ),
    "adapt": Command(
        "advmix.adapt.run", "AdaptConfig", "run_adapt", "a classifier for a new site, from unlabelled images"
    ),
    "export": Command("advmix.export.run", "ExportConfig", "run_export", "variations of images, as an ImageFolder"),
    "predict": Command(
        "advmix.commands.predict", "PredictConfig", "run_predict", "what a classifier says of every image"
    ),
    "cache": Command("advmix.commands.cache", "CacheConfig", "run_cache", "what is kept of decoded images"),
    "doctor": Command(
        "advmix.doctor.run", "DoctorConfig", "run_doctor", "are generator, pool and search fit for their use"
    ),
}

PROGRAM = Program("advmix", "Adversarial mixing of disentangled latents.", COMMANDS)
main, parse = PROGRAM.main, PROGRAM.parse

if __name__ == "__main__":
    sys.exit(main())
