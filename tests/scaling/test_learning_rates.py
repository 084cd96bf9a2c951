import csv
import json

import numpy as np
import pytest

from scaling import learning_rates
from training.study.study_file import learning_rate_by_rule, read_rule

RATES = (5e-4, 1e-3, 2e-3, 4e-3, 8e-3, 16e-3)
SIZES = {"small": 10_000, "middle": 40_000, "large": 640_000}


def best_rate(n_params):
    return np.exp(0.5) * n_params**-0.55


def write_sweep(path, sizes=SIZES, rates=RATES, arch="gpt"):
    """Losses that lie on a parabola around a known rule."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["run", *learning_rates.COLUMNS])
        for size, n_params in sizes.items():
            for rate in rates:
                loss = 1 + 10 / n_params**0.3 + 0.05 * np.log(rate / best_rate(n_params)) ** 2
                writer.writerow([f"{size}{rate}", arch, size, n_params, 3_000_000, rate, loss])
    return path


def test_rule_of_the_sweep_is_found_and_the_planner_reads_it(tmp_path):
    out = tmp_path / "results" / "learning_rates.json"
    assert learning_rates.main([str(write_sweep(tmp_path / "runs.csv")), "--out", str(out)]) == 0
    family = json.loads(out.read_text())["families"]["abc_gpt"]
    assert family["rule"]["g"] == pytest.approx(0.55)
    assert family["rule"]["c"] == pytest.approx(0.5)
    for size in family["sizes"]:
        assert size["best_rate"] == pytest.approx(best_rate(size["n_params"]))
        assert size["loss_by_rule_above_best"] == pytest.approx(0, abs=1e-9)
    assert family["largest_size_from_smaller"]["rate_over_best"] == pytest.approx(1)
    rule = read_rule(tmp_path / "study.yaml", {"learning_rate_rule": "results/learning_rates.json"})
    rate = learning_rate_by_rule(rule, "abc_gpt", 100_000)
    assert rate == pytest.approx(best_rate(100_000), rel=5e-3)
    with pytest.raises(ValueError, match="covers abc_gpt, not abc_lstm"):
        learning_rate_by_rule(rule, "abc_lstm", 100_000)


def test_best_rate_at_the_edge_is_marked_and_not_fitted(tmp_path, capsys):
    out = tmp_path / "learning_rates.json"
    sizes = {**SIZES, "tiny": 300}  # its best is far above the rates tried
    assert (
        learning_rates.main([str(write_sweep(tmp_path / "runs.csv", sizes)), "--out", str(out)])
        == 0
    )
    family = json.loads(out.read_text())["families"]["abc_gpt"]
    assert [size["at_edge"] for size in family["sizes"]] == [True, False, False, False]
    assert family["rule"]["g"] == pytest.approx(0.55)
    assert "at the edge of its sweep" in capsys.readouterr().out


def test_rule_needs_two_sizes_with_their_best_inside(tmp_path, capsys):
    path = write_sweep(tmp_path / "runs.csv", {"small": 10_000, "tiny": 300})
    assert learning_rates.main([str(path), "--out", str(tmp_path / "out.json")]) == 2
    error = capsys.readouterr().err
    assert "at the edge: tiny (best 0.016); sweep further there" in error
    assert not (tmp_path / "out.json").exists()


def test_table_that_is_no_sweep_is_one_line(tmp_path, capsys):
    out = str(tmp_path / "out.json")
    few = write_sweep(tmp_path / "few.csv", rates=RATES[:2])
    assert learning_rates.main([str(few), "--out", out]) == 2
    assert "expected 3 or more rates, one run each" in capsys.readouterr().err
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert learning_rates.main([str(tmp_path / "other.csv"), "--out", out]) == 2
    assert "no column 'arch'" in capsys.readouterr().err
