import csv
import json
import math
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import nbformat
import numpy as np
import pytest
from matplotlib.figure import Figure
from run_notebook import execute
from study_results import LAWS, SEEDS, SIZES, TOKENS, loss_of

from data_prep.tokens.tokenizers import TOKENIZERS
from scaling import fit, loss_curves, plots
from scaling.families import FAMILIES
from scaling.figures.figure_style import family_style
from scaling.runs_table import TableError

NOTEBOOK = Path(__file__).parents[2] / "results" / "scaling_study.ipynb"


@pytest.fixture
def results(made_results, tmp_path):
    return Path(shutil.copytree(made_results, tmp_path / "results"))


def law_of(results, arch):
    laws = json.loads((results / "fits.json").read_text())["laws"][arch]
    assert laws["chosen"] == "chinchilla"
    return laws["chinchilla"]


def test_all_figures_are_drawn_from_the_files_alone_and_repeat_byte_for_byte(
    results, capsys, monkeypatch
):
    monkeypatch.setattr(plots, "PNG_DPI", 40)
    assert plots.main([str(results)]) == 0
    assert "no " not in capsys.readouterr().out
    figures = results / "figures"
    first = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert set(first) == {
        f"{name}.{kind}" for name in plots.STUDY_FIGURES for kind in ("png", "svg")
    }
    for name in plots.STUDY_FIGURES:
        assert first[f"{name}.png"].startswith(b"\x89PNG")
        assert ElementTree.fromstring(first[f"{name}.svg"]).tag.endswith("svg")
    assert plots.main([str(results)]) == 0
    assert all((figures / name).read_bytes() == content for name, content in first.items())


