"""Verdicts on study A's claims, from laws and crossovers that are known."""

import numpy as np
import pytest

from scaling.laws.registry import LAWS
from scaling.predictions.fitted import FittedLaw
from scaling.reporting.study_claims import (
    alpha_claim,
    crossing_claim,
    local_exponent,
    saturation_claim,
    verdicts,
)

LAW = LAWS["chinchilla"]


def fitted(arch="gpt", largest=5e6, spread=0.01, **changed):
    """A law in N and D with draws around it; its floor is none, so its exponent is alpha."""
    truth = {"E": 1e-9, "A": 10.0, "B": 1e-9, "alpha": 0.0828, "beta": 0.5} | changed
    alphas = truth["alpha"] + spread * np.linspace(-1, 1, 41)
    draws = np.array([LAW.theta(truth | {"alpha": alpha}) for alpha in alphas])
    theta = LAW.theta(truth)
    return FittedLaw(
        arch, LAW, theta, draws if spread else None, None, (3e3, largest), (), (1e6, 1e8)
    )


def crossing(n_params, interval, n_tokens=2.5e7):
    return {
        **{"at": "equal_params", "archs": ["gpt", "lstm"], "n_tokens": n_tokens},
        **{"n_params": n_params, "interval_95": interval},
    }


def test_local_exponent_of_a_power_is_its_alpha_anywhere():
    value, ends = local_exponent(fitted(), (1e5, 5e6), 1e8)
    assert value == pytest.approx(0.0828, abs=1e-6)
    assert ends == pytest.approx([0.0828 - 0.0095, 0.0828 + 0.0095], abs=1e-3)


@pytest.mark.parametrize(
    ("law", "verdict"),
    [
        (
            fitted(),
            "confirmed: from 788k to 5M parameters, at 100M tokens, the law falls as N^-0.083",
        ),
        (fitted(alpha=0.2), "refuted: "),
        (fitted(largest=7e5), "left open: the largest measured size has 700k parameters"),
        (fitted(spread=0), "left open: from 788k"),
    ],
)
def test_exponent_of_study_a_is_judged_where_it_was_measured(law, verdict):
    assert alpha_claim(law, 0.0828).startswith(verdict)


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (
            [crossing(4e6, [2e6, 8e6])],
            "confirmed: at 25M tokens they cross at 4M parameters [2M, 8M]",
        ),
        ([crossing(1e4, [5e3, 4e4])], "refuted: "),
        ([crossing(None, None)], "refuted: at 25M tokens there is none up to 4.7M parameters"),
        ([crossing(1e4, None)], "left open: "),
        ([], "left open: no crossover of GPT and LSTM was computed"),
        ([crossing(1e4, [5e3, 4e4], 1e6), crossing(4e6, [2e6, 8e6])], "confirmed: at 25M tokens"),
    ],
)
def test_crossing_of_study_a_is_judged_at_most_tokens(found, verdict):
    assert crossing_claim(found, (3e3, 4.7e6)).startswith(verdict)


def test_no_crossing_below_the_claimed_one_leaves_it_open():
    said = crossing_claim([crossing(None, None)], (3e3, 8e5))
    assert said == "left open: at 25M tokens there is none up to 800k parameters"


def test_a_law_at_its_floor_has_not_refuted_saturation():
    assert saturation_claim(fitted("lstm")).startswith("refuted: from 2.5M to 5M parameters")
    assert saturation_claim(fitted("lstm", alpha=0.0)).startswith("left open")


def test_families_without_a_law_leave_their_claims_open():
    found = list(verdicts({"gpt": "3 sizes, at least 6 needed"}, [], 0.0828).values())
    assert found[0] == "left open: 3 sizes, at least 6 needed"
    assert found[1:] == ["left open: one of them has no law", "left open: not trained"]
