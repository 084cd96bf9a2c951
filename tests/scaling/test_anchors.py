"""Published runs with published fits: the fitter is right when it gives the same numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest
from variable_projection import fit_by_projection

from scaling.fit_family import fit_family
from scaling.fit_options import Settings
from scaling.fitting.intervals import bootstrap_thetas
from scaling.fitting.minimise import Problem, fit_law, objective_value
from scaling.laws.law import Points
from scaling.laws.registry import LAWS
from scaling.predictions.isoflop import parabola_optimum
from scaling.runs_table import Run

PUBLISHED = Path(__file__).parents[3] / "shared" / "data" / "scaling"
CHINCHILLA, TIED, MUENNIGHOFF = (
    LAWS[name] for name in ("chinchilla", "chinchilla_tied", "muennighoff")
)


def published(name, *columns):
    """Columns of a published table as arrays, and its rows."""
    path = PUBLISHED / name
    if not path.is_file():
        pytest.skip(f"{name} is not there: published runs are not part of the project")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, *(np.array([float(row[column]) for row in rows]) for column in columns)


def chinchilla_runs(n_dropped):
    """The runs of Hoffmann et al., without those of highest loss."""
    _, n, d, loss = published("chinchilla_fig4_epoch.csv", "N", "D", "loss")
    keep = np.argsort(loss)[: len(loss) - n_dropped]
    return Problem.of(n[keep], d[keep], loss[keep])


def test_chinchilla_is_refitted_to_the_published_objective():
    problem = chinchilla_runs(5)
    theta = fit_law(CHINCHILLA, problem)
    values = CHINCHILLA.values(theta)
    assert objective_value(CHINCHILLA, theta, problem) <= 0.0010184
    assert values["E"] == pytest.approx(1.8172, abs=0.003)
    assert values["alpha"] == pytest.approx(0.3478, abs=0.004)
    assert values["beta"] == pytest.approx(0.3658, abs=0.004)
    assert values["A"] == pytest.approx(482.01, rel=0.03)
    assert values["B"] == pytest.approx(2085.43, rel=0.10)
    share = values["beta"] / (values["alpha"] + values["beta"])
    assert share == pytest.approx(0.513, abs=0.002)


def test_chinchilla_with_the_five_high_losses_is_another_law():
    values = CHINCHILLA.values(fit_law(CHINCHILLA, chinchilla_runs(0)))
    assert values["E"] == pytest.approx(1.8913, abs=0.003)
    assert values["beta"] == pytest.approx(0.4530, abs=0.004)


def test_variable_projection_comes_to_the_same_law():
    problem = chinchilla_runs(5)
    theta = fit_by_projection(CHINCHILLA, problem)
    assert objective_value(CHINCHILLA, theta, problem) <= 0.0010184


def test_chinchilla_bootstrap_has_the_published_spread():
    problem = chinchilla_runs(5)
    theta = fit_law(CHINCHILLA, problem)
    draws = bootstrap_thetas(
        *(CHINCHILLA, problem, np.arange(240), theta, 400, np.random.default_rng(0))
    )
    values = [CHINCHILLA.values(draw) for draw in draws]
    deviation = {name: np.std([v[name] for v in values]) for name in CHINCHILLA.parameters}
    assert deviation["A"] == pytest.approx(125, rel=0.15)
    assert deviation["E"] == pytest.approx(0.026, rel=0.20)
    assert deviation["alpha"] == pytest.approx(0.0157, rel=0.20)
    assert deviation["beta"] == pytest.approx(0.0209, rel=0.20)


def test_runs_far_from_the_law_are_listed_with_the_fit_without_them():
    _, n, d, loss = published("chinchilla_fig4_epoch.csv", "N", "D", "loss")
    runs = sorted(Run("all", *row, f"{i}") for i, row in enumerate(zip(n, d, loss, strict=True)))
    settings = Settings(("chinchilla",), "huber_log", bootstrap=100, seed=0, columns={})
    entry = fit_family("all", runs, settings)[0]["chinchilla"]
    listed = {run["loss"] for run in entry["outliers"]["runs"]}
    assert len(listed & set(np.sort(loss)[-5:])) >= 4
    assert len(listed) <= 6
    assert entry["params"]["beta"] == pytest.approx(0.453, abs=0.004)
    assert entry["outliers"]["params_without"]["beta"] == pytest.approx(0.367, abs=0.01)


def test_gadre_prediction_errors_are_reproduced():
    rows, n, d, loss, multiple = published("gadre_rpj.csv", "N", "D", "loss_c4_val", "tok_mult")
    small = np.array([row["model"].startswith("d=") for row in rows])
    smallest = np.array([row["model"].startswith("d=96") for row in rows])
    fitted = (small & (multiple == 20)) | (smallest & (multiple == 320))
    assert fitted.sum() == 5
    runs = (n[fitted], d[fitted], loss[fitted])
    theta = fit_law(TIED, Problem.of(*runs, objective="squares_of_loss"))
    for model, at, error in (("open_lm_1b", 640, 0.7103), ("open_lm_7b", 20, 0.7320)):
        index = next(i for i, r in enumerate(rows) if r["model"] == model and multiple[i] == at)
        points = Points.once(np.log(n[[index]]), np.log(d[[index]]))
        predicted = float(np.exp(TIED.log_loss(theta, points))[0])
        missed = 100 * abs(predicted - loss[index]) / loss[index]
        assert missed == pytest.approx(error, abs=0.02)


def test_muennighoff_law_has_the_published_values():
    published_fit = dict(zip("EAB", np.exp([0.6254804, 6.255414, 7.3049974]), strict=True))
    published_fit |= {"alpha": 0.3526596, "RD": 15.387756, "RN": 5.309743}
    theta = MUENNIGHOFF.theta(published_fit)
    for n, d, loss in (
        (6.34e9, 242e9, 2.2256440889984477),
        (8.67e9, 178e9, 2.2269634075087867),
    ):
        points = Points(*(np.log([x]) for x in (n, d, 25e9)))
        assert np.exp(MUENNIGHOFF.log_loss(theta, points))[0] == pytest.approx(loss, abs=1e-7)


def test_tied_fit_to_runs_of_few_repetitions_is_the_published_one():
    _, n, d, unique, loss = published(
        "muennighoff_repeated.csv", "N", "D", "U_unique_tokens", "loss"
    )
    few = d / unique <= 2.5
    assert few.sum() == 62
    problem = Problem.of(n[few], d[few], loss[few])
    theta = fit_law(TIED, problem)
    values = TIED.values(theta)
    assert values["alpha"] == pytest.approx(0.35954, abs=0.002)
    assert np.log(values["E"]) == pytest.approx(0.63987, abs=0.002)
    assert objective_value(TIED, theta, problem) <= 0.0012190


def test_worth_of_a_repeated_token_is_not_identified_on_all_of_muennighoffs_runs():
    _, n, d, unique, loss = published(
        "muennighoff_repeated.csv", "N", "D", "U_unique_tokens", "loss"
    )
    rows = enumerate(zip(n, d, loss, unique, strict=True))
    runs = sorted(Run("all", *row[:3], f"{i}", row[3]) for i, row in rows)
    settings = Settings(("muennighoff",), "huber_log", bootstrap=40, seed=0, columns={})
    entry = fit_family("all", runs, settings)[0]["muennighoff"]
    assert entry["interval_95"]["RD"] is None
    assert any(warning.startswith("RD is not identified") for warning in entry["warnings"])


def optimum_exponent(log_c, log_n_opt, weights=None):
    """Slope of log N_opt over log C."""
    return np.polyfit(log_c, log_n_opt, 1, w=weights)[0]


@pytest.mark.parametrize(
    ("setting", "exponent"),
    [
        ("rw|base|long|kaplan|kaplan|train", 0.8353),
        ("rw|tuned|short|const|standard|val", 0.4969),
    ],
)
def test_porian_exponents_are_reproduced(setting, exponent):
    rows, flops, n_opt, deviation = published("porian_opt.csv", "flops", "n_opt", "log_n_std")
    mine = np.array([row["setting"] == setting for row in rows])
    found = optimum_exponent(np.log(flops[mine]), np.log(n_opt[mine]), 1 / deviation[mine])
    assert found == pytest.approx(exponent, abs=0.001)

    rows, flops, n, loss = published("porian_isoflop.csv", "flops", "n", "loss")
    mine = np.array([row["setting"] == setting for row in rows])
    optima = {}
    for budget in np.unique(flops[mine]):
        runs = mine & (flops == budget)
        optima[np.log(budget)] = parabola_optimum(np.log(n[runs]), loss[runs])
    log_c, log_n = (np.array(list(axis)) for axis in (optima.keys(), optima.values()))
    assert optimum_exponent(log_c, log_n) == pytest.approx(exponent, abs=0.04)
