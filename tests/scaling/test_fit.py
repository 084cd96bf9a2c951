import csv
import json

import numpy as np
import pytest

from scaling import fit, plots, predict
from scaling.fitting.intervals import LogLine
from scaling.laws.law import Needs, Points
from scaling.laws.power_sums import PowerSum, Term
from scaling.laws.registry import LAWS
from scaling.reporting import tables

SIZES_5 = (3_100, 14_000, 39_000, 99_000, 332_000)
SIZES_8 = tuple(np.geomspace(3_000, 3_000_000, 8).round().astype(int).tolist())
STUDY_A_N = (828_544, 4_803_840, 21_366_144, 50_512_384, 113_517_312)
STUDY_A_LOSS = (0.6528, 0.4793, 0.4510, 0.4365, 0.4250)


def rows_of(sizes, losses, arch="gpt", n_tokens=100_000_000, seed=0):
    return [
        {
            "arch": arch,
            "n_params": n,
            "n_tokens": n_tokens,
            "loss": loss,
            "run": f"{arch}_{n}_{n_tokens}_{seed}",
        }
        for n, loss in zip(sizes, losses, strict=True)
    ]


def power_rows(sizes=SIZES_5, c=4.0, alpha=0.07, floor=0.0, noise=0.0, seeds=1, **kwargs):
    rng = np.random.default_rng(len(sizes) * 10 + seeds)
    rows = []
    for seed in range(seeds):
        losses = [(c * n**-alpha + floor) * np.exp(noise * rng.normal()) for n in sizes]
        rows += rows_of(sizes, losses, seed=seed, **kwargs)
    return rows


def write_table(path, rows):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def fitted(tmp_path, rows, *arguments):
    table, out = write_table(tmp_path / "runs.csv", rows), tmp_path / "fits.json"
    assert fit.main([str(table), "--out", str(out), "--bootstrap", "100", *arguments]) == 0
    return json.loads(out.read_text())


