"""Our published folders in programs that others wrote: a table of what works.

    make clients GPT=<run> LSTM=<run> DATASET=data/<dataset>/<preset> [LLAMA=<run>]

The GPT, the LSTM, the GPT's stock form, the Llama and the dataset are published without an upload;
each client then runs in the environment given by --python, in a folder where this project is
absent, and reports on each. The stock classes get their files for ONNX Runtime and llama.cpp where
these are installed, checked as in `make publish`; transformers.js reads the former where --node has
it.

Prints a table and writes JSON. An error of a client is a row of the table, not of this program.
"""

import argparse
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from datasets import load_dataset

from model_cards.publish import publish
from model_cards.publish_data import build_folder

from .engines import run_engines, run_node
from .programs.report import REPORT

PROGRAMS = Path(__file__).with_name("programs")
LIMIT_SECONDS = 3600  # of a program; a busy machine takes minutes to import some clients
N_TUNES = 50
ENGINES = {"gguf": "llama-cpp-python", "onnx": "onnxruntime"}  # format -> the package that reads it
STOCK = {"stock", "llama"}  # folders of classes that other engines know
UNLIMITED = 1024  # tokens to read at once with a model that has no limit
VERSIONS_OF = {  # program -> the package whose version its row names
    "datasets": "datasets",
    "gradio": "gradio",
    "llguidance": "llguidance",
    "lm_eval": "lm-eval",
    "peft": "peft",
    "serve": "transformers",
    "trl": "trl",
}
Table = dict[str, dict[str, dict[str, Any]]]  # client -> folder -> {"ok": ..., "found": ...}


def publish_folders(runs: dict[str, Path], place: Path) -> dict[str, Path]:
    """Returns copies of the published folders, without files for other engines.

    Args:
        runs: Name -> run; "gpt" is also published in its stock form.
        place: Where to write.
    """
    folders = {}
    for name, run in (runs | {"stock": runs["gpt"]}).items():
        copied = place / "runs" / name
        shutil.copytree(run, copied, ignore=shutil.ignore_patterns("publish*", "checkpoints"))
        (folder,) = publish(copied, f"someone/{name}", name == "stock", False, True)
        folders[name] = folder.rename(place / name)
    return folders


def publish_songs(data: Path, place: Path) -> Path:
    """Returns the published folder of a copy of a dataset."""
    copied = place / "data" / data.name
    for part in sorted(data.glob("[1-4]_*")):
        is_kept = part.name == "4_split"
        files = part.glob("*") if is_kept else part.glob("stage.json")
        (copied / part.name).mkdir(parents=True)
        for file in files:
            shutil.copy(file, copied / part.name)
    return build_folder(copied, "someone/songs", "cc0-1.0").rename(place / "songs")


def run_clients(folders: dict[str, Path], python: Path, songs: Path) -> Table:
    """Runs each program in an environment with the clients, as many at once as there are cores."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "SONGS": str(songs.resolve())}
    arguments = [_argument(name, folder) for name, folder in folders.items()]

    def run(program: Path) -> dict[str, dict[str, Any]]:
        # loading the same remote code twice at once would write the same files
        own = {"HF_MODULES_CACHE": str(songs.parent / "modules" / program.stem)}
        command = [str(python.absolute()), str(program), *arguments]
        where = {"cwd": songs.parent, "env": environment | own, "stdout": subprocess.PIPE}
        try:
            done = subprocess.run(command, **where, timeout=LIMIT_SECONDS)
            lines, ended = done.stdout.decode().splitlines(), f"status {done.returncode}"
        except subprocess.TimeoutExpired:
            lines, ended = [], f"no answer after {LIMIT_SECONDS} s"
        reports = [line.removeprefix(REPORT) for line in lines if line.startswith(REPORT)]
        none = {"ok": False, "found": f"the program ended with {ended}"}
        return json.loads(reports[-1]) if reports else dict.fromkeys(folders, none)

    programs = sorted(PROGRAMS.glob("use_*.py"))
    names = [program.stem.removeprefix("use_") for program in programs]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(names, pool.map(run, programs), strict=True))


def _argument(name: str, folder: Path) -> str:
    """Returns what `programs/report.py` reads: folder, remote code, context."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    context = config.get("max_position_embeddings", config.get("n_positions", UNLIMITED))
    return f"{name}:{int('auto_map' in config)}:{context}"


def run_all_engines(folders: dict[str, Path], songs: Path, node: Path | None) -> Table:
    """Adds files for other engines to the folders of library classes, and runs these."""
    rows = load_dataset("parquet", data_files=str(songs / "validation*"))["train"]
    table: Table = {}
    for name in sorted(STOCK & folders.keys()):
        found = run_engines(folders[name], rows["abc"][:N_TUNES])
        if node and found["onnx"]["ok"]:
            found |= run_node(folders[name], node, PROGRAMS)
        for client, row in found.items():
            table.setdefault(_label(client), {})[name] = row
    return table


def _label(client: str) -> str:
    """Returns the package that reads a format with its version, if it is installed."""
    package = ENGINES.get(client, client)
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return package


def versions(python: Path) -> dict[str, str]:
    """Returns package -> version in the environment of the clients."""
    names = sorted({*VERSIONS_OF.values(), "tokenizers", "torch", "transformers"})
    said = f"import importlib.metadata as m; print(*(m.version(n) for n in {names!r}))"
    done = subprocess.run(
        [str(python.absolute()), "-c", said], capture_output=True, check=True, text=True
    )
    return dict(zip(names, done.stdout.split(), strict=True))


def about_runs(runs: dict[str, Path]) -> dict[str, dict[str, Any]]:
    """Returns name -> what was published."""
    kept = (
        "name",
        "model_type",
        "n_params_total",
        "context_length",
        "dataset",
        "preset",
        "tokenizer",
    )
    records = {name: json.loads((run / "record.json").read_text()) for name, run in runs.items()}
    return {
        name: {"run": str(runs[name])} | {key: record[key] for key in kept}
        for name, record in records.items()
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gpt", type=Path, help="a finished run of a GPT")
    parser.add_argument("lstm", type=Path, help="a finished run of an LSTM")
    parser.add_argument("--llama", type=Path, help="a finished run of a Llama")
    parser.add_argument("--data", type=Path, required=True, help="data/<dataset>/<preset>")
    parser.add_argument("--python", type=Path, required=True, help="Python with the clients")
    parser.add_argument("--node", type=Path, help="folder where npm installed transformers.js")
    parser.add_argument("--out", type=Path, default=Path("results/clients.json"))
    options = parser.parse_args(arguments)
    runs = {"gpt": options.gpt, "lstm": options.lstm}
    runs |= {"llama": options.llama} if options.llama else {}
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        folders = publish_folders(runs, place)
        songs = publish_songs(options.data, place)
        with ThreadPoolExecutor(1) as pool:
            programs = pool.submit(run_clients, folders, options.python, songs)
            engines = run_all_engines(folders, songs, options.node)
            table = programs.result()
        found = versions(options.python)
    table = {f"{name} {found[VERSIONS_OF[name]]}": row for name, row in table.items()} | engines
    content = {
        "command": f"make clients GPT={options.gpt} LSTM={options.lstm}"
        + (f" LLAMA={options.llama}" if options.llama else "")
        + f" DATASET={options.data}",
        "models": about_runs(runs),
        "versions": found,
        "table": table,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    for client, rows in table.items():
        for folder, row in rows.items():
            print(f"{client:24} {folder:6} {'ok' if row['ok'] else 'fails':6} {row['found']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