def test_a_figure_without_its_file_is_one_line_and_no_error(results, capsys, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: Path(path).touch())
    for name in ("curves.csv", "leakage.json", "context_use.json"):
        (results / name).unlink()
    assert plots.main([str(results)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (left_out,) = [line for line in lines if line.startswith("  not drawn: ")]
    named = left_out.partition(": ")[2].partition(";")[0]
    assert sorted(named.split(", ")) == ["context_use", "leakage", "loss_curves"]
    assert plots.main([str(results), "--only", "leakage"]) == 0
    assert (
        "leakage: no leakage.json, which evaluation.loss.leakage makes" in capsys.readouterr().out
    )
    assert not (results / "figures" / "loss_curves.png").exists()
    assert (results / "figures" / "scaling_law.png").exists()


@pytest.mark.parametrize("text", ["{", "[]", '{"runs": [{}]}'])
@pytest.mark.parametrize("name", ["leakage", "tokenizers", "context_use", "learning_rates"])
def test_a_file_that_is_something_else_is_one_clear_line(results, name, text):
    (results / f"{name}.json").write_text(text)
    with pytest.raises(TableError, match=rf"{name}\.json") as error:
        plots.draw_figure(name, results)
    assert "\n" not in str(error.value)


def test_any_tokenizer_is_drawn_by_its_label_or_its_name(results):
    file = results / "tokenizers.json"
    content = json.loads(file.read_text())
    content["labels"] = {"char64": TOKENIZERS["char64"].label}
    for run, name in zip(content["runs"], ("unheard of", "char64"), strict=False):
        run["tokenizer"] = name
    file.write_text(json.dumps(content))
    figure = plots.draw_figure("tokenizers", results)
    labels = [text.get_text().splitlines()[0] for text in figure.axes[0].get_xticklabels()]
    assert labels[:2] == ["64 characters", "unheard of"]


def test_a_broken_file_ends_the_command_with_one_line(results, capsys):
    (results / "fits.json").write_text("{}")
    assert plots.main([str(results)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_the_chosen_law_is_drawn_at_each_token_count_with_its_band(results):
    for arch in LAWS:
        curves = law_of(results, arch)["curves"]
        assert [curve["n_tokens"] for curve in curves] == list(TOKENS)
        for curve in curves:
            expected = [loss_of(arch, n, curve["n_tokens"]) for n in curve["n_params"]]
            assert curve["loss"] == pytest.approx(expected, rel=0.01)
            low, high = np.array(curve["band_95"])
            assert (low <= curve["loss"]).all()
            assert (curve["loss"] <= high).all()
    figure = plots.draw_figure("scaling_law", results)
    assert len(figure.axes) == len(LAWS)
    for axes in figure.axes:
        labels = [text.get_text() for text in axes.get_legend().get_texts()]
        assert labels == ["1.5M", "3M", "6M", "12M"]
        assert "95 %" not in axes.get_title()
        assert r"\beta" in axes.get_title()


def test_isoflop_points_are_of_equal_flops_and_never_extrapolated(results):
    for arch in LAWS:
        entries = law_of(results, arch)["isoflop"]
        assert len(entries) >= 3
        for entry in entries:
            points = entry["points"]
            assert len(points["n_params"]) >= 2
            assert all(n in [pytest.approx(size) for size in SIZES] for n in points["n_params"])
            pairs = list(zip(points["n_params"], points["n_tokens"], strict=True))
            assert [7 * n * d for n, d in pairs] == pytest.approx([entry["flops"]] * len(pairs))
            assert all(TOKENS[0] * 0.999 <= d <= TOKENS[-1] * 1.001 for _, d in pairs)
            expected = [loss_of(arch, n, d) for n, d in pairs]
            assert points["loss"] == pytest.approx(expected, rel=0.02)
            best = entry["n_opt"]
            loss = loss_of(arch, best, entry["flops"] / 7 / best)
            assert entry["loss_at_n_opt"] == pytest.approx(loss, rel=0.02)


def test_a_study_at_one_token_count_has_no_isoflop_figure(results):
    with (results / "runs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["n_tokens"]) == TOKENS[-1]]
    with (results / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert fit.main([str(results / "runs.csv"), "--bootstrap", "100", "--law", "power"]) == 0
    assert "isoflop: no chosen law in N and D" in plots.draw_figure("isoflop", results)
    assert len(plots.draw_figure("scaling_law", results).axes) == 1


def test_of_many_runs_the_curves_of_one_seed_are_drawn_and_said_to_be(results):
    figure = plots.draw_figure("loss_curves", results)
    assert "seed 1 only" in figure.legends[0].get_title().get_text()
    for axes in figure.axes:
        training = [line for line in axes.get_lines() if line.get_linestyle() != "-"]
        assert len(training) == len(SIZES) < len(SIZES) * len(SEEDS)


def test_shades_and_markers_tell_sizes_apart_without_colour():
    for style in map(family_style, FAMILIES, range(len(FAMILIES))):
        looks = [style.of_rank(rank, 6) for rank in range(6)]
        assert len({look["marker"] for look in looks}) == 6
        shades = [look["color"] for look in looks]
        grey = [sum(int(s[i : i + 2], 16) for i in (1, 3, 5)) for s in shades]
        assert grey == sorted(grey, reverse=True)


# ---------------------------------------------------------------- curves.csv


def write_study(folder, events):
    rows = ["run,trunk", "gpt_t12M,gpt_t12M", "gpt_t3M,gpt_t12M", "lstm_t12M,lstm_t12M"]
    (folder / "runs.csv").write_text("\n".join(rows) + "\n")
    for run in ("gpt_t12M", "gpt_t3M"):
        (folder / run).mkdir()
        text = "".join(json.dumps(event) + "\n" for event in events)
        (folder / run / "log.jsonl").write_text(text)


def test_curves_are_thinned_evenly_in_log_tokens_and_branches_left_out(tmp_path, capsys):
    events = [
        {"n_tokens": 51_000 * step, "loss_nats_per_token": 4 / math.sqrt(step)}
        for step in range(1, 241)
    ]
    validation = {"n_tokens": 6_000_000, "validation_loss_nats_per_token": 1.25}
    write_study(tmp_path, [*events, validation])
    assert loss_curves.main([str(tmp_path)]) == 0
    assert "no log.jsonl, left out: lstm_t12M" in capsys.readouterr().out
    with (tmp_path / "curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["run"] for row in rows} == {"gpt_t12M"}
    training = [row for row in rows if row["loss_nats_per_token"]]
    assert 50 <= len(training) <= loss_curves.MOST_POINTS
    assert training[0]["n_tokens"] == "51000"
    assert training[-1]["n_tokens"] == str(51_000 * 240)
    losses = [float(row["loss_nats_per_token"]) for row in training]
    assert losses == sorted(losses, reverse=True)
    seen = [row for row in rows if row["validation_loss_nats_per_token"]]
    assert [(row["n_tokens"], row["loss_nats_per_token"]) for row in seen] == [("6000000", "")]


def test_a_broken_log_is_one_clear_line(tmp_path, capsys):
    write_study(tmp_path, [{"loss_nats_per_token": 1.0}])
    assert loss_curves.main([str(tmp_path)]) == 2
    message = capsys.readouterr().err
    assert "log.jsonl, line 1: expected a JSON object with n_tokens" in message
    assert message.count("\n") == 1
    assert loss_curves.main([str(tmp_path / "nowhere")]) == 2


# ---------------------------------------------------------------- the notebook


def test_the_notebook_rebuilds_all_figures_and_says_which_files_are_missing(results, tmp_path):
    """In one kernel: its cells, and those of three figures again when two files are gone."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    gone = "for name in ('leakage', 'tokenizers'):\n    (RESULTS / f'{name}.json').unlink()"
    again = [gone, 'show("leakage")', 'show("context_use")', 'show("tokenizers")']
    notebook.cells += map(nbformat.v4.new_code_cell, again)
    nbformat.write(notebook, tmp_path / "longer.ipynb")
    cells = execute(tmp_path / "longer.ipynb", results).cells
    outputs, outputs_again = (
        [out for cell in part for out in cell.get("outputs", ())]
        for part in (cells[: -len(again)], cells[-len(again) :])
    )
    images = [out for out in outputs if "image/png" in out.get("data", {})]
    assert len(images) == len(plots.STUDY_FIGURES)
    assert not [out for out in outputs if "no " in out.get("text", "") and "makes" in out["text"]]
    leakage, context_use, tokenizers = outputs_again
    assert leakage["text"] == "leakage: no leakage.json, which evaluation.loss.leakage makes\n"
    assert "image/png" in context_use["data"]
    assert tokenizers["text"].startswith("tokenizers: no tokenizers.json, which ")


def test_the_committed_notebook_shows_every_figure_and_no_path_of_a_machine():
    text = NOTEBOOK.read_text("utf-8")
    content = json.loads(text)
    code = "".join("".join(cell["source"]) for cell in content["cells"])
    assert all(f'show("{name}")' in code for name in plots.STUDY_FIGURES)
    assert str(Path.home()) not in text
    assert str(NOTEBOOK.parent.parent) not in text
    shown = [out for cell in content["cells"] for out in cell.get("outputs", ())]
    assert shown
    assert not [out for out in shown if out["output_type"] == "error"]
