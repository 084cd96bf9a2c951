import csv
import itertools
import json
import re
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep import digest_list
from data_prep.selection.split import SPLITS
from evaluation import tables
from evaluation.pages import report
from scaling import forecasts
from scaling.families import FAMILIES, in_order, label_of
from scaling.reporting import blocks, findings
from scaling.reporting.blocks import BLOCKS, fill_blocks
from scaling.reporting.in_short import in_short

PROJECT = Path(__file__).resolve().parents[2]
with (PROJECT / "results" / "runs.csv").open() as file:
    STUDIED = in_order(row["arch"] for row in csv.DictReader(file))


def copy_pages(tmp_path):
    """The pages with blocks, and results/, in a project of their own."""
    shutil.copytree(PROJECT / "results", tmp_path / "results")
    shutil.copytree(PROJECT / "docs", tmp_path / "docs")
    shutil.copy(PROJECT / "README.md", tmp_path)
    return tmp_path / "results"


def test_every_block_of_the_pages_is_what_its_files_say(tmp_path):
    results = copy_pages(tmp_path)
    pages = [page for page in tmp_path.glob("**/*.md") if ":begin -->" in page.read_text()]
    marked = [re.findall(r"<!-- (\w+):begin -->\n(?!<!--)", page.read_text()) for page in pages]
    assert sorted(itertools.chain(*marked)) == sorted([*BLOCKS, *tables.BLOCKS])
    for page in pages:
        page.write_text(re.sub(r"(?s)(:begin -->\n).*?(<!-- \w+:end)", r"\1\2", page.read_text()))
    assert blocks.main([str(results)]) == 0
    fill_blocks(results, blocks=tables.BLOCKS)
    for page in pages:
        assert page.read_text() == (PROJECT / page.relative_to(tmp_path)).read_text()


def test_blocks_without_their_file_stay_as_they_are(tmp_path):
    results, page = tmp_path / "results", tmp_path / BLOCKS["sampling"].page
    results.mkdir()
    page.parent.mkdir()
    shutil.copy(PROJECT / "results" / "sampling.json", results)
    page.write_text("<!-- sampling:begin -->\n<!-- sampling:end -->\n<!-- conversion:begin -->\n")
    assert fill_blocks(results) == ["sampling"]
    assert page.read_text().count("| 256, 1 | gpt |") == 1
    assert page.read_text().endswith("<!-- conversion:begin -->\n")


def test_side_studies_are_told_where_they_are_there(made_results):
    folder = made_results
    leakage, tokenizers = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("leakage", "tokenizers")
    )
    for lines, runs in (
        (findings.leakage_lines(leakage), leakage["runs"]),
        (findings.tokenizer_lines(tokenizers), tokenizers["runs"]),
    ):
        for run in runs:
            assert any(line.startswith(f"- {run['run']}") for line in lines)
        assert all(re.search(r"-?\d\.\d+ .*\[-?\d\.\d+, -?\d\.\d+\]\.$", line) for line in lines)


def test_findings_in_short_name_file_and_command_of_each_sentence(made_results, tmp_path):
    folder = tmp_path / "results"
    shutil.copytree(made_results, folder)
    shutil.copytree(PROJECT / "results" / "published", folder / "published")
    (folder / "batch.json").write_text(
        json.dumps(
            {
                "by": "batch_tokens",
                "sizes": [
                    {
                        "arch": "lstm",
                        "n_params": 99_000,
                        "values": [
                            {"value": "4096", "difference": 0.0},
                            {"value": "65536", "difference": 0.021},
                        ],
                    }
                ],
            }
        )
    )
    runs = str(folder / "runs.csv")
    sizes = ["--sizes", str(PROJECT / "configs" / "gpt_large.yaml"), "--tokens", "1e8"]
    made = ["--date", "2026-12-01", "--bootstrap", "20"]
    assert forecasts.main([runs, *sizes, *made, "--out", str(folder / "forecasts.json")]) == 0
    lines = in_short(folder)
    for line in lines:
        file, command = re.search(r" \(`([\w.]+)`, `(make [\w-]+)[^`]*`\)$", line).groups()
        assert (folder / file).is_file()
        assert re.search(rf"^{command.split()[1]}:", (PROJECT / "Makefile").read_text(), re.M)
    text = "\n".join(lines)
    for said in (
        "96 runs of GPT, LSTM: 3k to 790k parameters",
        "GPT: L = E + A / N^alpha + B / D^beta with alpha 0.",
        "Crossover of gpt and lstm at equal parameters, 12 M tokens",
        "Study A's claim that the LSTM saturates: refuted",
        "LSTM of 99k, batch, each at its best learning rate: compared with 4096 tokens, 65536 +0",
        "Forecast on 2026-12-01, nats per token: gpt_large 0.",
        "distance ",
    ):
        assert said in text


