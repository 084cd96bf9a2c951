import json

import numpy as np
import pytest
from known_ladder import SIZES, TOKENS, TRUTH, ladder

from scaling import forecasts, sensitivity
from scaling.fit_options import Settings

ROWS_OF_A_TABLE = 2 + 3 + sensitivity.MOST_LEFT_OUT + 3  # quoted, squares; deltas, parameters; runs


def test_each_choice_is_changed_by_itself_and_has_its_own_fit(tmp_path, capsys):
    out = tmp_path / "sensitivity.json"
    arguments = [str(ladder(tmp_path, noise=1e-3)), "--out", str(out), "--law", "chinchilla"]
    assert sensitivity.main([*arguments, "--bootstrap", "6"]) == 0
    rows = json.loads(out.read_text())["families"]["gpt"]
    assert len(rows) == ROWS_OF_A_TABLE
    assert [row["changed"] for row in rows][:2] == ["as fitted", "objective"]
    for row in rows:
        assert row["params"]["alpha"] == pytest.approx(TRUTH["alpha"], abs=0.06)
    by_choice = {row["to"]: row for row in rows}
    assert by_choice["without the 2 smallest sizes"]["n_sizes"] == len(SIZES) - 2
    assert by_choice["without the most tokens"]["n_runs"] == len(SIZES) * (len(TOKENS) - 1)
    embedded = by_choice["with embeddings"]["params"]
    assert embedded["A"] / rows[0]["params"]["A"] == pytest.approx(1.1**0.36, rel=0.01)
    assert "gpt: alpha 0.3" in capsys.readouterr().out


def test_a_choice_that_leaves_too_few_runs_says_so(tmp_path):
    table = ladder(tmp_path, noise=1e-3, sizes=SIZES[:5])
    settings = Settings(("chinchilla",), "huber_log", 20, 0, {})
    (few,) = (
        choice
        for choice in sensitivity.choices(table, "gpt", settings)
        if choice.to == "without the 3 smallest sizes"
    )
    assert "at least 4 needed" in sensitivity.refit(few, "chinchilla")["refused"]


def size_file(folder, width, name="gpt_later"):
    path = folder / f"{name}.yaml"
    model = f"{{model_type: abc_gpt, num_hidden_layers: 2, hidden_size: {width}}}"
    path.write_text(f"base: bases/base.yaml\nmodel: {model}\n")
    return path


def predicted(folder, *arguments):
    out = folder / "forecasts.json"
    command = [str(folder / "runs.csv"), "--date", "2026-12-01", "--out", str(out), *arguments]
    command += ["--bootstrap", "40"]
    assert forecasts.main(command) == 0
    return out


def test_later_runs_of_the_same_law_lie_in_the_intervals_of_the_predictions(tmp_path, capsys):
    ladder(tmp_path, noise=2e-3)
    later = size_file(tmp_path, 512)
    out = predicted(tmp_path, "--sizes", str(later), "--tokens", "1e8", "--flops", "1e17")
    rows = json.loads(out.read_text())["predictions"]
    assert {row["from"] for row in rows} == {"all runs", "without the 2 largest sizes"}
    (name, n_params) = forecasts.size_of(later)
    assert (name, n_params) == ("gpt", 2 * 12 * 512**2 + 5 * 512)
    best = next(row for row in rows if row["given"] == {"flops": 1e17})
    assert best["n_params"] * best["n_tokens"] * 6 == pytest.approx(1e17, rel=0.01)
    capsys.readouterr()
    table = ladder(
        tmp_path / "later", noise=2e-3, sizes=np.array([n_params]), tokens=np.array([1e8])
    )
    assert forecasts.main([str(table), "--compare", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.count("gpt_later") == text.count("inside)") == 2


def test_the_two_largest_sizes_are_predicted_from_the_smaller_ones(tmp_path, capsys):
    table = ladder(tmp_path, noise=2e-3)
    out = predicted(tmp_path, "--sizes", str(size_file(tmp_path, 512)), "--tokens", "1e8")
    capsys.readouterr()
    assert forecasts.main([str(table), "--compare", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == 2 * len(TOKENS)
    assert all("without the 2 largest sizes" in line for line in lines)


def test_a_loss_off_the_law_is_outside(tmp_path, capsys):
    ladder(tmp_path, noise=2e-3)
    out = predicted(tmp_path, "--sizes", str(size_file(tmp_path, 512)), "--tokens", "1e8")
    capsys.readouterr()
    table = tmp_path / "later.csv"
    n_params = forecasts.size_of(tmp_path / "gpt_later.yaml")[1]
    table.write_text(f"arch,n_params,n_tokens,loss\ngpt,{n_params},1e8,1.5\n")
    assert forecasts.main([str(table), "--compare", str(out)]) == 0
    assert "outside)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--sizes", "{size}", "--tokens", "1e8", "--date", "soon", "--out", "x"],
            "--date is 'soon'",
        ),
        (["--sizes", "{size}", "--tokens", "1e8"], "nothing to write: give --sizes"),
        (
            ["--sizes", "{runs}", "--tokens", "1e8", "--date", "2026-12-01", "--out", "x"],
            "size file",
        ),
        (["--compare", "{runs}"], "not a file of predictions"),
    ],
)
def test_bad_questions_are_one_clear_line(tmp_path, capsys, arguments, message):
    runs, size = ladder(tmp_path), size_file(tmp_path, 512)
    filled = [each.format(runs=runs, size=size) for each in arguments]
    assert forecasts.main([str(runs), *filled]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
