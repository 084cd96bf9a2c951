"""results/ -> the findings in short: one sentence each, with its file and the command it is from.

A sentence whose file is missing is left out.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ..families import in_order, label_of
from ..laws.registry import LAWS
from ..predict import read_fits
from ..predictions.forecast import ALL_RUNS
from ..writing.files import read_csv, read_json
from ..writing.wording import COMPARED_AT, crossover, quantity, short_count
from .study_claims import verdicts

MOST_MISSED = 0.02  # of the largest size's loss: a law that misses more is not quoted


def in_short(folder: Path) -> list[str]:
    """Lines of Markdown."""
    fits = read_json(folder / "fits.json")
    study = f"configs/studies/{Path(fits['input']['path']).parent.name}.yaml"
    fitted = ("fits.json", f"make fit STUDY={study}")
    lines = [
        _cited(_trained(read_csv(folder / "runs.csv")), "runs.csv", f"make study STUDY={study}"),
        *[_cited(line, *fitted) for line in _laws(fits)],
        *[_cited(line, *fitted) for line in _crossings(fits["crossovers"])],
        *[_cited(line, *fitted) for line in _claims(folder, fits)],
    ]
    for name, tell, command in _SIDE_STUDIES:
        if (folder / name).is_file():
            lines += [_cited(line, name, command) for line in tell(read_json(folder / name))]
    return lines


def _cited(sentence: str, file: str, command: str) -> str:
    return f"- {sentence} (`{file}`, `{command}`)"


def _trained(rows: Sequence[dict[str, str]]) -> str:
    sizes, tokens = ([float(row[name]) for row in rows] for name in ("n_params", "n_tokens"))
    families = ", ".join(label_of(arch) for arch in in_order(row["arch"] for row in rows))
    return (
        f"{len(rows)} runs of {families}: {short_count(min(sizes))} to {short_count(max(sizes))} "
        f"parameters, without embeddings, and {short_count(min(tokens))} to "
        f"{short_count(max(tokens))} tokens."
    )


def _laws(fits: dict[str, Any]) -> list[str]:
    lines = []
    for arch, laws in fits["laws"].items():
        name, law = label_of(arch), laws.get(laws["chosen"])
        if law is None:
            lines.append(f"{name}: no law; {laws['chosen_reason']}.")
            continue
        missed = law["holdout_error"]
        if missed is None or missed > MOST_MISSED:
            how = "it cannot be tested" if missed is None else f"it misses by {100 * missed:.1f} %"
            lines.append(f"{name}: no law is quoted; fitted without the largest size, {how}.")
            continue
        exponents = ", ".join(
            f"{each} {quantity(law['params'][each], law['interval_95'][each], '.2f')}"
            for each in LAWS[laws["chosen"]].exponents
        )
        line = f"{name}: {law['formula']} with {exponents}"
        line += f"; from the smaller sizes it predicts the largest within {100 * missed:.1f} %"
        frontier = fits["frontier"].get(arch, {})
        if (grows := frontier.get("n_opt_exponent_6nd")) is not None:
            ends = frontier["n_opt_exponent_6nd_interval_95"]
            line += f"; the best size for a budget grows as C^{quantity(grows, ends, '.2f', '')}"
        lines.append(f"{line}.")
    return lines


def _crossings(crossovers: list[dict[str, Any]]) -> list[str]:
    """Of each pair and axis, the crossover at the most tokens; they come in ascending order."""
    last: dict[tuple[str, ...], dict[str, Any]] = {}
    for entry in crossovers:
        if entry["n_tokens"] is not None:
            last[*entry["archs"], entry["at"]] = entry
    return [
        f"{text[0].upper()}{text[1:]}."
        for axis in COMPARED_AT
        for (*_, at), entry in last.items()
        if at == axis
        for text in [crossover(entry)]
    ]


def _claims(folder: Path, fits: dict[str, Any]) -> list[str]:
    stated = read_json(folder / "published" / "stated.json")["gpt_study_a"]["alpha"]
    found = verdicts(read_fits(folder / "fits.json"), fits["crossovers"], stated)
    return [f"Study A's claim that {claim}: {verdict}." for claim, verdict in found.items()]


def _sensitivity(about: dict[str, Any]) -> list[str]:
    lines = []
    for arch, rows in about["families"].items():
        fits = [row for row in rows if "params" in row]
        parts = []
        for name in LAWS[about["law"]].exponents:
            low, high = (choose(fits, key=lambda row: row["params"][name]) for choose in (min, max))
            ends = " to ".join(f"{row['params'][name]:.2f}" for row in (low, high))
            which = " to ".join(f"{row['changed']} {row['to']}".strip() for row in (low, high))
            parts.append(f"{name} {ends} ({which})")
        lines.append(f"{label_of(arch)}, over {len(fits)} ways to fit: {'; '.join(parts)}.")
    return lines


def _repeats(fits: dict[str, Any]) -> list[str]:
    lines = []
    for arch, laws in fits["laws"].items():
        law = laws.get("muennighoff", {})
        if "params" not in law:
            lines.append(f"{label_of(arch)}, repeated data: no law; {law.get('refused')}.")
            continue
        value = quantity(law["params"]["RD"], law["interval_95"]["RD"], ".1f")
        lines.append(
            f"{label_of(arch)}: the worth of a further reading of the same data falls by 1/e every "
            f"{value} readings."
        )
    return lines


def _choice(name: str, unit: str) -> Callable[[dict[str, Any]], list[str]]:
    def tell(about: dict[str, Any]) -> list[str]:
        lines = []
        for size in about["sizes"]:
            first, *others = size["values"]
            costs = ", ".join(f"{row['value']} {row['difference']:+.4f}" for row in others)
            lines.append(
                f"{label_of(size['arch'])} of {short_count(size['n_params'])}, {name}, each at its "
                f"best learning rate: compared with {first['value']}{unit}, {costs} nats per token."
            )
        return lines

    return tell


def _inference(about: dict[str, Any]) -> list[str]:
    best = [
        (row["seconds_per_1000_tokens"], row["families"][0]["arch"]) for row in about["budgets"]
    ]
    parts = ", ".join(f"{label_of(arch)} at {seconds:g} s" for seconds, arch in best)
    tokens = short_count(about["n_tokens"])
    return [f"Lowest loss for a time to write 1,000 tokens, after {tokens} tokens: {parts}."]


def _music(about: dict[str, Any]) -> list[str]:
    found = about["rank_correlation"].get("all", {})
    parts = [
        f"{name.replace('_', ' ')} {value:+.2f}"
        for name, value in found.items()
        if name != "n" and value is not None
    ]
    return [
        f"Rank correlation of loss and music over {found.get('n', 0)} runs: {', '.join(parts)}."
    ]


def _forecasts(about: dict[str, Any]) -> list[str]:
    asked = [row for row in about["predictions"] if row["from"] == ALL_RUNS and "loss" in row]
    parts = [
        f"{row['target']} {quantity(row['loss'], row['run_interval_95'], '.3f')}" for row in asked
    ]
    return [f"Forecast on {about['made']}, nats per token: {'; '.join(parts)}."]


_TO_RESULTS = "make ladder-questions"
_SIDE_STUDIES = (
    ("sensitivity.json", _sensitivity, _TO_RESULTS),
    ("repeats.json", _repeats, _TO_RESULTS),
    ("batch.json", _choice("batch", " tokens"), _TO_RESULTS),
    ("muon.json", _choice("optimizer", ""), _TO_RESULTS),
    ("inference.json", _inference, _TO_RESULTS),
    ("loss_and_music.json", _music, _TO_RESULTS),
    ("forecasts.json", _forecasts, _TO_RESULTS),
)
