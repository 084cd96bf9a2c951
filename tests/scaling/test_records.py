import csv
import json
import math
import xml.etree.ElementTree as ElementTree

import pytest

from scaling import fit, loss_curves, plots, records
from scaling.families import FAMILIES
from scaling.figures.figure_style import family_style, log_ticks
from scaling.writing.files import write_atomically
from scaling.writing.wording import short_count

GPT = {3_100: 2.347, 14_000: 2.106, 39_000: 1.954, 99_000: 1.824, 332_000: 1.731}
LSTM = {4_200: 2.21, 12_500: 2.07, 41_000: 1.95, 105_000: 1.87, 310_000: 1.80}


def record_of(name, model_type="abc_gpt", n_params=14_000, loss=2.0):
    return {
        "name": name,
        "study": "demo",
        "size": name,
        "model_type": model_type,
        "tokenizer": "char",
        "dataset": "games",
        "preset": "char",
        "seed": 1,
        "trunk_id": name,
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "context_length": 256,
        "n_params_total": n_params + 2_000,
        "n_params_non_embedding": n_params,
        "n_tokens_seen": 1_044_480,
        "n_tokens_unique": 522_240,
        "epochs": 2.0,
        "flops_train": 6.5e10,
        "flops_6nd": 6.0e10,
        "train_seconds": 12.5,
        "train_cpu_seconds": 12.0,
        "tokens_per_second": 83_558.4,
        "learning_rate": 0.003,
        "global_batch_tokens": 4096,
        "max_steps": 256,
        "loss_nats_per_token": {"train": loss - 0.02, "validation": loss},
        "loss_standard_error_nats_per_token": {"validation": 0.02},
        "validation": {
            "nll_nats": loss * 100_000,
            "n_songs": 40,
            "n_tokens": 100_000,
            "n_chars": 99_960,
            "n_notes": 30_000,
            "n_bars": 4_000,
            "n_seconds": 5_000.5,
        },
        "data_digest": "d",
        "code_digest": "c",
        "commit": None,
        "versions": {},
        "machine": {},
    }


