import csv
import json

import pytest

from scaling import choices


def table(folder, rows, header=("arch", "n_params", "n_tokens", "learning_rate", "loss", "optim")):
    path = folder / "runs.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def swept(optim, losses, n_params=1000, arch="gpt", n_tokens=2**20):
    rates = (1e-3, 2e-3, 4e-3)
    return [(arch, n_params, n_tokens, r, x, optim) for r, x in zip(rates, losses, strict=True)]


def compared(folder, rows, *arguments):
    out = folder / "out.json"
    command = [str(table(folder, rows)), "--by", "optim", "--reference", "adamw", "--out", str(out)]
    code = choices.main([*command, *arguments])
    return json.loads(out.read_text())["sizes"] if code == 0 else code


def test_each_value_answers_with_its_best_learning_rate(tmp_path, capsys):
    rows = swept("adamw", (1.3, 1.2, 1.4)) + swept("muon", (1.15, 1.25, 1.3))
    (size,) = compared(tmp_path, rows)
    adamw, muon = size["values"]
    assert (adamw["value"], adamw["loss"], adamw["learning_rate"]) == ("adamw", 1.2, 2e-3)
    assert muon["difference"] == pytest.approx(-0.05)
    assert (adamw["at_edge"], muon["at_edge"]) == (False, True)
    assert "muon: 1.1500 (-0.0500) at 0.001, at the edge of its sweep" in capsys.readouterr().out


def test_seeds_of_one_rate_are_averaged(tmp_path):
    rows = swept("adamw", (1.3, 1.0, 1.4)) + swept("adamw", (1.3, 1.4, 1.4))
    rows += swept("muon", (1, 2, 3))
    assert compared(tmp_path, rows)[0]["values"][0]["losses"] == [1.3, 1.2, 1.4]


def test_families_come_in_their_order_and_sizes_ascend(tmp_path):
    rows = [
        row
        for arch, n in (("lstm", 5), ("gpt", 10), ("gpt", 9))
        for optim in ("adamw", "muon")
        for row in swept(optim, (1, 2, 3), n, arch)
    ]
    found = [(size["arch"], size["n_params"]) for size in compared(tmp_path, rows)]
    assert found == [("gpt", 9), ("gpt", 10), ("lstm", 5)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no size was trained with several values of optim"),
        (swept("muon", (1, 2, 3)), "no size was trained with several values of optim"),
        (swept("muon", (1, 2, 3)) + swept("sgd", (1, 2, 3)), "no run of adamw, found muon, sgd"),
        (swept("adamw", (1, 2, 3), n_tokens=1) + swept("muon", (1, 2, 3)), "expected one count"),
        ([("gpt", "many", 1, 1, 1, "adamw")], "expected runs.csv with the columns arch, n_params"),
    ],
)
def test_tables_that_cannot_be_compared_are_one_clear_line(tmp_path, capsys, rows, message):
    assert compared(tmp_path, rows) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_sizes_with_one_value_are_left_out_and_several_tables_are_one(tmp_path):
    (tmp_path / "other").mkdir()
    adamw = table(
        tmp_path / "other", swept("adamw", (2.0, 1.8, 1.9)) + swept("adamw", (3, 3, 3), 9)
    )
    table(tmp_path, swept("muon", (1.9, 1.7, 1.8)))
    out = tmp_path / "out.json"
    paths = [str(tmp_path / "runs.csv"), str(adamw)]
    assert choices.main([*paths, "--by", "optim", "--reference", "adamw", "--out", str(out)]) == 0
    (size,) = json.loads(out.read_text())["sizes"]
    assert [row["value"] for row in size["values"]] == ["adamw", "muon"]
    assert size["values"][1]["difference"] == pytest.approx(-0.1)
