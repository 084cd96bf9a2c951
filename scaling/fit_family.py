"""All laws for one family: refusals, fits, and the choice among them.

N parameters, D tokens.
"""

import zlib
from collections.abc import Sequence

import numpy as np

from .fit_options import Settings
from .fitting.fit_law import fit_one_law, runs_at_one_budget
from .fitting.refusals import refusal
from .laws.registry import LAWS
from .predictions.fitted import FittedLaw
from .predictions.law_curves import lines_at_flops, lines_at_tokens
from .runs_table import Run

# a smaller AICc difference is no evidence (Burnham & Anderson 2002, section 2.6)
AICC_DECIDES = 2.0
# draws of the chosen law that fits.json keeps for predictions
KEPT_DRAWS = 400


def fit_family(
    arch: str, runs: Sequence[Run], settings: Settings
) -> tuple[dict[str, object], FittedLaw | None]:
    """The family's entry of fits.json, and its chosen law, for the crossovers, if there is one.

    Args:
        arch: name of the family.
        runs: its usable runs, sorted.
        settings: options of the whole fit.
    """
    entry: dict[str, object] = {}
    fitted: dict[str, FittedLaw] = {}
    at_one_budget, tokens_note = runs_at_one_budget(runs)
    for name in settings.laws:
        law = LAWS[name]
        kept, note = (at_one_budget, tokens_note) if law.is_at_one_budget else (list(runs), None)
        reason = note if not kept else refusal(law, kept)
        if reason is not None:
            entry[name] = {"refused": reason, "n_sizes": len({run.n_params for run in runs})}
            continue
        # one random stream per family and law: adding a law does not change another's interval
        rng = np.random.default_rng([settings.seed, zlib.crc32(f"{arch} {name}".encode())])
        entry[name], theta, draws = fit_one_law(law, kept, settings, rng)
        if note is not None:
            entry[name]["warnings"].insert(0, note)
        fitted[name] = FittedLaw.of(law, theta, draws, kept, runs)
    choice, reason = choose_law(entry)
    chosen = fitted.get(choice)
    if chosen is not None:
        described = entry[chosen.law.name]
        described["draws"] = None
        if chosen.draws is not None:  # on the natural scale by name, as predictions need them
            values = [chosen.law.values(theta) for theta in chosen.draws[:KEPT_DRAWS]]
            names = chosen.law.parameters
            described["draws"] = {name: [drawn[name] for drawn in values] for name in names}
        if not chosen.law.is_at_one_budget:
            described["curves"] = lines_at_tokens(chosen)
            described["isoflop"] = lines_at_flops(chosen, runs)
    return entry | {"chosen": choice, "chosen_reason": reason}, chosen


def choose_law(entry: dict[str, dict]) -> tuple[str | None, str]:
    """The law to quote and the reason: AICc if it decides, else the error on the largest size."""
    fitted = {name: law for name, law in entry.items() if "refused" not in law}
    # AICc compares only laws fitted to the same runs: laws of all runs go before laws of one D
    of_all_runs = {name: law for name, law in fitted.items() if not LAWS[name].is_at_one_budget}
    fitted = of_all_runs or fitted
    if not fitted:
        return None, "every law was refused"
    if len(fitted) == 1:
        to_what = "to all runs" if of_all_runs else "at one token count"
        return next(iter(fitted)), f"it is the only law fitted {to_what}"
    by_aicc, by_holdout = (
        sorted((law[by], name) for name, law in fitted.items() if law[by] is not None)
        for by in ("aicc", "holdout_error")
    )
    if not by_holdout:
        return by_aicc[0][1], "its AICc is lowest; no size could be held out"
    predicts = by_holdout[0][1]
    if len(by_aicc) > 1 and (lower := by_aicc[1][0] - by_aicc[0][0]) >= AICC_DECIDES:
        name = by_aicc[0][1]
        other = "and it also" if predicts == name else f"although {predicts}"
        better = f"{other} predicts the held-out largest size better"
        return name, f"its AICc is lower by {lower:.1f}, {better}"
    errors = ", ".join(f"{name} {error:.2%}" for error, name in by_holdout)
    return predicts, (
        f"AICc does not decide (difference below {AICC_DECIDES:g}); "
        f"it has the lowest error on the held-out largest size: {errors}"
    )
