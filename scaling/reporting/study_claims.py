"""What the measured law says of three claims of study A: confirmed, refuted, or left open, and why.

Study A (Ajith 2025): the loss of the GPT falls as N^-0.0828 at 100 M tokens; the GPT becomes better
than the LSTM at about 5 M parameters; the LSTM saturates. N parameters, D tokens, L loss.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..families import FAMILIES
from ..predictions.fitted import FittedLaw
from ..writing.wording import bracket, quantity, short_count

# Study A's Tiny, non-embedding parameters: width 128, 4 layers, width 512 between.
SMALLEST = sum(FAMILIES["gpt"].layer_parameters(128, 4, 512))
CROSSING = 5e6  # parameters at which its curves cross
NEAR = 1.1  # a range that ends this near a size still speaks of it


def local_exponent(
    law: FittedLaw, sizes: tuple[float, float], n_tokens: float
) -> tuple[float, np.ndarray | None]:
    """Mean of -d ln L / d ln N between two sizes, with its 95 % interval over the law's draws."""
    log_n, log_d = np.log(sizes), np.log([n_tokens, n_tokens])

    def slope(theta: np.ndarray) -> np.ndarray:
        first, last = law.log_loss(theta, log_n, log_d)
        return np.array((first - last) / (log_n[1] - log_n[0]))

    return float(slope(law.theta)), law.ends(slope)


def alpha_claim(law: FittedLaw, stated: float) -> str:
    """Whether the stated exponent of the GPT is that of the law where study A begins."""
    low, high = SMALLEST, law.sizes[1]
    if high <= low:
        return f"left open: the largest measured size has {short_count(high)} parameters"
    return _verdict(
        law, low, lambda ends: "confirmed" if ends[0] <= stated <= ends[1] else "refuted"
    )


def crossing_claim(crossovers: list[dict[str, Any]], sizes: tuple[float, float]) -> str:
    """Whether GPT and LSTM cross at 5 M parameters, at equal parameters and most tokens.

    Args:
        crossovers: Those of fits.json.
        sizes: Smallest and largest N that both were trained at.
    """
    found = [
        entry
        for entry in crossovers
        if entry["at"] == "equal_params"
        and set(entry["archs"]) == {"gpt", "lstm"}
        and entry["n_tokens"] is not None
    ]
    if not found:
        return "left open: no crossover of GPT and LSTM was computed"
    entry = max(found, key=lambda each: each["n_tokens"])
    at = f"at {short_count(entry['n_tokens'])} tokens"
    if entry["n_params"] is None:
        reach = f"up to {short_count(sizes[1])} parameters"
        if NEAR * sizes[1] < CROSSING:
            return f"left open: {at} there is none {reach}"
        return f"refuted: {at} there is none {reach}"
    ends = entry["interval_95"]
    place = f"{at} they cross at {short_count(entry['n_params'])} parameters"
    if ends is None:
        return f"left open: {place}, without an interval"
    verdict = "confirmed" if ends[0] <= CROSSING <= ends[1] else "refuted"
    return f"{verdict}: {place} {bracket([short_count(end) for end in ends], '')}"


def saturation_claim(law: FittedLaw) -> str:
    """Whether the LSTM's law still falls at the largest sizes."""
    return _verdict(law, law.sizes[1] / 2, lambda ends: "refuted" if ends[0] > 0 else "left open")


def _verdict(law: FittedLaw, low: float, judge: Callable[[np.ndarray], str]) -> str:
    """Judges the interval of the exponent from a size to the largest, at the most tokens."""
    high, n_tokens = law.sizes[1], law.tokens[1]
    value, ends = local_exponent(law, (low, high), n_tokens)
    found = (
        f"from {short_count(low)} to {short_count(high)} parameters, at {short_count(n_tokens)} "
        f"tokens, the law falls as N^-{quantity(value, ends, '.3f')}"
    )
    return f"left open: {found}, without an interval" if ends is None else f"{judge(ends)}: {found}"


def verdicts(
    laws: Mapping[str, FittedLaw | str], crossovers: list[dict[str, Any]], stated_alpha: float
) -> dict[str, str]:
    """Claim -> verdict and reason; families without a law leave theirs open."""
    gpt, lstm = laws.get("gpt", "not trained"), laws.get("lstm", "not trained")
    both = [law for law in (gpt, lstm) if isinstance(law, FittedLaw)]
    claims = {
        f"the GPT's loss falls as N^-{stated_alpha:g}": alpha_claim(gpt, stated_alpha)
        if isinstance(gpt, FittedLaw)
        else f"left open: {gpt}",
        f"GPT and LSTM cross at about {short_count(CROSSING)} parameters": crossing_claim(
            crossovers, (max(law.sizes[0] for law in both), min(law.sizes[1] for law in both))
        )
        if len(both) == len(("gpt", "lstm"))
        else "left open: one of them has no law",
        "the LSTM saturates": saturation_claim(lstm)
        if isinstance(lstm, FittedLaw)
        else f"left open: {lstm}",
    }
    return claims
