"""The model card of a model: README.md with the YAML header that model sites read, its lineage, figures and limits."""

import json
from collections.abc import Mapping, Sequence

from konomi_chassis.models.families.table import family
from konomi_trainer.storage.models import ModelRow

SHOWN_CAPTIONS = 3


def card(model: ModelRow, layout: str, captions: Sequence[str]) -> str:
    """Returns the text of a card.

    Args:
        model: the model.
        layout: of its base.
        captions: of the images it learned from.
    """
    tags = ("konomi", model.method, "text-to-image", family(layout).exported.pipeline)
    lines = [
        "---",
        f"base_model: {_quote(model.base_model)}",
        "library_name: diffusers",
        "license: other",
        f"tags: [{', '.join(_quote(tag) for tag in tags)}]",
    ]
    examples = list(dict.fromkeys(caption for caption in captions if caption))[:SHOWN_CAPTIONS]
    if examples:
        lines += [f"instance_prompt: {_quote(examples[0])}", "widget:", *(f"  - text: {_quote(e)}" for e in examples)]
    lines += ["---", "", f"# {model.display_name or model.id}", "", _opening(model), "", *_lineage(model)]
    lines += ["", "## Figures", "", *_figures(model.metrics), "", "## Limits", ""]
    bound = family(layout).exported.bound
    lines += [f"- {limit}" for limit in (*LIMITS, *([bound] if bound else []))]
    return "\n".join(lines) + "\n"


LIMITS = (
    "It learnt one person's taste from a small set; what that set lacks, it may have forgotten or never learnt.",
    "A win rate is a prediction of the rater, made with its night's prompts and base model; people may differ.",
    "It inherits the limits, the biases and the licence of its base model; see there before publishing images.",
    "Faces and works of people who did not agree to it are not to be imitated.",
)


FIGURES: Mapping[str, str] = {
    "adapter_norm": "norm of the adapter's weights",
    "avoided_images": "images it was turned away from",
    "cut_captions": "captions longer than is read of one",
    "doubt": "the rater's doubt (mean standard deviation of its predictions)",
    "exceedance": "share of images unlike anything the rater knows",
    "images_at_once": "images in one step on the device",
    "loss": "training loss",
    "rollbacks": "times the run went back to an earlier checkpoint",
    "skipped_steps": "steps skipped for numbers that were not finite",
    "steps": "training steps",
    "validation_loss": "loss on images held out",
    "vendi": "diversity (Vendi score: effective number of different images)",
    "win_rate": "share of pairs won, in the rater's eyes",
    "win_rate_high": "upper end of that share's 95 % interval",
    "win_rate_low": "lower end of that share's 95 % interval",
    "win_rate_pairs": "pairs that share rests on",
}
"""Recorded figure to what it says; another one is printed by its name."""


def _opening(model: ModelRow) -> str:
    rate = model.metrics.get("win_rate")
    count = model.metrics.get("win_rate_pairs")
    low, high = model.metrics.get("win_rate_low"), model.metrics.get("win_rate_high")
    if rate is None:
        judged = "How it compares with the model before it was not measured."
    else:
        pairs = "pairs" if count is None else f"{count:g} pairs"
        judged = f"In the eyes of the rater that chose its training images, it won {_percent(rate)} of {pairs}"
        judged += " against the model before it"
        if low is not None and high is not None:
            judged += f" (95 % interval {_percent(low)} to {_percent(high)})"
        judged += ". That is a prediction: this card knows of no person's judgement."
    return f"A {model.method} adapter of {model.base_model}, trained by konomi. {_avoided(model)}{judged}"


def _avoided(model: ModelRow) -> str:
    """Returns the sentence of a model that also learnt what to keep away from."""
    count = int(model.metrics.get("avoided_images", 0))
    if not count:
        return ""
    what = "1 image" if count == 1 else f"{count:,} images"
    return (
        f"Besides what was liked it was turned away from {what} of konomi's own, the worst of the same prompts "
        "(signed targets, arXiv 2509.16117). "
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _lineage(model: ModelRow) -> list[str]:
    rows: Mapping[str, str] = {
        "model": model.id,
        "base model": f"{model.base_model}, sha256 {model.base_digest}",
        "descends from": ", ".join(model.parents) or "the base model alone",
        "adapter": f"sha256 {model.adapter_digest}",
        "images": f"manifest sha256 {model.manifest_digest}",
        "chosen by": f"rater version {model.rater_version or '-'}",
        "configuration": f"sha256 {model.config_digest}",
        "seed": str(model.seed),
        "night": model.night or "-",
    }
    table = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    numbers = json.dumps(json.loads(model.configuration), indent=1, sort_keys=True)
    return ["## Where it comes from", "", *table, "", "```json", numbers, "```"]


def _figures(metrics: Mapping[str, float]) -> list[str]:
    return [
        "| figure | value |",
        "|---|---|",
        *(f"| {FIGURES.get(name, name.replace('_', ' '))} | {value:.6g} |" for name, value in sorted(metrics.items())),
    ]


def _quote(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
