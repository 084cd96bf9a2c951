"""record.json and metrics.json of a run -> its model card; all numbers come from these files."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from modeling.arguments_abc import TRIED_TRANSFORMERS
from modeling.header_abc import header_lines
from modeling.lark_abc import NOT_COVERED
from modeling.notation_abc import FILL_IN_TOKENS
from scaling.families import family_of

from .known_data import CODE_LICENSE, KNOWN_DATA, UNKNOWN_DATA

TEMPLATE = Path(__file__).with_name("template.md")
PIPELINE_CODE = "pipeline_abc_music.py"
_CONDITIONS = {"a waltz for violin": ("3/4", "G", 40), "a reel for flute": ("2/2", "D", 73)}
# title -> prompt, for the Hub's page; without the start token, which the tokenizer adds
WIDGET = {
    title: "".join(f"{line.text}\n" for line in header_lines(meter, key, 120, [program])[:-1])
    for title, (meter, key, program) in _CONDITIONS.items()
}


@dataclass(frozen=True)
class Publication:
    """What is published, in addition to the contents of the run's files.

    Attributes:
        repo: user/name on the Hub.
        is_stock: Whether the model was exported to a class that ships with transformers.
        revisions: The branches with weights of earlier steps.
        step: The step of the weights; None for the finished run.
        formats: Of `formats.FORMATS`, for other engines.
        trials: By what the training was chosen: what was changed, and bits per note with it.
        datasets: user/name of its training data on the Hub, if it is there.
    """

    repo: str
    is_stock: bool = False
    revisions: tuple[str, ...] = ()
    step: int | None = None
    formats: tuple[str, ...] = ()
    trials: tuple[tuple[str, float], ...] = ()
    datasets: tuple[str, ...] = ()


def read_metrics(run: Path) -> dict[str, Any] | None:
    """Returns metrics.json of a run, or of its study if it describes this run; None if neither.

    Raises:
        ValueError: If the metrics belong to other weights than those of the run.
    """
    run = run.resolve()
    for folder in (run, run.parent):
        file = folder / "metrics.json"
        if not file.is_file():
            continue
        metrics = json.loads(file.read_text("utf-8"))
        if Path(metrics["model"]).parent.name != run.name:
            continue
        with (run / "checkpoint" / "model.safetensors").open("rb") as weights:
            if hashlib.file_digest(weights, "sha256").hexdigest() != metrics["weights_sha256"]:
                raise ValueError(
                    f"{folder.name}/metrics.json is for other weights than {run.name}/checkpoint; "
                    "evaluate the run again: make evaluate MODEL=<run>"
                )
        return metrics
    return None


def render_card(
    record: dict[str, Any],
    metrics: dict[str, Any] | None,
    folder: Path,
    publication: Publication,
    other_files: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Returns the model card of a folder to publish.

    Args:
        record: The run's record.json.
        metrics: The run's metrics.json, if it was evaluated.
        folder: Model, tokenizer and code, as published.
        publication: What is published.
        other_files: The files for other engines, and what their checks found.
    """
    config, tokenizer, generation = (
        json.loads((folder / f"{name}.json").read_text("utf-8"))
        for name in ("config", "tokenizer_config", "generation_config")
    )
    is_final = publication.step is None
    origin = _origin(record)
    known = KNOWN_DATA.get(record["dataset"], UNKNOWN_DATA)
    code = sorted(folder.glob("*.py"))
    data = ModelCardData(
        base_model=origin and origin["hub_name"],
        datasets=list(publication.datasets) or None,
        license=known.license,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["music", "symbolic-music", "abc-notation", "music-generation", "scaling-laws"],
        model_name=record["name"] if is_final else None,
        eval_results=eval_results(record, metrics, publication.datasets) if is_final else None,
        widget=[{"text": text, "example_title": title} for title, text in WIDGET.items()],
    )
    card = render(
        TEMPLATE,
        data=data,
        record=record,
        origin=origin,
        metrics=metrics if is_final else None,
        sampled=sampled_sets(metrics) if is_final and metrics else {},
        bits=bits_per_unit(record["validation"]),
        publication=publication,
        family=family_of(record["model_type"]).label,
        is_library_class="auto_map" not in config,
        class_name=config["architectures"][0],
        context=config.get("max_position_embeddings", config.get("n_positions")),
        start=tokenizer["bos_token"],
        generation=generation,
        code=[path.name for path in code],
        has_lora_targets=any("def lora_targets" in path.read_text("utf-8") for path in code),
        tried=[release.rpartition(".")[0] for release in TRIED_TRANSFORMERS],
        fills_in=FILL_IN_TOKENS[0] in (folder / "tokenizer.json").read_text("utf-8"),
        other_files=other_files,
        has_pipeline=(folder / PIPELINE_CODE).is_file(),
        gaps=NOT_COVERED,
        known=known,
        code_license=CODE_LICENSE,
    )
    ModelCard(card)  # raises ValueError if the Hub could not read its metadata
    return card


