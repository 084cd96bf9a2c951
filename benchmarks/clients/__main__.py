"""Our published folders in programs that others wrote: a table of what works.

    make clients GPT=<run> LSTM=<run> DATASET=data/<dataset>/<preset>

The GPT, the LSTM and the GPT's stock form are published without an upload; each client then runs in
the environment given by --python, in a folder where this project is absent, and reports on each.
The stock folder gets its files for ONNX Runtime and llama.cpp where these are installed, checked as
in `make publish`; transformers.js reads the former where --node has it.

Prints a table and writes JSON. An error of a client is a row of the table, not of this program.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from datasets import load_dataset

from model_cards.formats.formats import FORMATS, check_installed
from model_cards.formats.reference import Reference
from model_cards.publish import publish

PROGRAMS = Path(__file__).with_name("programs")
LIMIT_SECONDS = 1800
N_TUNES = 50
Table = dict[str, dict[str, dict[str, Any]]]  # client -> folder -> {"ok": ..., "found": ...}


def publish_folders(gpt: Path, lstm: Path, place: Path) -> dict[str, Path]:
    """Returns copies of the three published folders, without files for other engines."""
    folders = {}
    for name, run, is_stock in (("gpt", gpt, False), ("lstm", lstm, False), ("stock", gpt, True)):
        copied = place / "runs" / name
        shutil.copytree(run, copied, ignore=shutil.ignore_patterns("publish*", "checkpoints"))
        (folder,) = publish(copied, f"someone/{name}", is_stock, False, True)
        folders[name] = folder.rename(place / name)
    return folders


def run_clients(folders: dict[str, Path], python: Path, tunes: Path) -> Table:
    """Runs each program in an environment with the clients."""
    contexts = {}
    for name, folder in folders.items():
        config = json.loads((folder / "config.json").read_text("utf-8"))
        context = config.get("max_position_embeddings", config.get("n_positions", 256))
        contexts[name] = f"{name}:{int(name != 'stock')}:{context}"
    place = folders["stock"].parent
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "TUNES": str(tunes.resolve())}
    environment["HF_MODULES_CACHE"] = str(place / "modules")
    table = {}
    for program in sorted(PROGRAMS.glob("use_*.py")):
        command = [str(python.absolute()), str(program), *contexts.values()]
        done = subprocess.run(
            command, cwd=place, env=environment, stdout=subprocess.PIPE, timeout=LIMIT_SECONDS
        )
        lines = done.stdout.decode().splitlines()
        none = {"ok": False, "found": f"the program ended with status {done.returncode}"}
        is_whole = done.returncode == 0 and lines
        table[program.stem.removeprefix("use_")] = (
            json.loads(lines[-1]) if is_whole else dict.fromkeys(contexts, none)
        )
    return table


def run_formats(stock: Path, node: Path | None) -> Table:
    """Writes and checks the files for other engines, and reads one in transformers.js."""
    table, reference = {}, Reference(stock)
    for name, each in FORMATS.items():
        try:
            check_installed([name])
            found = "; ".join(each.write(reference, stock, "model").values())
            table[name] = {"stock": {"ok": True, "found": found}}
        except ValueError as error:
            table[name] = {"stock": {"ok": False, "found": str(error)}}
    if node and table["onnx"]["stock"]["ok"]:
        table["transformers_js"] = {"stock": _run_node(stock, node, reference)}
    return table


def _run_node(stock: Path, node: Path, reference: Reference) -> dict[str, Any]:
    expected = reference.greedy[0]
    program = PROGRAMS / "transformers_js.mjs"
    command = ["node", str(program), str(stock.resolve()), str(len(expected)), "fp32"]
    done = subprocess.run(command, cwd=node, capture_output=True, timeout=LIMIT_SECONDS)
    if done.returncode:
        return {"ok": False, "found": done.stderr.decode().strip().splitlines()[-1]}
    said = json.loads(done.stdout.decode().splitlines()[-1])
    same = sum(one == other for one, other in zip(said["greedy"], expected, strict=True))
    is_read = said["ids"] == reference.tokenizer(said["text"])["input_ids"]
    found = f"{same} of {len(expected)} tokens of the greedy tune, tokenizer equal: {is_read}"
    return {"ok": same == len(expected) and is_read, "found": found}


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.clients",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("gpt", type=Path, help="a finished run of a GPT")
    parser.add_argument("lstm", type=Path, help="a finished run of an LSTM")
    parser.add_argument("--data", type=Path, required=True, help="data/<dataset>/<preset>")
    parser.add_argument("--python", type=Path, required=True, help="Python with the clients")
    parser.add_argument("--node", type=Path, help="folder where npm installed transformers.js")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_clients.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        songs = load_dataset("parquet", data_files=str(options.data / "4_split/validation*"))
        tunes = place / "tunes.json"
        tunes.write_text(json.dumps(songs["train"]["abc"][:N_TUNES]), "utf-8")
        folders = publish_folders(options.gpt, options.lstm, place)
        table = run_clients(folders, options.python, tunes)
        table |= run_formats(folders["stock"], options.node)
    options.out.write_text(json.dumps(table, indent=2) + "\n", "utf-8")
    for client, rows in table.items():
        for folder, row in rows.items():
            print(f"{client:16} {folder:6} {'ok' if row['ok'] else 'fails':6} {row['found']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
