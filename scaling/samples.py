"""results/evaluation/*.json -> the tables of models: validity, and what the grammar costs."""

from typing import Any

from .markdown import markdown_table
from .wording import bracket

VERDICTS = {
    "valid3": "valid3",
    "validity_music21": "music21 parses",
    "midi_success_music21": "and writes MIDI",
    "raw_validity_music21": "raw text parses",
    "raw_midi_success_music21": "and to MIDI",
    "abc2midi_clean": "abc2midi clean",
    "abcjs_clean": "abcjs clean",
}
RESTS = {"rest_bar_rate": "bars of rest", "silence_loop": "loops of silence"}
ORDERS = {
    "constrained / free / real": ("constrained", "free", "real"),
    "the same from prompts": ("prompted", "prompted_free", "real_begun"),
}

Metrics = dict[str, Any]


def validity_table(models: dict[str, Metrics]) -> list[str]:
    """Markdown: one line a model and set of samples; shares in %, valid3 with its interval."""
    rows = []
    for name, metrics in models.items():
        for kind, own in metrics["sets"].items():
            cells = [_percent(own["validity"].get(verdict)) for verdict in VERDICTS]
            if rate := own["validity"].get("valid3"):
                cells[0] += f" {bracket([100 * end for end in rate['interval_95']], '.1f')}"
            rows.append((name, kind.replace("_", " "), f"{own['n']:,}", *cells))
    return markdown_table(("model", "samples", "tunes", *VERDICTS.values()), rows, left=2)


def price_table(models: dict[str, Metrics]) -> list[str]:
    """Markdown: one line a model, what the grammar takes away and changes."""
    header = (
        *("model", "illegal mass a step, mean (p95)", "drawn anew", "forced"),
        *("time, 1 tune (8)", "distance to real: constrained / free / real to real"),
        *(f"{label}: {order}" for label in RESTS.values() for order in ORDERS),
    )
    rows = []
    for name, metrics in models.items():
        price, sets = metrics["price"], metrics["sets"]
        if price is None:
            continue
        mass, speeds = price["mass"], price["speed"]
        cells = [
            f"{_share(mass['illegal_mass_per_step']['mean'])} "
            f"({_share(mass['illegal_mass_percentiles']['p95'])})",
            _share(speeds[-1]["replaced_share"]),
            _share(mass["forced_share"]["mean"]),
            f"{_share(speeds[0]['cost_share'])} ({_share(speeds[-1]['cost_share'])})",
            _distances(sets),
        ]
        for statistic in RESTS:
            for kinds in ORDERS.values():
                means = [_mean(sets.get(kind), statistic) for kind in kinds]
                cells.append(" / ".join("–" if mean is None else _share(mean) for mean in means))
        rows.append((name, *cells))
    return markdown_table(header, rows)


def _distances(sets: dict[str, Any]) -> str:
    found = [sets[kind].get("distance") for kind in ("constrained", "free")]
    values = [each and each["frechet"]["frechet_distance"] for each in found]
    texts = [f"{each['value']['mean']:.2f}" if each else "–" for each in values]
    floor = next((f"{each['floor']['mean']:.2f}" for each in values if each), "–")
    return " / ".join([*texts, floor])


def _mean(own: dict[str, Any] | None, statistic: str) -> float | None:
    return own["statistics"].get(statistic, {}).get("mean") if own else None


def _percent(rate: dict[str, Any] | None) -> str:
    return "–" if rate is None else f"{100 * rate['rate']:.1f}"


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