def error_of(capsys, path, *arguments):
    assert fit.main([str(path), *arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


@pytest.mark.parametrize("objective", ["huber_log", "squares"])
def test_fit_recovers_a_known_power_law(tmp_path, objective):
    law = fitted(tmp_path, power_rows(), "--objective", objective)["laws"]["gpt"]["power"]
    assert law["params"]["C"] == pytest.approx(4.0, rel=1e-5)
    assert law["params"]["alpha"] == pytest.approx(0.07, rel=1e-5)
    assert law["holdout_error"] < 1e-5
    assert law["objective"] == objective


@pytest.mark.parametrize("objective", ["huber_log", "squares"])
def test_fit_recovers_a_known_power_law_with_a_floor(tmp_path, objective):
    rows = power_rows(SIZES_8, c=18.0, alpha=0.36, floor=0.62)
    laws = fitted(tmp_path, rows, "--objective", objective)["laws"]["gpt"]
    params = laws["power_floor"]["params"]
    assert params["a"] == pytest.approx(18.0, rel=1e-3)
    assert params["alpha"] == pytest.approx(0.36, rel=1e-3)
    assert params["c"] == pytest.approx(0.62, rel=1e-3)
    assert laws["chosen"] == "power_floor"


def test_floor_intervals_cover_the_truth_with_enough_runs(tmp_path):
    rows = power_rows(SIZES_8, c=18.0, alpha=0.36, floor=0.62, noise=0.004, seeds=3)
    law = fitted(tmp_path, rows)["laws"]["gpt"]["power_floor"]
    for name, truth in {"a": 18.0, "alpha": 0.36, "c": 0.62}.items():
        low, high = law["interval_95"][name]
        assert low < truth < high
    assert "24 runs drawn with replacement" in law["interval_method"]


def test_a_further_law_is_one_entry_and_then_fitted_drawn_and_printed(tmp_path, monkeypatch):
    law = PowerSum(
        name="additive_without_floor",
        formula="L = A / N^alpha + B / D^gamma",
        label=r"$L=A/N^{\alpha}+B/D^{\gamma}$",
        kinds={"A": "scale", "B": "scale", "alpha": "exponent", "gamma": "exponent"},
        needs=Needs(4, "", budgets=3),
        terms=(Term("A", n_exponent="alpha"), Term("B", d_exponent="gamma")),
    )
    monkeypatch.setitem(LAWS, law.name, law)
    n, d = (a.ravel() for a in np.meshgrid(SIZES_8, np.geomspace(2e6, 1.6e7, 4).round()))
    truth = {"A": 18.0, "B": 60.0, "alpha": 0.36, "gamma": 0.35}
    loss = np.exp(law.log_loss(law.theta(truth), Points.once(np.log(n), np.log(d))))
    rows = [rows_of([x], [y], n_tokens=z)[0] for x, y, z in zip(n, loss, d, strict=True)]
    fits = fitted(tmp_path, rows, "--law", law.name)
    assert fits["laws"]["gpt"][law.name]["params"] == pytest.approx(truth, rel=1e-3)
    assert plots.main([str(tmp_path)]) == 0
    figure = (tmp_path / "figures" / "scaling_law.svg").read_text()
    assert all(f"{text} -->" in figure for text in (law.label, r"$\gamma$ = 0.350 (no interval)"))
    (line,) = [line for line in tables.laws_table(fits) if law.name in line]
    assert "alpha 0.360 [not identified], gamma 0.350 [not identified] |  |" in line
    assert list(predict.read_fits(tmp_path / "fits.json")) == ["gpt"]


def test_student_interval_covers_the_truth_in_95_of_100_ladders():
    rng = np.random.default_rng(0)
    log_n = np.log(np.array(SIZES_5, dtype=float))
    covered = 0
    for _ in range(1000):
        log_loss = np.log(4) - 0.07 * log_n + rng.normal(0, 0.01, len(log_n))
        low, high = LogLine.through(log_n, log_loss).interval()[:, 1]
        covered += low <= 0.07 <= high
    assert 930 <= covered <= 970


def test_reported_interval_of_short_ladders_is_that_of_student(tmp_path):
    """Which covers the truth as often as it says, by the test before."""
    rng = np.random.default_rng(1)
    for _ in range(10):
        losses = [4 * n**-0.07 * np.exp(rng.normal(0, 0.01)) for n in SIZES_5]
        fits = fitted(tmp_path, rows_of(SIZES_5, losses), "--law", "power")
        reported = fits["laws"]["gpt"]["power"]["interval_95"]["alpha"]
        line = LogLine.through(np.log(SIZES_5), np.log(losses))
        assert reported == pytest.approx(line.interval()[:, 1], rel=1e-5)


def test_interval_method_names_the_degrees_of_freedom_for_few_runs(tmp_path):
    law = fitted(tmp_path, power_rows(noise=0.01))["laws"]["gpt"]["power"]
    assert "Student t with 3 degrees of freedom" in law["interval_method"]
    low, high = law["interval_95"]["alpha"]
    assert low < law["params"]["alpha"] < high
    assert (law["n_sizes"], law["n_runs"], law["n_tokens"]) == (5, 5, 100_000_000)


def test_seeds_of_one_size_count_as_one_point_of_the_line(tmp_path):
    law = fitted(tmp_path, power_rows(SIZES_5[:3], noise=0.01, seeds=3))["laws"]["gpt"]["power"]
    assert "Student t with 1 degrees of freedom" in law["interval_method"]
    assert (law["n_sizes"], law["n_runs"]) == (3, 9)


def test_exact_points_give_no_interval_but_a_warning(tmp_path):
    fits = fitted(tmp_path, power_rows() + power_rows(alpha=0.05, c=3.2, arch="lstm"))
    law = fits["laws"]["gpt"]["power"]
    assert law["interval_95"] == {"C": None, "alpha": None}
    assert any("passes through the runs exactly" in warning for warning in law["warnings"])
    assert fits["crossovers"][0]["interval_95"] is None


def test_floor_is_refused_below_six_sizes_with_the_reason(tmp_path):
    laws = fitted(tmp_path, power_rows(noise=0.01))["laws"]["gpt"]
    assert "5 sizes, at least 6 needed" in laws["power_floor"]["refused"]
    assert laws["chosen"] == "power"


def test_two_sizes_are_refused_by_every_law(tmp_path):
    fits = fitted(tmp_path, power_rows(SIZES_5[:2]))
    laws = fits["laws"]["gpt"]
    assert "2 sizes, at least 3 needed" in laws["power"]["refused"]
    assert laws["chosen"] is None
    assert fits["crossovers"] == []


def test_a_floor_that_the_runs_do_not_fix_has_no_interval(tmp_path):
    law = fitted(tmp_path, power_rows(SIZES_8, noise=0.01, seeds=2))["laws"]["gpt"]["power_floor"]
    assert law["interval_95"]["c"] is None
    assert any("not identified" in warning for warning in law["warnings"])


def test_holdout_needs_four_sizes(tmp_path):
    laws = fitted(tmp_path, power_rows(SIZES_5[:3], noise=0.01))["laws"]["gpt"]
    assert laws["power"]["holdout_error"] is None


def test_mixed_token_counts_are_fitted_at_the_largest_common_one(tmp_path):
    rows = power_rows(n_tokens=2_000_000) + power_rows(c=3.9, n_tokens=8_000_000)
    rows += power_rows(SIZES_5[:2], c=3.8, n_tokens=16_000_000)
    law = fitted(tmp_path, rows, "--law", "power")["laws"]["gpt"]["power"]
    assert law["n_tokens"] == 8_000_000
    assert law["params"]["C"] == pytest.approx(3.9, rel=1e-5)
    assert "fitted at 8e+06 tokens" in law["warnings"][0]


def test_token_counts_without_a_common_one_are_refused(tmp_path):
    rows = [row for i, n in enumerate(SIZES_5) for row in power_rows((n,), n_tokens=10**6 + i)]
    law = fitted(tmp_path, rows)["laws"]["gpt"]["power"]
    assert "no count is shared by all sizes" in law["refused"]


def test_doubts_about_the_runs_are_warned_of(tmp_path):
    rows = power_rows(floor=1.0, c=30.0, alpha=0.3, n_tokens=1_000_000)
    rows = [row | {"unique_tokens": 100_000} for row in rows]
    warnings = " ".join(fitted(tmp_path, rows)["laws"]["gpt"]["power"]["warnings"])
    assert "the points bend in log-log" in warnings
    assert "saw 3 tokens per parameter" in warnings
    assert "5 of 5 runs repeat their data" in warnings


def test_crossover_is_found_with_an_interval(tmp_path):
    # 4.0 N^-.07 = 3.2 N^-.05 at N = 1.25^50 = 70 065
    rows = power_rows(noise=0.001) + power_rows(c=3.2, alpha=0.05, noise=0.001, arch="lstm")
    entry = fitted(tmp_path, rows)["crossovers"][0]
    assert entry["archs"] == ["gpt", "lstm"]
    assert entry["n_params"] == pytest.approx(70_065, rel=0.15)
    low, high = entry["interval_95"]
    assert low < 70_065 < high
    assert entry["found_fraction"] > 0.95
    assert not entry["extrapolated"]


def test_crossover_outside_the_measured_range_is_not_quoted(tmp_path):
    # 4.4 N^-.07 = 3.2 N^-.05 at N = 1.375^50 = 8.24 million
    rows = power_rows(c=4.4) + power_rows(c=3.2, alpha=0.05, arch="lstm")
    entry = fitted(tmp_path, rows)["crossovers"][0]
    assert entry["n_params"] is None
    assert entry["interval_95"] is None
    assert entry["extrapolated"]
    assert entry["n_params_extrapolated"] == pytest.approx(1.375**50, rel=1e-3)


def test_families_that_never_meet_have_no_crossover(tmp_path):
    rows = power_rows(c=3.0) + power_rows(c=3.2, arch="lstm")
    entry = fitted(tmp_path, rows)["crossovers"][0]
    assert entry["n_params"] is None
    assert entry["n_params_extrapolated"] is None
    assert not entry["extrapolated"]
    assert entry["note"] == "no crossover in the measured range"


def test_crossover_at_different_token_counts_is_left_open(tmp_path):
    rows = power_rows() + power_rows(c=3.2, arch="lstm", n_tokens=5_000_000)
    entry = fitted(tmp_path, rows)["crossovers"][0]
    assert entry["n_params"] is None
    assert "different D" in entry["note"]


def test_order_and_repeated_rows_change_nothing(tmp_path):
    rows = power_rows(noise=0.01, seeds=2) + power_rows(c=3.2, noise=0.01, arch="lstm")
    plain = fitted(tmp_path, rows)
    shuffled = fitted(tmp_path, [*reversed(rows), *rows[:4]])
    assert shuffled["laws"] == plain["laws"]
    assert shuffled["crossovers"] == plain["crossovers"]
    reasons = [drop["reason"] for drop in shuffled["input"]["dropped"]]
    assert len(reasons) == 4
    assert all(reason.startswith("duplicate of row") for reason in reasons)


def test_order_changes_nothing_without_run_names(tmp_path):
    rows = power_rows(noise=0.01, seeds=2)
    rows = [{k: row[k] for k in ("n_params", "n_tokens", "loss")} for row in rows]
    assert fitted(tmp_path, rows)["laws"] == fitted(tmp_path, rows[::-1])["laws"]


def test_same_input_gives_the_same_bytes(tmp_path):
    rows = power_rows(seeds=2, noise=0.01) + power_rows(c=3.2, arch="lstm", noise=0.01)
    fitted(tmp_path, rows)
    first = (tmp_path / "fits.json").read_bytes()
    fitted(tmp_path, rows)
    assert (tmp_path / "fits.json").read_bytes() == first
    fitted(tmp_path, rows, "--seed", "1")
    assert (tmp_path / "fits.json").read_bytes() != first


def test_unusable_losses_are_dropped_and_listed(tmp_path):
    rows = power_rows()
    for position, loss in ((0, "nan"), (1, -1.0), (2, "")):
        rows.insert(position, rows[0] | {"loss": loss, "run": f"bad{position}"})
    fits = fitted(tmp_path, rows)
    assert [drop["row"] for drop in fits["input"]["dropped"]] == [2, 3, 4]
    assert fits["input"]["dropped"][1]["reason"] == "loss is -1, expected above 0"
    assert fits["input"]["rows"] == 8
    assert fits["laws"]["gpt"]["power"]["n_runs"] == 5


def test_rows_left_out_are_told_on_the_terminal(tmp_path, capsys):
    fitted(tmp_path, [*power_rows(), *rows_of([5_000], ["nan"])], "--law", "power")
    line = "left out, row 7 (gpt_5000_100000000_0): loss is not a finite number"
    assert line in capsys.readouterr().out.splitlines()


def test_losses_that_are_all_one_are_refused_and_drawn_without_a_law(tmp_path):
    laws = fitted(tmp_path, rows_of(SIZES_8, [1.5] * 8))["laws"]["gpt"]
    assert laws["chosen"] is None
    assert "all 8 runs have the loss 1.5" in laws["power"]["refused"]
    assert plots.main([str(tmp_path)]) == 0


def test_other_column_names_are_mapped(tmp_path):
    rows = [{"N": r["n_params"], "D": r["n_tokens"], "L": r["loss"]} for r in power_rows()]
    fits = fitted(tmp_path, rows, "--columns", "n_params=N,n_tokens=D,loss=L")
    assert list(fits["laws"]) == ["all"]
    assert fits["laws"]["all"]["power"]["params"]["alpha"] == pytest.approx(0.07, rel=1e-5)


def test_study_says_how_its_runs_are_fitted(tmp_path, capsys):
    (tmp_path / "fit.json").write_text('{"objective": "squares", "columns": {"loss": "L"}}')
    rows = [{"L" if k == "loss" else k: v for k, v in row.items()} for row in power_rows()]
    settings = fitted(tmp_path, rows)["settings"]
    assert (settings["objective"], settings["columns"]) == ("squares", {"loss": "L"})
    settings = fitted(tmp_path, rows, "--objective", "huber_log")["settings"]
    assert (settings["objective"], settings["columns"]) == ("huber_log", {"loss": "L"})
    (tmp_path / "fit.json").write_text('{"objectiv": "squares"}')
    capsys.readouterr()
    assert "did you mean objective?" in error_of(capsys, tmp_path / "runs.csv")


def test_study_a_needs_the_objective_named(tmp_path):
    rows = rows_of(STUDY_A_N, STUDY_A_LOSS)
    squares = fitted(tmp_path, rows, "--objective", "squares")["laws"]["gpt"]
    assert squares["power"]["params"]["alpha"] == pytest.approx(0.0828, abs=5e-5)
    assert "refused" in squares["power_floor"]
    robust = fitted(tmp_path, rows)["laws"]["gpt"]["power"]
    assert any("alpha depends on the objective" in text for text in robust["warnings"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("n_params,n_tokens,loss\n", "only a header row"),
        ("n_params,n_tokens,loss\n1,2,x\n", "row 2: loss is 'x', expected a number"),
        ("n_params,n_tokens,loss\n1,2,3\n1,2\n", "row 3: 2 cells, expected 3"),
        ("N,n_tokens,loss\n1,2,3\n", "nearest is 'N': rename it or give --columns n_params=N"),
        ("n_params,n_tokens,val_loss\n1,2,3\n", "give --columns loss=val_loss"),
        ("n_params,n_tokens,loss\n1,2,0\n", "no usable run in 1 rows; row 2: loss is 0"),
    ],
)
def test_bad_tables_are_one_clear_line(tmp_path, capsys, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text)
    assert message in error_of(capsys, path)


def test_a_table_with_semicolons_says_so(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    path.write_text("arch;n_params;n_tokens;loss\ngpt;1000;5000;1,5\n")
    assert "separated by ';', expected commas" in error_of(capsys, path)


def test_bad_arguments_are_one_clear_line(tmp_path, capsys):
    path = write_table(tmp_path / "runs.csv", power_rows())
    assert "no column 'x'" in error_of(capsys, path, "--columns", "loss=x")
    assert "nearest is 'n_params'" in error_of(capsys, path, "--columns", "nparams=N")
    assert "expected OUR_NAME=NAME_IN_THE_FILE" in error_of(capsys, path, "--columns", "loss")
    assert "expected 100 or more" in error_of(capsys, path, "--bootstrap", "5")
    assert "missing.csv" in error_of(capsys, tmp_path / "missing.csv")
    binary = tmp_path / "binary.csv"
    binary.write_bytes(b"\xff\xfe\x00\x01")
    assert "not a UTF-8 table" in error_of(capsys, binary)


def test_every_law_says_why_it_needs_its_sizes():
    assert all(law.needs.why for law in LAWS.values())
