import json

import numpy as np
import pytest
from known_ladder import SIZES, TRUTH, ladder

from scaling import fit, inference

SECONDS_A_WEIGHT = 1e-9
N_TOKENS = 6e6


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """fits.json of a ladder of a known law."""
    folder = tmp_path_factory.mktemp("fits")
    table, out = ladder(folder, noise=1e-3), folder / "fits.json"
    arguments = ["--out", str(out), "--bootstrap", "100", "--law", "chinchilla"]
    assert fit.main([str(table), *arguments]) == 0
    return out


def step_times(folder, rows):
    path = folder / "step_time.json"
    path.write_text(json.dumps({"rows": rows}))
    return path


def timed(family="gpt", sizes=SIZES, **changes):
    row = {"family": family, "context": 256, "batch": 1}
    return [
        row | {"n_params": int(n), "step_seconds": SECONDS_A_WEIGHT * n} | changes for n in sizes
    ]


def test_a_budget_affords_the_size_whose_step_takes_that_long(tmp_path, fits, monkeypatch, capsys):
    monkeypatch.setattr(inference, "BUDGETS", (0.1, 1.0, 1e9))
    rows = [*timed(), *timed(batch=8, step_seconds=9.0), *timed("lstm")]  # the lstm has no law
    out = tmp_path / "inference.json"
    arguments = [str(step_times(tmp_path, rows)), str(fits), "--tokens", str(N_TOKENS)]
    assert inference.main([*arguments, "--out", str(out)]) == 0
    table = json.loads(out.read_text())["budgets"]
    assert [row["seconds_per_1000_tokens"] for row in table] == [0.1, 1.0]
    (family,) = table[0]["families"]
    n_params = 0.1 / 1000 / SECONDS_A_WEIGHT
    truth = TRUTH["E"] + TRUTH["A"] / n_params ** TRUTH["alpha"]
    truth += TRUTH["B"] / N_TOKENS ** TRUTH["beta"]
    assert family["n_params"] == pytest.approx(n_params, rel=1e-3)
    assert family["loss"] == pytest.approx(truth, rel=3e-3)
    assert np.diff(family["loss_interval_95"]) > 0
    assert "1 s per 1,000 tokens: gpt" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (timed(sizes=SIZES[:1]), "gpt was timed at 1 sizes, expected two or more"),
        (timed("lstm"), "no timed family has a law in N and D"),
        ([{"family": "gpt"}], "no step times"),
    ],
)
def test_times_that_cannot_be_used_are_one_clear_line(tmp_path, fits, capsys, rows, message):
    path = step_times(tmp_path, rows)
    arguments = ["--tokens", "1e6", "--out", str(tmp_path / "out.json")]
    assert inference.main([str(path), str(fits), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
