"""The main job, small: real MIDI files -> data -> runs -> law -> tunes -> report."""

import csv
import json
import re
from pathlib import Path

import pytest

from data_prep import pipeline
from evaluation import evaluate_model, loss_and_music, tables
from evaluation.pages import model_report, report
from evaluation.samples import grammar_overhead, sample_sets
from evaluation.samples.sampling import read_samples
from scaling import fit, loss_curves, plots, records
from train import train_one

ROOT = Path(__file__).parent.parent
WIDTHS = (8, 16, 24)


@pytest.fixture(scope="module", autouse=True)
def short_timing():
    """What the grammar costs in time is measured in one round of short texts."""

    def speed(write, n_new, *more):
        return grammar_overhead.speed(write, 160, *more, rounds=1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate_model, "speed", speed)
        yield


@pytest.fixture(scope="module")
def study(tmp_path_factory, tune_files):
    """A study of three tiny GPTs on sixty fiddle tunes, made by the users' entry points."""
    folder = tmp_path_factory.mktemp("whole_way")
    preset = folder / "data_char.yaml"
    preset.write_text("split: {validation: 0.15, test: 0.15}\nblocks: {block_length: 64}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert pipeline.main([str(tune_files[0].parent), "--config", str(preset)]) == 0
        for width in WIDTHS:
            overrides = [
                *(f"name=gpt_d{width}", "study=tiny", f"model.hidden_size={width}"),
                *("model.num_hidden_layers=1", "model.num_attention_heads=1"),
                *("budget.global_batch_tokens=512", "training.per_device_train_batch_size=8"),
                *("training.max_steps=30", "training.learning_rate=0.01"),
                "training.disable_tqdm=true",
            ]
            train_one(ROOT / "configs" / "gpt_tiny.yaml", overrides)
        assert records.main(["runs/tiny"]) == 0
        assert loss_curves.main(["runs/tiny"]) == 0
        assert fit.main(["runs/tiny/runs.csv", "--out", "runs/tiny/fits.json"]) == 0
        assert plots.main(["runs/tiny"]) == 0
        assert evaluate_model.main(["runs/tiny", "--n", "4"]) == 0
        assert model_report.main(["runs/tiny"]) == 0
        assert report.main([Path("runs/tiny").as_posix()]) == 0
        yield folder / "runs" / "tiny"


def test_loss_falls_in_training_on_real_music(study):
    for width in WIDTHS:
        lines = (study / f"gpt_d{width}" / "log.jsonl").read_text().splitlines()
        losses = [json.loads(line).get("validation_loss_nats_per_token") for line in lines]
        losses = [loss for loss in losses if loss]
        assert losses[-1] < losses[0] < 4.2  # ln 61, the loss of a guess


def test_one_row_a_run_and_a_law_from_them(study):
    with (study / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["run"] for row in rows) == sorted(f"gpt_d{width}" for width in WIDTHS)
    laws = json.loads((study / "fits.json").read_text())["laws"]["gpt"]
    assert "alpha" in laws["power"]["params"]
    assert "refused" in laws["power_floor"]


def test_metrics_count_every_sample_and_the_test_split(study):
    metrics = json.loads((study / "metrics.json").read_text())
    kinds = ("constrained", "free", "study_a", "prompted", "prompted_free")
    assert [*metrics["sets"]][:5] == [*kinds]
    for kind in kinds:
        own = metrics["sets"][kind]
        assert own["n"] == own["validity"]["own_reader"]["n"] == 4
        assert own["sampling"]["max_new_tokens"] == (256 if kind == "study_a" else 512)
        assert own["sampling"]["grammar"] == (kind in ("constrained", "prompted"))
        assert own["memorisation"]["tunes"]["n"] == 4
    for kind in ("real", "reference"):
        assert metrics["sets"][kind]["validity"]["own_reader"]["rate"] == 1.0
    assert 0 < metrics["test"]["bits_per_char"] < 6
    assert 0 < metrics["overhead"]["mass"]["masked_mass_per_step"]["mean"] < 1
    assert metrics["test"]["n_songs"] >= 1


def test_within_the_grammar_even_a_hardly_trained_model_writes_whole_music(study):
    metrics = json.loads((study / "metrics.json").read_text())
    for kind in ("constrained", "prompted"):
        validity = metrics["sets"][kind]["validity"]
        for name in ("own_reader", "bar_perfect", "tie_ok", "playable", "valid3"):
            assert validity.get(name, {"rate": 1.0})["rate"] == 1.0  # all readers there, or none
        assert metrics["sets"][kind]["ended"]["rate"] == 1.0


def test_prompted_tunes_go_on_from_the_same_held_out_bars(study):
    for kind in ("prompted", "prompted_free"):
        rows = read_samples(study / "samples" / kind / "samples.jsonl")
        conditions = json.loads((study / "samples" / kind / "sampling.json").read_text())[
            "conditions"
        ]
        assert len(set(conditions)) > 1
        assert all(
            row["abc"].startswith(conditions[number % len(conditions)])
            for number, row in enumerate(rows)
        )
    real = read_samples(study / "samples/reference/samples.jsonl")
    assert all(
        row["abc"].startswith(condition) for row, condition in zip(real, conditions, strict=True)
    )


def test_page_of_a_model_shows_pairs_of_the_same_random_numbers(study):
    page = (study / "evaluation.html").read_text()
    assert page.count("<h3>Tune ") == 4
    assert page.count("<b>constrained</b>") == page.count("<b>free</b>") == 4
    assert "What the grammar costs" in page
    sets = [read_samples(study / "samples" / k / "samples.jsonl") for k in ("constrained", "free")]
    for constrained, free in zip(*sets, strict=True):
        assert constrained["seed"] == free["seed"]
    for link in re.findall(r'href="(samples/[^"]+)"', page):
        assert (study / link).is_file()


def test_docs_have_the_numbers_of_evaluated_models(study, tmp_path, capsys):
    page = tmp_path / tables.BLOCKS["evaluation"].page
    for name, block in tables.BLOCKS.items():
        (tmp_path / block.page).parent.mkdir(parents=True)
        text = f"# Ours\n<!-- {name}:begin -->\n<!-- {name}:end -->\nmore\n"
        (tmp_path / block.page).write_text(text)
    results = tmp_path / "results"
    assert tables.main([str(study), "--results", str(results)]) == 0
    lines = page.read_text().splitlines()
    metrics = json.loads((results / "evaluation" / "tiny.json").read_text())
    for kind, own in metrics["sets"].items():
        (line,) = [
            each for each in lines if each.startswith(f"| tiny | {kind.replace('_', ' ')} |")
        ]
        parses = own["validity"]["validity_music21"]
        assert f"| {100 * parses['rate']:.1f} |" in line
    example = (results / tables.EXAMPLE).read_text()
    assert example.count("<h3>Tune ") == 4
    assert 'href="samples/' not in example  # it goes alone
    assert tables.main([str(tmp_path)]) == 2
    assert "make evaluate MODEL=" in capsys.readouterr().err


def test_report_is_one_file_with_figures_numbers_and_tunes(study):
    page = (study / "report.html").read_text()
    assert page.count("<svg") >= 2
    for width in WIDTHS:
        assert f"gpt_d{width}" in page
    assert "not fitted: " in page
    assert page.index("were trained on") < page.index("<svg") < page.index("Tune 2")
    assert page.index("Tune 2") < page.index("The fitted laws")
    assert "Tune 2" in page
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)  # nothing from elsewhere
    for link in re.findall(r'href="(samples/[^"]+)"', page):
        assert (study / link).is_file()


