"""Numbers, intervals and crossovers as text, for tables, findings, figures and terminals."""

from collections.abc import Iterable, Sequence
from typing import Any

COMPARED_AT = {"equal_params": "parameters", "equal_flops": "FLOPs", "equal_time": "seconds"}


def short_count(number: float) -> str:
    """A count to three digits, such as 950, 3.1k, 16M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if float(f"{number:.3g}") >= unit:
            return f"{float(f'{number / unit:.3g}'):g}{name}"
    return f"{number:.3g}"


def bracket(ends: Sequence[float] | None, form: str, missing: str = "") -> str:
    """`[0.32, 0.38]`; `missing` if there is no interval. form: format of each end, e.g. `.2f`."""
    return missing if ends is None else f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def quantity(
    value: float, ends: Sequence[float] | None, form: str, missing: str = "[not identified]"
) -> str:
    """`0.36 [0.32, 0.38]`."""
    return f"{value:{form}} {bracket(ends, form, missing)}".rstrip()


def parameter(law: dict[str, Any], name: str, form: str, missing: str = "[not identified]") -> str:
    """`alpha 0.36 [0.32, 0.38]`. law: an entry of fits.json."""
    return f"{name} {quantity(law['params'][name], law['interval_95'][name], form, missing)}"


def crossover(entry: dict[str, Any]) -> str:
    """An entry of the crossovers of fits.json, without a period."""
    tokens = "" if entry["n_tokens"] is None else f", {entry['n_tokens'] / 1e6:.3g} M tokens"
    place = f"none: {entry['note'] or 'not in the measured range'}"
    if entry["n_params"] is not None:
        place = f"{entry['n_params']:,.0f} parameters {bracket(entry['interval_95'], ',.0f')}"
        place = place.rstrip() + (f" ({entry['note']})" if entry["note"] else "")
    pair, at = " and ".join(entry["archs"]), COMPARED_AT[entry["at"]]
    return f"crossover of {pair} at equal {at}{tokens}: {place}"


def crossover_in_figure(entry: dict[str, Any]) -> str:
    """The same for the notes of a figure, which name the families themselves."""
    place = f"at $N$ = {short_count(entry['n_params'])}"
    if entry["interval_95"] is not None:
        ends = " to ".join(short_count(end) for end in entry["interval_95"])
        place += f" (95 % interval {ends})"
    at = "time" if entry["at"] == "equal_time" else COMPARED_AT[entry["at"]]
    return f"at equal {at} {place}"


def in_words(names: Iterable[str]) -> str:
    """Names as a list in a sentence: "GPT", "GPT and LSTM", "GPT, LSTM and Llama"."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