def test_use_of_the_context_is_told_for_each_family_and_seed(made_results):
    folder = made_results
    use, length = (
        json.loads((folder / f"context_{name}.json").read_text()) for name in ("use", "length")
    )
    lines = findings.context_lines(use)
    for arch in {run["arch"] for run in use["runs"]}:
        (line,) = [line for line in lines if line.startswith(f"- {label_of(arch)}: ")]
        assert line.count("[") == sum(run["arch"] == arch for run in use["runs"])
    *differences, _ = findings.context_length_lines(length)
    seeds = {(item["size"], item["seed"]) for item in length["context_differences"]}
    assert len(differences) == len(seeds) > 0


@pytest.mark.parametrize("family", STUDIED)
def test_study_of_one_family_fills_results_and_says_nothing_of_others(family, tmp_path):
    folder = copy_pages(tmp_path)
    with (folder / "runs.csv").open() as file:
        header, *rows = csv.reader(file)
    kept = [row for row in rows if row[header.index("arch")] == family]
    with (folder / "runs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *kept])
    fits = json.loads((folder / "fits.json").read_text()) | {"crossovers": []}
    for part in ("laws", "frontier", "costs"):
        fits[part] = {family: fits[part][family]}
    (folder / "fits.json").write_text(json.dumps(fits))
    use = json.loads((folder / "context_use.json").read_text())
    use["runs"] = [run for run in use["runs"] if run["arch"] == family]
    (folder / "context_use.json").write_text(json.dumps(use))
    assert blocks.main([str(folder)]) == 0
    text = (folder / "README.md").read_text()
    for title in ("What was trained", "How much context is used"):
        section = text.split(f"### {title}")[1].split("###")[0]
        for name in FAMILIES:
            assert (f"- {label_of(name)}: " in section) == (name == family)


def test_a_report_needs_no_power_law_among_those_that_were_fitted(tmp_path):
    runs = report._read_runs(PROJECT / "results")
    fits = json.loads((PROJECT / "results" / "fits.json").read_text())
    train = {"n_songs": 10, "n_seconds": 7200.0}
    data = {"stages": {"5_tokens": {"splits": {"train": train}}}}
    metrics = {"sets": {}, "judges": {}, "test": None}
    first, second, *_ = report.summary(runs, fits, data, metrics)
    assert first.startswith(f"{len(runs)} models of ")
    assert first.endswith("were trained on 10 tunes, 2 hours of music.")
    assert re.search(r"fold\. Ten times the parameters multiply it by 0\.\d\d \(95 %", second)
    for laws in fits["laws"].values():
        del laws["power"], laws["power_floor"]
    assert "Ten times" not in " ".join(report.summary(runs, fits, data, metrics))


def test_folder_without_a_study_is_one_line(tmp_path, capsys):
    assert blocks.main([str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_digest_list_names_every_song_once_and_no_file(tmp_path):
    (tmp_path / "4_split").mkdir()
    for number, split in enumerate(SPLITS):
        digests = [f"{number}{song}".ljust(64, "a") for song in "cb"]
        table = pa.table({"digest": digests, "cluster_id": ["one", f"other{number}"]})
        pq.write_table(table, tmp_path / "4_split" / f"{split}.parquet")
    out = tmp_path / "digests.csv"
    assert digest_list.main([str(tmp_path), str(out)]) == 0
    rows = list(csv.DictReader(out.open()))
    assert [row["split"] for row in rows] == [split for split in SPLITS for _ in range(2)]
    assert [row["midi_sha256"][:2] for row in rows[:2]] == ["0b", "0c"]
    assert len({row["cluster"] for row in rows}) == 4
    assert digest_list.main([str(tmp_path / "nowhere"), str(out)]) == 2
