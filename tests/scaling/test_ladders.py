"""Ladders of known truth: laws in N and D, repeated data, crossovers, frontier, predictions."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from variable_projection import fit_by_projection

from scaling import fit, predict
from scaling.fitting.intervals import bootstrap_thetas, jackknife_spread, percentile_interval
from scaling.fitting.minimise import Problem, fit_law, objective_value
from scaling.fitting.refusals import carries
from scaling.laws.law import Points
from scaling.laws.registry import LAWS
from scaling.predictions import questions
from scaling.predictions.costs import CostCurve
from scaling.predictions.fitted import FittedLaw
from scaling.predictions.frontier import best_use

DATA = Path(__file__).parents[1] / "data" / "scaling"
REPORTED = Path(__file__).parents[1] / "data" / "reported" / "law-of-rising-loss"
TRUTH = {"E": 0.62, "A": 18.0, "B": 60.0, "alpha": 0.36, "beta": 0.35}
SIZES = np.geomspace(8e3, 1.5e6, 6).round()
BUDGETS = 2e6 * 2.0 ** np.arange(4)


def loss_of(law, values, n, d, u=None):
    n, d, u = np.broadcast_arrays(*np.atleast_1d(n, d, d if u is None else u))
    points = Points(np.log(n), np.log(d), np.log(u))
    return np.exp(LAWS[law].log_loss(LAWS[law].theta(values), points))


def ladder(arch="gpt", truth=None, noise=0.004, seeds=1, sizes=SIZES, budgets=BUDGETS, **cost):
    """Rows of branched runs; cost: FLOPs or seconds a token and parameter, and their power of N."""
    rng = np.random.default_rng(7 if arch == "gpt" else 8)
    rows = []
    for seed in range(seeds):
        for n in sizes:
            for d in budgets:
                loss = loss_of("chinchilla", truth or TRUTH, n, d)[0] * np.exp(noise * rng.normal())
                row = {"arch": arch, "n_params": n, "n_tokens": d, "loss": loss}
                row["run"] = f"{arch}_{n:.0f}_{seed}"
                rows.append(row | {name: f * d * n**p for name, (f, p) in cost.items()})
    return rows


def write(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def fitted(tmp_path, rows, *arguments):
    table, out = write(tmp_path / "runs.csv", rows), tmp_path / "fits.json"
    assert fit.main([str(table), "--out", str(out), "--bootstrap", "100", *arguments]) == 0
    return json.loads(out.read_text())


def entries(fits, at):
    return [entry for entry in fits["crossovers"] if entry["at"] == at]


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    """fits.json of the synthetic ladder, as the command line makes it."""
    out = tmp_path_factory.mktemp("ladder") / "fits.json"
    columns = "n_params=N,n_tokens=D,flops=C_6ND"
    arguments = ["--law", "chinchilla", "--bootstrap", "200", "--columns", columns]
    table = DATA / "synthetic_ladder_a.csv"
    assert fit.main([str(table), "--out", str(out), *arguments]) == 0
    return out


def test_intervals_of_the_synthetic_ladder_cover_the_truth(synthetic):
    laws = json.loads(synthetic.read_text())["laws"]
    truth = json.loads((DATA / "synthetic_ladder_a.truth.json").read_text())["truth"]
    for arch in ("gpt", "lstm"):
        for name in ("E", "alpha", "beta"):
            low, high = laws[arch]["chinchilla"]["interval_95"][name]
            assert low < truth[arch][name] < high, f"{arch} {name}"


def test_crossover_of_the_synthetic_ladder_is_found_at_every_token_count(synthetic):
    truth = json.loads((DATA / "synthetic_ladder_a.truth.json").read_text())["crossover_N_by_D"]
    found = entries(json.loads(synthetic.read_text()), "equal_params")
    assert [str(entry["n_tokens"]) for entry in found] == list(truth)
    for entry in found:
        (crossover,) = truth[str(entry["n_tokens"])]
        low, high = entry["interval_95"]
        assert entry["n_params"] == pytest.approx(crossover, rel=0.1)
        assert low < crossover < high


def test_a_planted_bad_run_at_the_largest_size_is_listed(synthetic):
    laws = json.loads(synthetic.read_text())["laws"]
    with (DATA / "synthetic_ladder_a.csv").open(newline="") as file:
        planted = [row for row in csv.DictReader(file) if row["is_planted_outlier"] == "1"]
    largest = max(planted, key=lambda row: float(row["N"]))
    report = laws["lstm"]["chinchilla"]["outliers"]
    assert float(largest["loss"]) in [run["loss"] for run in report["runs"]]
    assert report["holdout_error_without"] < 0.01 < laws["lstm"]["chinchilla"]["holdout_error"]
    assert any("lie far from the law" in text for text in laws["lstm"]["chinchilla"]["warnings"])


def coverage(n_ladders, n_draws, bad_share):
    """Share of ladders whose 95 % interval covers the truth, by parameter."""
    law = LAWS["chinchilla"]
    covered = dict.fromkeys(law.parameters, 0)
    n, d = (axis.ravel() for axis in np.meshgrid(np.repeat(SIZES, 2), BUDGETS))
    for number in range(n_ladders):
        rng = np.random.default_rng([bad_share > 0, number])
        noise = rng.normal(0, 0.004, len(n))
        noise += (rng.random(len(n)) < bad_share) * np.abs(rng.normal(0, 0.1, len(n)))
        problem = Problem.of(n, d, loss_of("chinchilla", TRUTH, n, d) * np.exp(noise))
        theta = fit_law(law, problem, warm=law.theta(TRUTH))
        runs = np.arange(len(n))
        draws = bootstrap_thetas(law, problem, runs, theta, n_draws, rng)
        low, high = percentile_interval(draws)
        for index, name in enumerate(law.parameters):
            covered[name] += low[index] <= law.theta(TRUTH)[index] <= high[index]
    return {name: count / n_ladders for name, count in covered.items()}


def test_intervals_cover_the_truth_of_most_ladders():
    assert min(coverage(20, 40, 0.0).values()) >= 0.79  # 0.95 less three deviations of 20, nearly


@pytest.mark.slow
@pytest.mark.parametrize("bad_share", [0.0, 0.03])
def test_intervals_cover_the_truth_of_90_to_98_of_100_ladders(bad_share):
    shares = coverage(200, 200, bad_share)
    print(shares)
    assert all(0.90 <= share <= 0.98 for share in shares.values()), shares


@pytest.mark.slow
def test_jackknife_over_six_trunks_covers_where_the_bootstrap_does_not():
    law, covered = LAWS["chinchilla"], np.zeros(5)
    n, d = (axis.ravel() for axis in np.meshgrid(SIZES, BUDGETS))
    for number in range(200):
        rng = np.random.default_rng(number)
        trunk = rng.normal(0, 0.003, len(SIZES))[np.searchsorted(SIZES, n)]
        noise = trunk + rng.normal(0, 0.003, len(n))
        problem = Problem.of(n, d, loss_of("chinchilla", TRUTH, n, d) * np.exp(noise))
        theta = fit_law(law, problem, warm=law.theta(TRUTH))
        low, high = jackknife_spread(law, problem, n, theta).interval()
        covered += (low <= law.theta(TRUTH)) & (law.theta(TRUTH) <= high)
    print(covered / 200)
    assert (covered / 200).min() >= 0.90


def test_branches_of_a_trunk_are_drawn_together(tmp_path):
    rows = ladder(seeds=2)
    law = fitted(tmp_path, rows, "--law", "chinchilla")["laws"]["gpt"]["chinchilla"]
    assert (law["n_runs"], law["n_trunks"]) == (48, 12)
    assert "12 trunks drawn with replacement" in law["interval_method"]
    # a column trunk says the same of branches that have names of their own
    named = [row | {"trunk": row["run"], "run": f"{row['run']}_{i}"} for i, row in enumerate(rows)]
    same = fitted(tmp_path, named, "--law", "chinchilla")["laws"]["gpt"]["chinchilla"]
    assert same["interval_95"] == law["interval_95"]


def test_six_trunks_have_jackknife_intervals(tmp_path):
    law = fitted(tmp_path, ladder(), "--law", "chinchilla")["laws"]["gpt"]["chinchilla"]
    assert "jackknife over 6 trunks" in law["interval_method"]
    low, high = law["interval_95"]["alpha"]
    assert low < TRUTH["alpha"] < high
    assert law["holdout_error"] < 0.02
    assert law["jackknife_by_size"]["alpha"]["range"][0] < law["params"]["alpha"]
    assert law["identification"]["jacobian_rank"] == 5


@pytest.mark.parametrize("name", ["chinchilla", "chinchilla_tied"])
def test_variable_projection_comes_to_the_same_minimum(name):
    n, d, loss = (
        np.array([row[column] for row in ladder()]) for column in ("n_params", "n_tokens", "loss")
    )
    law, problem = LAWS[name], Problem.of(n, d, loss)
    ours, other = (
        objective_value(law, find(law, problem), problem) for find in (fit_law, fit_by_projection)
    )
    assert ours <= other == pytest.approx(ours, rel=0.01)


def test_laws_in_n_and_d_are_refused_below_their_needs(tmp_path):
    def refused(rows, law="chinchilla"):
        return fitted(tmp_path, rows, "--law", law)["laws"]["gpt"][law]["refused"]

    assert "3 sizes, at least 4 needed" in refused(ladder(sizes=SIZES[:3], seeds=2))
    assert "2 token counts, at least 3 needed" in refused(ladder(budgets=BUDGETS[:2], seeds=2))
    diagonal = [
        row
        for row in ladder(budgets=20 * SIZES, seeds=3)
        if row["n_tokens"] == 20 * row["n_params"]
    ]
    assert "change in lockstep" in refused(diagonal)
    assert "unique_tokens is missing" in refused(ladder(), "muennighoff")
    once = [row | {"unique_tokens": row["n_tokens"]} for row in ladder()]
    assert "no run repeats" in refused(once, "sms")


def test_losses_that_do_not_fall_with_size_have_a_warning_and_no_best_size(tmp_path, capsys):
    # as of large models that were not trained to the end
    rows = [row | {"loss": row["loss"] + 0.01 * row["n_params"] ** 0.3} for row in ladder()]
    fits = fitted(tmp_path, rows, "--law", "chinchilla")
    why = "expected above 0: the runs do not show that the loss falls"
    assert why in fits["laws"]["gpt"]["chinchilla"]["warnings"][0]
    assert why in fits["frontier"]["gpt"]["refused"]
    assert fits["laws"]["gpt"]["chinchilla"]["isoflop"] == []
    capsys.readouterr()
    assert predict.main([str(tmp_path / "fits.json"), "--flops", "1e15"]) == 2
    assert why in capsys.readouterr().err


@pytest.mark.parametrize(("name", "law"), [("loss_rises", "chinchilla"), ("noise_big", "power")])
def test_reported_losses_that_do_not_fall_have_a_warning_and_no_best_size(tmp_path, name, law):
    table, out = REPORTED / f"{name}.csv", tmp_path / "fits.json"
    assert fit.main([str(table), "--out", str(out), "--bootstrap", "100", "--law", law]) == 0
    fits = json.loads(out.read_text())
    assert "expected above 0: the runs do not show" in " ".join(
        fits["laws"]["gpt"][law]["warnings"]
    )
    assert "refused" in fits["frontier"]["gpt"]
    assert predict.main([str(out), "--flops", "1e15"]) == 2


def test_an_exponent_whose_interval_reaches_below_zero_has_no_best_size():
    law, falls = LAWS["chinchilla"], LAWS["chinchilla"].theta(TRUTH)
    low = law.theta(TRUTH | {"beta": -0.1})
    assert law.not_falling(falls, falls) is None
    assert law.not_falling(falls, low).startswith("the lower end of the interval of beta is -0.1")


def test_answers_below_one_token_are_refused(synthetic, capsys):
    assert predict.main([str(synthetic), "--flops", "1e12", "--params", "1e12"]) == 2
    message = capsys.readouterr().err
    assert "1e+12 parameters and 0.167 tokens, expected 1 or more of each" in message


def test_a_floor_that_the_budgets_do_not_fix_is_called_so(tmp_path):
    rows = ladder(truth=TRUTH | {"E": 1e-4}, noise=0.02, seeds=2)
    law = fitted(tmp_path, rows, "--law", "chinchilla")["laws"]["gpt"]["chinchilla"]
    assert law["interval_95"]["E"] is None
    assert any("floor E is not identified" in warning for warning in law["warnings"])


def repeated_rows(law, values, noise):
    rng = np.random.default_rng(3)
    budgets = 2e6 * 2.0 ** np.arange(6)
    grid = [(n, d, min(u, d)) for n in SIZES for d in budgets for u in (1e6, 4e6, 1e9)]
    n, d, u = np.array(sorted(set(grid))).T
    return n, d, u, loss_of(law, values, n, d, u) * np.exp(noise * rng.normal(size=len(n)))


def test_muennighoff_law_is_recovered_and_chosen(tmp_path):
    truth = {"E": 0.62, "A": 18.0, "B": 60.0, "alpha": 0.35, "RD": 12.0, "RN": 5.0}
    runs = zip(*repeated_rows("muennighoff", truth, 0.004), strict=True)
    names = ("n_params", "n_tokens", "unique_tokens", "loss")
    rows = [dict(zip(names, run, strict=True)) for run in runs]
    arguments = ("--law", "chinchilla", "chinchilla_tied", "muennighoff")
    laws = fitted(tmp_path, rows, *arguments)["laws"]["all"]
    assert laws["chosen"] == "muennighoff"
    params = laws["muennighoff"]["params"]
    assert params["E"] == pytest.approx(0.62, abs=0.03)
    assert params["alpha"] == pytest.approx(0.35, abs=0.02)
    assert params["RD"] == pytest.approx(12, rel=0.2)
    assert params["RN"] == pytest.approx(5, rel=0.2)
    for name in ("E", "alpha", "RD", "RN"):
        low, high = laws["muennighoff"]["interval_95"][name]
        assert low < params[name] < high


def test_draws_keep_the_repeated_runs_that_a_law_of_repetition_needs():
    n, d, u, loss = repeated_rows("chinchilla", TRUTH, 0.0)
    runs = Problem.of(n, d, loss, u)
    once, of_one_amount = runs.subset(u == d), runs.subset(u == 1e6)
    assert carries(LAWS["chinchilla"], once)
    assert carries(LAWS["muennighoff"], of_one_amount)
    for name, drawn in (("muennighoff", once), ("sms", once), ("sms", of_one_amount)):
        assert carries(LAWS[name], runs)
        assert not carries(LAWS[name], drawn)


def test_sms_law_is_recovered_without_noise():
    truth = {"E": 0.6, "A": 15.0, "B": 50.0, "d": 20.0, "alpha": 0.35, "beta": 0.33, "k": 0.8}
    truth |= {"kd": 2e-8, "kn": 0.15, "ku": 0.12, "kin": 1.8}
    n, d, u, loss = repeated_rows("sms", truth, 0.0)
    theta = fit_law(LAWS["sms"], Problem.of(n, d, loss, u))
    assert LAWS["sms"].values(theta) == pytest.approx(truth, rel=1e-3)


@pytest.mark.parametrize("name", list(LAWS))
def test_derivatives_and_shifts_of_every_law_are_exact(name):
    law, rng = LAWS[name], np.random.default_rng(5)
    n, d, u, _ = repeated_rows("chinchilla", TRUTH, 0.0)
    points = Points(np.log(n), np.log(d), np.log(u)).minus(np.log(1e5), np.log(1e7))
    usual = {"scale": -1.0, "exponent": 0.3, "decay": 1.5, "share": 0.5, "slope": 0.3}
    theta = np.array([usual[kind] for kind in law.kinds.values()]) + rng.normal(0, 0.05)
    surface = law.surface(points)
    step = 1e-6 * np.eye(len(theta))
    slopes = [(surface(theta + one)[0] - surface(theta - one)[0]) / 2e-6 for one in step]
    assert surface(theta)[1] == pytest.approx(np.array(slopes).T, abs=1e-7)
    moved = law.log_loss(law.shifted(theta, 2.0, 3.0), points.minus(2.0, 3.0))
    assert moved == pytest.approx(surface(theta)[0], abs=1e-12)
    assert law.theta(law.values(theta)) == pytest.approx(theta)


# of the LSTM; at D it meets the GPT where 18 N^-.36 + .62 = 9 N^-.31 + .7
LSTM_TRUTH = {"E": 0.7, "A": 9.0, "B": 60.0, "alpha": 0.31, "beta": 0.35}


def test_equal_flops_and_equal_time_move_the_crossover(tmp_path):
    # a GPT token costs as many FLOPs as that of an LSTM of twice the size
    rows = ladder(noise=0.001, flops=(6.0, 1.0), train_seconds=(4.5e-9, 1.0))
    rows += ladder("lstm", LSTM_TRUTH, 0.001, flops=(3.0, 1.0), train_seconds=(3e-9, 1.0))
    fits = fitted(tmp_path, rows, "--law", "chinchilla")
    same = entries(fits, "equal_params")
    assert all(entry["n_params"] == pytest.approx(25_038, rel=0.1) for entry in same)
    for at, ratio in (("equal_flops", 1 / 2), ("equal_time", 2 / 3)):
        found = [entry for entry in entries(fits, at) if entry["n_tokens"] is not None]
        assert len(found) == 4
        for entry in found:
            by_arch = entry["n_params_by_arch"]
            assert by_arch["gpt"] == pytest.approx(entry["n_params"])
            assert by_arch["gpt"] / by_arch["lstm"] == pytest.approx(ratio)
            gpt, lstm = (
                loss_of("chinchilla", truth, by_arch[arch], entry["n_tokens"])[0]
                for arch, truth in (("gpt", TRUTH), ("lstm", LSTM_TRUTH))
            )
            assert gpt == pytest.approx(lstm, rel=0.005)
            if entry["interval_95"] is not None:
                assert entry["interval_95"][0] < entry["n_params"] < entry["interval_95"][1]
    best = entries(fits, "equal_flops")[-1]
    assert best["n_tokens"] is None
    assert "own compute-optimal size" in best["note"]


def test_without_seconds_equal_time_has_no_data(tmp_path):
    fits = fitted(tmp_path, ladder() + ladder("lstm", LSTM_TRUTH), "--law", "chinchilla")
    (time,) = entries(fits, "equal_time")
    assert (time["n_params"], time["interval_95"]) == (None, None)
    assert time["note"].startswith("no data")
    assert entries(fits, "equal_flops")[0]["note"].startswith("no data")


def test_frontier_has_the_closed_form_and_the_search_agrees_with_it(tmp_path):
    fits = fitted(tmp_path, ladder(noise=0.0005, seeds=2), "--law", "chinchilla")
    frontier = fits["frontier"]["gpt"]
    share = TRUTH["beta"] / (TRUTH["alpha"] + TRUTH["beta"])
    low, high = frontier["n_opt_exponent_6nd_interval_95"]
    assert low < share < high
    assert [point["extrapolated"] for point in frontier["points"]][-2:] == [True, True]
    for point in frontier["points"]:
        assert 6 * point["n_params"] * point["n_tokens"] == pytest.approx(point["flops"])
    law = LAWS["chinchilla"]
    known = FittedLaw("gpt", law, law.theta(TRUTH), None, None, (8e3, 1.5e6), (), (2e6, 1.6e7))
    six = CostCurve.kaplan(8e3, 1.5e6)
    searched = FittedLaw(**{**vars(known), "flops": six})
    log_c = np.log([1e12, 1e13, 1e14])
    g = (TRUTH["alpha"] * TRUTH["A"] / TRUTH["beta"] / TRUTH["B"]) ** (
        1 / (TRUTH["alpha"] + TRUTH["beta"])
    )
    expected = np.log(g * (np.exp(log_c) / 6) ** share)
    assert best_use(known, known.theta, log_c)[0] == pytest.approx(expected)
    assert best_use(searched, known.theta, log_c)[0] == pytest.approx(expected, abs=0.01)


def answer(capsys, path, *arguments):
    assert predict.main([str(path), *arguments]) == 0
    return capsys.readouterr().out


def test_predictions_have_intervals_and_name_extrapolation(synthetic, capsys):
    text = answer(capsys, synthetic, "--flops", "1e19")
    assert text.startswith("gpt (chinchilla): loss 0.6")
    assert text.count("extrapolated: n_params") == 2
    assert "[" in text
    inside = answer(capsys, synthetic, "--params", "3e5", "--tokens", "8e6")
    truth = loss_of("chinchilla", TRUTH, 3e5, 8e6)[0]
    assert float(inside.split("loss ")[1].split()[0]) == pytest.approx(truth, rel=0.01)
    assert "extrapolated" not in inside
    assert "hours on one h100 at 25%" in answer(capsys, synthetic, "--hours-on", "h100")
    assert "at 40%" in answer(
        capsys, synthetic, "--flops", "1e17", "--hours-on", "a100", "--mfu", "0.4"
    )


def test_size_and_tokens_that_a_budget_asks_for_ask_for_the_budget(synthetic):
    fitted_law = predict.read_fits(synthetic)["gpt"]
    best = questions.ask(fitted_law, questions.Question(log_c=np.log(1e14)))
    n, d = best["n_params"][0], best["n_tokens"][0]
    for question in (questions.Question(log_n=np.log(n)), questions.Question(log_d=np.log(d))):
        assert questions.ask(fitted_law, question)["flops"][0] == pytest.approx(1e14, rel=0.02)
    both = questions.ask(fitted_law, questions.Question(log_n=np.log(n), log_d=np.log(d)))
    assert both["loss"][0] == pytest.approx(best["loss"][0])


def test_questions_without_an_answer_are_one_clear_line(tmp_path, capsys, synthetic):
    def error(path, *arguments):
        assert predict.main([str(path), *arguments]) == 2
        return capsys.readouterr().err

    assert "nothing to predict" in error(synthetic)
    assert "--flops is -1" in error(synthetic, "--flops", "-1")
    assert "two of them fix the third" in error(
        synthetic, "--flops", "1", "--params", "1", "--tokens", "1"
    )
    assert "expected above 0 and at most 1" in error(synthetic, "--flops", "1", "--mfu", "2")
    (tmp_path / "empty.json").write_text("{}")
    assert "not a fits.json" in error(tmp_path / "empty.json", "--flops", "1")
    fitted(tmp_path, ladder(budgets=BUDGETS[:1]), "--law", "power")
    capsys.readouterr()
    assert "is in N alone" in error(tmp_path / "fits.json", "--flops", "1e12")
    assert "gpt (power): loss" in answer(capsys, tmp_path / "fits.json", "--params", "1e5")
