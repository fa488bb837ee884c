"""`python -m experiments NAME`: the paper's figures and tables, and what could refute them."""

from __future__ import annotations

from advmix.utils.program import Command, Program

EXPERIMENTS = {
    "augmentations": Command(
        "experiments.augmentations.study", "AugmentationsConfig", "run_augmentations", "augmentations"
    ),
    "celeba": Command("experiments.faces.study", "CelebaConfig", "run_celeba", "attributes of faces"),
    "celeba-marginalize": Command(
        "experiments.faces.averaging", "FaceMarginalizeConfig", "run_face_marginalize", "faces, averaged over z⊥"
    ),
    "celeba-pictures": Command("experiments.faces.gallery", "GalleryConfig", "run_gallery", "pictures of faces"),
    "celeba-survival": Command(
        "experiments.faces.label_survival", "SurvivalConfig", "run_survival", "labels that survive"
    ),
    "colored-mnist": Command(
        "experiments.colored_mnist.study", "ColoredMnistConfig", "run_colored_mnist", "debiasing digits, step by step"
    ),
    "encoding": Command("experiments.encoding.study", "EncodingConfig", "run_encoding", "Algorithm 2"),
    "gallery": Command(
        "experiments.audit_gallery.study", "AuditGalleryConfig", "run_audit_gallery", "audits of known shortcuts"
    ),
    "learned-style": Command(
        "experiments.learned_style.study", "LearnedStyleConfig", "run_learned_style", "what styles of an image carry"
    ),
    "marginalize": Command("experiments.marginalize.study", "MarginalizeConfig", "run_marginalize", "averages over z⊥"),
    "photo-autoencoder": Command(
        "experiments.faces.variants", "AutoencodersConfig", "run_autoencoders", "variants of the autoencoder"
    ),
    "photo-generator": Command(
        "experiments.photo_generator.study", "PhotoGeneratorConfig", "run_photo_generator", "the generator in the wheel"
    ),
    "photo-measure": Command(
        "experiments.photo_generator.measure", "PhotoMeasureConfig", "run_photo_measure", "what photo-generator made"
    ),
    "photo-pictures": Command(
        "experiments.photo_generator.pictures", "PicturesConfig", "run_pictures", "photographs for photo-generator"
    ),
    "pipeline": Command(
        "experiments.pipeline.study", "PipelineConfig", "run_pipeline", "kinds of generator, end to end"
    ),
    "ready-made": Command(
        "experiments.photo_generator.ready_made", "ReadyMadeConfig", "run_ready_made", "ready-made generators, compared"
    ),
    "search": Command("experiments.search.study", "SearchConfig", "run_search", "Algorithm 1"),
    "shifts": Command("experiments.shifts.study", "ShiftsConfig", "run_shifts", "real shifts, rivals, the forecast"),
    "smiling": Command("experiments.smiling.study", "SmilingConfig", "run_smiling", "faces, at convergence"),
    "toy": Command("experiments.toy.study", "ToyConfig", "run_toy", "the paper's toy example"),
}


PROGRAM = Program(
    "python -m experiments", "The paper's figures and tables, and what could refute them.", EXPERIMENTS, "study "
)
main, parse = PROGRAM.main, PROGRAM.parse