def _origin(record: dict[str, Any]) -> dict[str, Any] | None:
    """Returns what a fine-tuned run started from, with a name that reveals no local folders."""
    if "finetuned_from" not in record:
        return None
    origin = record["finetuned_from"]
    path = Path(origin["pretrained"])
    is_local = path.exists() or path.parent.exists() or len(path.parts) != 2
    return {
        "name": path.name if is_local else origin["pretrained"],
        "hub_name": None if is_local else origin["pretrained"],
        "weights_sha256": origin["weights_sha256"],
        "loss_before": origin["loss_nats_per_token"]["validation"],
    }


def bits_per_unit(validation: dict[str, Any]) -> dict[str, float]:
    """Returns bits per character and per note from the sums of a validation split."""
    bits = validation["nll_nats"] / math.log(2)
    return {f"bits_per_{unit}": bits / validation[f"n_{unit}s"] for unit in ("char", "note")}


def eval_results(
    record: dict[str, Any], metrics: dict[str, Any] | None, datasets: Sequence[str] = ()
) -> list[EvalResult]:
    """Returns the results for the card's model-index: validation, test, samples.

    Args:
        record: The run's record.json.
        metrics: The run's metrics.json, if it was evaluated.
        datasets: The training data on the Hub; the Hub links results to the first.
    """
    place = {
        "task_type": "text-generation",
        "dataset_type": datasets[0] if datasets else record["dataset"],
        "dataset_config": record["preset"],
    }
    loss = {"loss": record["loss_nats_per_token"]["validation"]}
    losses = {"validation": bits_per_unit(record["validation"]) | loss}
    if metrics and (test := metrics["test"]):
        bits = {name: test[name] for name in ("bits_per_char", "bits_per_note")}
        losses["test"] = bits | {"loss": test["loss_nats_per_token"]}
    names = {"loss": "nats per token, song by song"}
    about = f"{record['dataset']} ({record['preset']})"
    rows = [
        (about, split, kind, value, names.get(kind, kind.replace("_", " ")), None)
        for split, values in losses.items()
        for kind, value in sorted(values.items(), reverse=True)
    ]
    for kind, own in (sampled_sets(metrics) if metrics else {}).items():
        about = f"{own['n']:,} tunes sampled, {kind.replace('_', ' ')}, seed {metrics['seed']}"
        split = f"sampled_{kind}"  # the Hub groups results by split
        for name, rate in own["validity"].items():
            low, high = (round(bound, 4) for bound in rate["interval_95"])
            name = f"{name}, share of tunes; 95 % interval {low} to {high}"
            arguments = {"interval_95": [low, high], "n": rate["n"]}
            rows.append((about, split, "valid_rate", rate["rate"], name, arguments))
    return [
        EvalResult(
            **place,
            dataset_name=about,
            dataset_split=split,
            metric_type=kind,
            metric_value=round(value, 4),
            metric_name=name,
            metric_args=arguments,
        )
        for about, split, kind, value, name, arguments in rows
    ]


def sampled_sets(metrics: dict[str, Any]) -> dict[str, Any]:
    """Returns the sets sampled from the model, without the sets of real pieces."""
    return {kind: own for kind, own in metrics["sets"].items() if "sampling" in own}


def render(template: Path, **values: Any) -> str:
    """Returns a filled-in template; a missing value is an error."""
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    return environment.from_string(template.read_text("utf-8")).render(values) + "\n"