def test_music_is_measured_beside_the_loss_of_each_run(study, tmp_path, monkeypatch):
    monkeypatch.chdir(study.parent.parent)
    for module in (sample_sets, loss_and_music):
        monkeypatch.setattr(module, "MAX_NEW_TOKENS", 240)
    out = tmp_path / "loss_and_music.json"
    runs = [f"runs/tiny/gpt_d{width}" for width in WIDTHS[:1]]
    assert loss_and_music.main([*runs, "--n", "8", "--out", str(out)]) == 0
    content = json.loads(out.read_text())
    (row,) = content["runs"]
    record = json.loads((study / row["run"] / "record.json").read_text())
    assert row["validation_loss_nats_per_token"] == record["loss_nats_per_token"]["validation"]
    assert row["distance"]["value"] is None or row["distance"]["value"] > 0  # it is hardly music
    assert 0 < row["masked_probability"]["value"] < 1
    low, high = row["memorised"]["interval_95"]
    assert low <= row["memorised"]["value"] <= high


def test_rank_correlations_are_by_family_and_leave_out_what_was_not_measured():
    def row(arch, loss, value, valid=0.5):
        values = {name: {"value": value} for name in loss_and_music.MEASURES}
        name = {"arch": arch, "validation_loss_nats_per_token": loss}
        return name | values | {"valid_without_grammar": {"value": valid}}

    rows = [row("gpt", loss, loss**2, None) for loss in (1.0, 1.2, 1.5, 2.0)]
    rows += [row("lstm", loss, -loss, -loss) for loss in (1.0, 1.1, 1.3, 1.6)]
    found = loss_and_music.rank_correlations([*rows, row("llama", 1.0, 1.0)])
    assert set(found) == {"all", "gpt", "lstm"}
    assert found["gpt"]["distance"] == pytest.approx(1.0)
    assert found["lstm"]["distance"] == pytest.approx(-1.0)
    assert found["gpt"]["valid_without_grammar"] is None
    assert found["lstm"]["valid_without_grammar"] == pytest.approx(-1.0)


def test_evaluating_again_samples_and_judges_nothing_anew(study, monkeypatch):
    monkeypatch.chdir(study.parent.parent)
    monkeypatch.setattr(
        "evaluation.samples.sampling.sample_batches", lambda *_: pytest.fail("sampled")
    )
    monkeypatch.setattr(
        "evaluation.judging.kept_verdicts.judge_texts", lambda *_: pytest.fail("judged")
    )
    assert evaluate_model.main(["runs/tiny", "--n", "4"]) == 0
