"""results/ -> the findings in plain words: the generated block of results/README.md.

Every number comes from a file in the folder: fits.json and runs.csv, learning_rates.json, our fits
of the published losses in published/, and the side studies whose files exist.
"""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..families import FAMILIES, in_order, label_of, name_of
from ..figures.figure_context import WHOLE_WAYS
from ..writing.files import read_csv, read_json
from ..writing.wording import bracket, parameter, quantity, short_count
from .in_short import in_short
from .tables import laws_table, notes_list, sizes_table


def study_lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """What was trained."""
    lines = []
    for arch in in_order(row["arch"] for row in rows):
        of_family = [row for row in rows if row["arch"] == arch]
        sizes = sorted({float(row["n_params"]) for row in of_family})
        tokens = sorted({float(row["n_tokens"]) for row in of_family})
        seeds = {s: len({r["seed"] for r in of_family if float(r["n_params"]) == s}) for s in sizes}
        lines.append(
            f"- {label_of(arch)}: {len(sizes)} sizes from {sizes[0]:,.0f} to {sizes[-1]:,.0f} "
            f"non-embedding parameters, {len(tokens)} token counts from {short_count(tokens[0])} "
            f"to {short_count(tokens[-1])}, seeds per size: {', '.join(map(str, seeds.values()))}; "
            f"{len(of_family)} runs from {len({row['trunk'] for row in of_family})} trunks."
        )
    return lines


def law_lines(fits: dict[str, Any]) -> list[str]:
    """The chosen laws, what they predict, and what they leave open."""
    lines = []
    for arch, laws in fits["laws"].items():
        law = laws.get(laws["chosen"])
        name = label_of(arch)
        if law is None:
            lines.append(f"- {name}: no law could be fitted.")
            continue
        values = ", ".join(parameter(law, each, ".3g") for each in law["params"])
        error = law["holdout_error"]
        missed = "an unknown amount" if error is None else f"{100 * error:.1f} %"
        lines.append(
            f"- {name}: {law['formula']} with {values}. Chosen because {laws['chosen_reason']}. "
            f"Fitted without the largest size, it misses that size's loss by {missed}."
        )
        lines += [f"  - {warning}." for warning in law["warnings"]]
        frontier = fits["frontier"].get(arch, {})
        exponent = frontier.get("n_opt_exponent_6nd")
        if exponent is not None:
            ends, note = frontier["n_opt_exponent_6nd_interval_95"], f"({frontier.get('note')})"
            grows = f"N grows as C^{quantity(exponent, ends, '.2f', note)}"
            lines.append(f"  - Best size for a budget: {grows}, with C = 6ND.")
    return lines


def one_budget_lines(fits: dict[str, Any]) -> list[str]:
    """The laws in N alone, which other studies quote, at one token count."""
    lines = []
    for arch, laws in fits["laws"].items():
        parts = []
        for name in [name for name in ("power", "power_floor") if name in laws]:
            law = laws[name]
            if "refused" in law:
                parts.append(f"{name} refused: {law['refused']}")
            else:
                tokens = short_count(law["n_tokens"])
                parts.append(f"{name} at {tokens} tokens: {parameter(law, 'alpha', '.3g')}")
        lines.append(f"- {label_of(arch)}: {'; '.join(parts)}.")
    return lines


def seed_lines(rows: Sequence[dict[str, str]]) -> list[str]:
    """Spread over seeds: the median and the largest."""
    losses: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        losses.setdefault((row["size"], row["n_tokens"]), []).append(float(row["loss"]))
    spread = {key: max(of) - min(of) for key, of in losses.items() if len(of) > 1}
    if not spread:
        return ["- No size has a second seed."]
    middle = statistics.median(spread.values())
    (size, tokens), largest = max(spread.items(), key=lambda item: item[1])
    return [
        f"- Seeds of one size and token count differ by {middle:.4f} nats per token "
        f"(median), at most {largest:.4f} ({size}, {short_count(float(tokens))} tokens)."
    ]


def rate_lines(rates: dict[str, Any]) -> list[str]:
    """The learning-rate rules, and whether they hold at the largest size."""
    lines = []
    for name, family in rates["families"].items():
        rule, held = family["rule"], family["largest_size_from_smaller"]
        worst = max(family["sizes"], key=lambda size: size["loss_by_rule_above_best"])
        cost = f"at most {worst['loss_by_rule_above_best']:.4f} nats ({worst['size']})"
        line = (
            f"- {label_of(name_of(name))}: learning rate = exp({rule['c']:.3f}) "
            f"N^-{rule['g']:.3f}; it costs the swept sizes {cost} "
            "compared with their best rates"
        )
        if held:
            line += (
                f"; the rule fitted to the smaller sizes gives {held['size']} "
                f"{held['rate_over_best']:.2f} times its best rate, which costs "
                f"{held['loss_above_best']:.4f} nats"
            )
        lines.append(line + ".")
    return lines