def write_run(study, record, logged=True):
    folder = study / record["name"]
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("")
    (folder / "record.json").write_text(json.dumps(record))
    if logged:
        loss = record["loss_nats_per_token"]["validation"]
        events = [{"step": 0, "n_tokens": 0, "validation_loss_nats_per_token": 4.3}]
        for step in range(1, 9):
            value = loss + 2 / step
            event = {"step": step, "n_tokens": step * 130_560, "loss_nats_per_token": value}
            events.append(event | {"validation_loss_nats_per_token": value + 0.03})
        (folder / "log.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))


@pytest.fixture
def study(tmp_path):
    for arch, ladder in (("gpt", GPT), ("lstm", LSTM)):
        for index, (n_params, loss) in enumerate(ladder.items()):
            write_run(tmp_path, record_of(f"{arch}_{index}", f"abc_{arch}", n_params, loss))
    return tmp_path


def rows_in(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def error_of(capsys, main, folder):
    assert main([str(folder)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message


def test_records_become_sorted_rows_with_the_agreed_columns(study):
    assert records.main([str(study)]) == 0
    rows = rows_in(study / "runs.csv")
    assert ",".join(rows[0]) == (
        "run,arch,size,seed,n_params,n_params_total,n_tokens,unique_tokens,flops,train_seconds,"
        "train_cpu_seconds,loss,loss_se,bits_per_char,bits_per_note,bits_per_bar,bits_per_second,"
        "precision,learning_rate,batch_tokens,optim,tokenizer,dataset,context_length,trunk"
    )
    assert [row["arch"] for row in rows] == ["gpt"] * 5 + ["lstm"] * 5
    assert [int(row["n_params"]) for row in rows] == [*GPT, *LSTM]
    assert float(rows[0]["loss"]) == 2.347


def test_finetuned_model_belongs_to_no_study(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    record = record_of("mine") | {"finetuned_from": {"model": "gpt_tiny"}}
    (folder / "record.json").write_text(json.dumps(record))
    with pytest.raises(records.RecordError, match="a fine-tuned model, to which no law applies"):
        records.read_study(tmp_path)


def test_bits_divide_the_validation_loss_by_counts_that_no_tokenizer_decides(study):
    row = records.read_record(study / "gpt_1" / "record.json")
    bits = 2.106 * 100_000 / math.log(2)
    assert row["bits_per_char"] == pytest.approx(bits / 99_960)
    assert row["bits_per_note"] == pytest.approx(bits / 30_000)
    assert row["bits_per_bar"] == pytest.approx(bits / 4_000)
    assert row["bits_per_second"] == pytest.approx(bits / 5_000.5)


def test_same_records_give_the_same_bytes(study):
    records.main([str(study)])
    first = (study / "runs.csv").read_bytes()
    records.main([str(study), "--out", str(study / "again" / "runs.csv")])
    assert (study / "again" / "runs.csv").read_bytes() == first
    assert b"\r" not in first


def test_a_file_whose_writing_breaks_off_keeps_its_old_content(tmp_path):
    path = tmp_path / "kept.json"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new, up to here \ud800")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


def test_unfinished_runs_are_named_and_left_out(study, capsys):
    (study / "gpt_4" / "record.json").unlink()
    assert records.main([str(study)]) == 0
    assert "not finished, left out: gpt_4" in capsys.readouterr().out
    assert len(rows_in(study / "runs.csv")) == 9


def test_a_plan_decides_which_runs_count(study, capsys):
    (study / "plan.json").write_text(json.dumps({"runs": ["gpt_0", "gpt_1", "gpt_9"]}))
    assert records.main([str(study)]) == 0
    assert "not finished, left out: gpt_9" in capsys.readouterr().out
    assert [row["run"] for row in rows_in(study / "runs.csv")] == ["gpt_0", "gpt_1"]


def test_a_missing_field_is_named_with_its_file(study, capsys):
    path = study / "gpt_0" / "record.json"
    record = json.loads(path.read_text())
    del record["validation"]["n_bars"]
    path.write_text(json.dumps(record))
    message = error_of(capsys, records.main, study)
    assert str(path) in message
    assert "field validation.n_bars is missing" in message
    assert not (study / "runs.csv").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss_nats_per_token": 2.0}, "field loss_nats_per_token.validation is missing"),
        ({"n_params_non_embedding": "14k"}, "is '14k', expected a number"),
        ({"seed": None}, "seed is None, expected a number"),
        ({"model_type": "gpt2"}, "model_type is 'gpt2', expected one of abc_gpt, abc_lstm"),
        ({"size": ""}, "size is '', expected text"),
        ({"name": "gpt_1"}, "two folders contain a record of the run 'gpt_1'"),
    ],
)
def test_wrong_fields_are_one_clear_line(study, capsys, change, message):
    path = study / "gpt_0" / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert message in error_of(capsys, records.main, study)


def test_broken_files_are_one_clear_line(study, tmp_path, capsys):
    path = study / "gpt_0" / "record.json"
    path.write_text(path.read_text()[:100])
    assert f"{path}: not valid JSON" in error_of(capsys, records.main, study)
    path.write_text("[]")
    assert "found a list, expected a JSON object" in error_of(capsys, records.main, study)
    (study / "plan.json").write_text('{"runs": 3}')
    assert "expected {" in error_of(capsys, records.main, study)
    assert "no such folder" in error_of(capsys, records.main, tmp_path / "nowhere")


def test_a_study_without_finished_runs_says_so(tmp_path, capsys):
    (tmp_path / "gpt_0").mkdir()
    (tmp_path / "gpt_0" / "config.yaml").write_text("")
    message = error_of(capsys, records.main, tmp_path)
    assert "no run with a record.json; not finished: gpt_0" in message


def test_a_diverged_run_is_kept_in_the_table_and_dropped_by_the_fit(study):
    path = study / "gpt_0" / "record.json"
    record = json.loads(path.read_text())
    record["loss_nats_per_token"]["validation"] = math.nan
    path.write_text(json.dumps(record))
    records.main([str(study)])
    assert fit.main([str(study / "runs.csv")]) == 0
    dropped = json.loads((study / "fits.json").read_text())["input"]["dropped"]
    assert dropped == [{"row": 2, "run": "gpt_0", "reason": "loss is not a finite number"}]


@pytest.fixture
def fitted_study(study):
    assert records.main([str(study)]) == 0
    assert loss_curves.main([str(study)]) == 0
    assert fit.main([str(study / "runs.csv"), "--bootstrap", "100"]) == 0
    return study


def test_figures_are_drawn_and_repeat_byte_for_byte(fitted_study, monkeypatch):
    monkeypatch.setattr(plots, "PNG_DPI", 40)
    assert plots.main([str(fitted_study)]) == 0
    names = {"scaling_law.png", "scaling_law.svg", "loss_curves.png", "loss_curves.svg"}
    first = {path.name: path.read_bytes() for path in (fitted_study / "figures").iterdir()}
    assert set(first) == names
    assert first["scaling_law.png"].startswith(b"\x89PNG")
    for name in ("scaling_law.svg", "loss_curves.svg"):
        assert ElementTree.fromstring(first[name]).tag.endswith("svg")
        assert b"dc:date" not in first[name]
    assert plots.main([str(fitted_study)]) == 0
    assert all((fitted_study / "figures" / name).read_bytes() == first[name] for name in names)


def test_scaling_figure_says_units_interval_and_refusal(fitted_study):
    figure = plots.draw_scaling_law(*plots.read_study(fitted_study))
    axes = figure.axes[0]
    assert axes.get_xlabel() == "Non-embedding parameters $N$"
    assert axes.get_ylabel() == "Validation loss $L$ (nats per token)"
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    law = json.loads((fitted_study / "fits.json").read_text())["laws"]["gpt"]["power"]
    low, high = law["interval_95"]["alpha"]
    assert legend[0].startswith("GPT")
    assert f"{law['params']['alpha']:.3f} [{low:.3f}, {high:.3f}]" in legend[0]
    assert "not fitted: 5 sizes, at least 6 needed" in figure.get_supxlabel()


def test_ticks_of_a_small_logarithmic_range_are_labelled(fitted_study):
    axes = plots.draw_scaling_law(*plots.read_study(fitted_study)).axes[0]
    for axis, limits in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
        shown = [tick for tick in axis.get_majorticklocs() if limits[0] <= tick <= limits[1]]
        assert len(shown) >= 4
        assert all(axis.get_major_formatter()(tick) for tick in shown)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (1.65, 2.45, [1.7, 1.8, 1.9, 2.0, 2.1, 2.2, 2.3, 2.4]),
        (0.4249, 0.4301, [0.425, 0.426, 0.427, 0.428, 0.429, 0.43]),
        (2e3, 5e5, [2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5]),
        (1e3, 1e9, [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9]),
    ],
)
def test_log_ticks_are_round_and_few(low, high, ticks):
    assert log_ticks(low, high) == pytest.approx(ticks)


def test_counts_are_shortened():
    assert [short_count(n) for n in (950, 3_100, 999_999, 1_044_480, 1.6e7, 2.5e9)] == [
        "950",
        "3.1k",
        "1M",
        "1.04M",
        "16M",
        "2.5B",
    ]


def test_families_differ_in_marker_and_line_and_not_in_colour_alone():
    styles = [family_style(name, index) for index, name in enumerate(FAMILIES)]
    for field in ("colour", "marker", "line"):
        assert len({getattr(style, field) for style in styles}) == len(FAMILIES)


def test_figures_refuse_fits_of_other_runs(fitted_study, capsys):
    with (fitted_study / "runs.csv").open("a") as file:
        file.write((fitted_study / "runs.csv").read_text().splitlines()[1] + "\n")
    assert "made from other runs" in error_of(capsys, plots.main, fitted_study)
    (fitted_study / "fits.json").write_text("{}")
    assert "not a fits.json" in error_of(capsys, plots.main, fitted_study)
    (fitted_study / "fits.json").unlink()
    assert "run python -m scaling.fit" in error_of(capsys, plots.main, fitted_study)


def test_runs_without_a_log_are_named_and_broken_logs_refused(study):
    records.main([str(study)])
    rows = rows_in(study / "runs.csv")
    (study / "lstm_0" / "log.jsonl").unlink()
    curves, missing = loss_curves.read_curves(study)
    assert missing == ["lstm_0"]
    assert {row["run"] for row in rows} - {row["run"] for row in curves} == {"lstm_0"}
    (study / "gpt_0" / "log.jsonl").write_text("{}\n")
    with pytest.raises(ValueError, match=r"log\.jsonl, line 1: expected a JSON object"):
        loss_curves.read_curves(study)


def test_a_study_of_one_family_with_one_size_is_drawn(tmp_path):
    write_run(tmp_path, record_of("gpt_0"))
    assert records.main([str(tmp_path)]) == 0
    assert fit.main([str(tmp_path / "runs.csv")]) == 0
    assert plots.main([str(tmp_path)]) == 0
