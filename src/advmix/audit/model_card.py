"""What an audit found as a part of a model card, with the `model-index` that Hugging Face's hub reads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from advmix.audit.markdown import accuracy_columns, accuracy_table, escaped
from advmix.audit.words import audit_sentences, headline
from advmix.utils.errors import UserError

Entry = Mapping[str, Any]


def model_card(results: Entry, classifier: int = 0) -> str:
    """A part of a model card: YAML metadata between rules, then Markdown.

    Args:
        results: of an audit.
        classifier: which one, counted from 0.

    Raises:
        UserError: huggingface_hub is not installed.
    """
    entry = results["classifiers"][classifier]
    alone = {**results, "classifiers": [entry], "comparison": []}
    search, generator = results["search"], results["generator"]
    lines = [
        "## Robustness against changes of style",
        "",
        f"{escaped(headline(entry, results))}.",
        "",
        *accuracy_table([("All", entry["parts"][0])], "Right, in percent"),
        "",
        *(f"- {escaped(sentence)}" for sentence in audit_sentences(alone)),
        "",
        f"In brackets: 95 % intervals (Wilson). Measured by advmix {results['environment']['advmix']} on "
        f"{results['images']:,} test images, with the generator "
        f"{escaped(generator['ready_made'] or generator['fingerprint'])} and a search of {search['restarts']} restarts "
        f"of {search['steps']} steps, seed {results['config']['seed']}. The worst case is the worst that this search "
        "found, an upper bound on what the classifier withstands.",
        "",
    ]
    return f"---\n{_metadata(results, entry)}\n---\n\n" + "\n".join(lines)


def _metadata(results: Entry, entry: Entry) -> str:
    """The `model-index` of one classifier: an accuracy for each column."""
    try:
        from huggingface_hub import EvalResult, ModelCardData
    except ImportError as error:
        raise UserError("a model card needs huggingface_hub; pip install 'advmix[hub]'") from error
    part, name = entry["parts"][0], PurePath(results["data"]).name or results["data"] or "images"
    found = [
        EvalResult(
            task_type="image-classification",
            dataset_type="imagefolder",
            dataset_name=name,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=column.title,
            metric_value=round(part[column.key]["value"], 4),
            metric_args={end: round(part[column.key][end], 4) for end in ("low", "high")},
        )
        for column in accuracy_columns(part)
        if part[column.key] is not None
    ]
    return str(ModelCardData(model_name=entry["name"], eval_results=found).to_yaml())