def published_lines(stated: dict[str, Any], fits: dict[str, Any]) -> list[str]:
    """What the two studies report, and what our fitter finds from their losses."""
    lines = []
    for name, claim in stated.items():
        error = f" ± {claim['standard_error']}" if "standard_error" in claim else ""
        line = f"- {name} reports alpha {claim['alpha']}{error} ({claim['law']}; {claim['source']})"
        laws = fits["laws"].get(name)
        if laws:
            alpha = parameter(laws["power"], "alpha", ".3g")
            line += f". A power law fitted to its losses has {alpha}"
            if "refused" in laws["power_floor"]:
                line += f"; with a floor, the fit is refused ({laws['power_floor']['refused']})"
        lines.append(line + ".")
    for name in [name for name in fits["laws"] if name not in stated]:
        power = fits["laws"][name]["power"]
        line = f"- {name}: a power law fitted to its losses has {parameter(power, 'alpha', '.3g')}"
        lines.append("; ".join([line, *power["warnings"]]) + ".")
    for entry in fits["crossovers"]:
        if entry["at"] == "equal_params" and entry["n_tokens"] is not None:
            lines.append(f"- {' and '.join(entry['archs'])} at equal parameters: {entry['note']}.")
    return lines


def context_lines(use: dict[str, Any]) -> list[str]:
    """How much of the context each size uses."""
    lines = []
    for arch in in_order(run["arch"] for run in use["runs"]):
        runs = sorted((r for r in use["runs"] if r["arch"] == arch), key=lambda r: r["n_params"])
        curves = {short_count(run["n_params"]): run["ways"]["crops"] for run in runs}
        t90 = {size: curve["t90"] for size, curve in curves.items()}
        used = ", ".join(
            f"{size} {quantity(at['value'], at['interval_95'], '.0f', '')}"
            for size, at in t90.items()
            if at["value"] is not None
        )
        lines.append(
            f"- {label_of(arch)}: tokens of context after which 90 % of the drop in loss is "
            f"reached, by parameters: {used}."
        )
        largest = curves[short_count(runs[-1]["n_params"])]
        stop = f"the loss falls up to the longest context measured, {largest['to'][-1]:,} tokens"
        if largest["stops_at"] is not None:
            stop = f"more than {largest['stops_at']:,} tokens may not help"
        lines.append(f"  - At its largest size {stop}.")
    return lines


def context_length_lines(length: dict[str, Any]) -> list[str]:
    """What a longer context changes at one size, over all positions of the songs."""
    most = length["settings"]["positions"]
    lines = [
        f"- {item['size']}, seed {item['seed']}: {item['difference']:+.4f} nats per token with a "
        f"context of {item['contexts'][1]:,} instead of {item['contexts'][0]:,} "
        f"{bracket(item['interval_95'], '.4f')}, positions 1 to {most:,}."
        for item in length["context_differences"]
        if (item["from"], item["to"]) == (1, most) and item["way"] in WHOLE_WAYS
    ]
    archs = in_order(item["arch"] for item in length["context_differences"])
    both = "- Both with the same token count, and the learning rate swept at the shorter context."
    return [*lines, f"{both} The {'; the '.join(map(_positions, archs))}."]


def _positions(arch: str) -> str:
    """How a longer context affects what a family learns about positions."""
    family = FAMILIES[arch]
    if family.learns_positions:
        return (
            f"{family.label} learns a vector per position, which a longer context trains less often"
        )
    return f"{family.label} {'has' if family.context == 'state' else 'learns'} none"


def leakage_lines(leakage: dict[str, Any]) -> list[str]:
    """What a split by file hides, by run."""
    gaps = {run["run"]: run["gap_nats_per_token"]["clean_less_all"] for run in leakage["runs"]}
    return [
        f"- {run}: validation songs without a copy in train: {gap['gap']:+.4f} nats per token "
        f"compared with all {bracket(gap['interval_95'], '.4f')}."
        for run, gap in gaps.items()
    ]


def tokenizer_lines(tokenizers: dict[str, Any]) -> list[str]:
    """Bits per note by tokenizer."""
    return [
        f"- {run['run']} ({run['tokenizer']}): {run['bits_per_note']['value']:.3f} bits per note "
        f"{bracket(run['bits_per_note']['interval_95'], '.3f')}."
        for run in tokenizers["runs"]
    ] + [
        f"- {item['run']} minus {item['less']}: {item['bits_per_note']:+.3f} bits per note "
        f"{bracket(item['interval_95'], '.3f')}."
        for item in tokenizers["differences"]
    ]


def findings(folder: Path) -> list[str]:
    """All sections, as lines of Markdown; a side study without a file is left out."""
    fits, rows = read_json(folder / "fits.json"), read_csv(folder / "runs.csv")
    sections = {
        "In short": in_short(folder),
        "What was trained": [*study_lines(rows), *seed_lines(rows), "", *sizes_table(rows)],
        "The laws": law_lines(fits),
        "At one token count, as other studies quote it": one_budget_lines(fits),
        "All laws, and where the families cross": [
            *laws_table(fits),
            "",
            *[line for line in notes_list(fits) if "crossover" in line or "not fitted" in line],
        ],
        "Learning rates": rate_lines(read_json(folder / "learning_rates.json")),
        "The two studies, refitted": published_lines(
            *(read_json(folder / "published" / name) for name in ("stated.json", "fits.json"))
        ),
    }
    for title, name, describe in (
        ("How much context is used", "context_use.json", context_lines),
        ("A longer context", "context_length.json", context_length_lines),
        ("Leakage: a split by file", "leakage.json", leakage_lines),
        ("Tokenizers", "tokenizers.json", tokenizer_lines),
    ):
        if (folder / name).is_file():
            sections[title] = describe(read_json(folder / name))
    return [line for title, lines in sections.items() for line in (f"### {title}", "", *lines, "")]
