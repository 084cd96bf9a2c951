"""The page in chromium: is all that it writes valid, and how fast is it? -> results/page.json.

    python -m benchmarks.page pretrained/llama_small [--tunes 300] [--out <file>]

Builds the page, lets it write tunes, fill in bars and add voices in the browser's worker, and asks
the three readers of evaluation/judging/ about each. Then it measures, as a person uses the page
with the score drawn, notes per second: with this model, and with an untrained Llama of
configs/llama_small.yaml, since speed does not depend on the values of the weights. Beside wall
time it counts CPU seconds of the page's process, which other programs on the machine change less.
"""

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from evaluation.judging.judge_table import VALID
from evaluation.judging.judges import judge_texts
from model_cards.page_files import write_page_files
from modeling.plan_abc import read_bars
from scaling.writing.commands import command, parser_of
from training.config import load_config
from training.model import model_shape

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "page"
SMALL = ROOT / "configs" / "llama_small.yaml"
FAULTS = ROOT / "runs" / "page_faults.json"  # texts that a reader did not take, and why
PARTS = ("speed", "validity")
N_SPEED = 5  # tunes whose speed is measured


def find_program(name: str) -> str:
    """Returns the path of a program.

    Raises:
        FileNotFoundError: If it is missing.
    """
    found = shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"no {name}; on Debian: apt-get install nodejs npm chromium")
    return found


def run_node(script: str, *arguments: object) -> str:
    """Runs a script of the page and returns what it prints; its progress is shown.

    Raises:
        ValueError: If it fails.
    """
    command_line = [find_program("node"), str(PAGE / script), *map(str, arguments)]
    done = subprocess.run(command_line, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise ValueError(f"{script} ended with code {done.returncode}; its error stands above")
    return done.stdout


def build_page(model: Path, folder: Path) -> dict[str, Any]:
    """Builds the page of a model; returns its size and how long that took."""
    started = time.perf_counter()
    write_page_files(model, folder)
    run_node("build.mjs", folder)
    n_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    about = json.loads((folder / "model" / "about.json").read_text("utf-8"))
    return {
        "family": about["family"],
        "n_parameters": about["n_parameters"],
        "build_seconds": round(time.perf_counter() - started, 1),
        "folder_mb": round(n_bytes / 1e6, 1),
    }


def save_untrained(like: Path, folder: Path) -> Path:
    """Saves a model of `SMALL` with random weights and another's tokenizer; returns the folder."""
    like = like / "checkpoint" if (like / "checkpoint").is_dir() else like
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(like / name, folder / name)
    known = json.loads((like / "config.json").read_text("utf-8"))
    ids = {name: known[name] for name in known if name.endswith("token_id")}
    context = known.get("max_position_embeddings") or 1024
    shape = model_shape(load_config(SMALL), context) | {"max_position_embeddings": context}
    torch.manual_seed(0)
    config = AutoConfig.for_model(**shape, **ids, vocab_size=known["vocab_size"])
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a line for each."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Serves a folder on this machine; yields its address."""
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def measure_speed(address: str) -> dict[str, float]:
    """Returns how fast a page is, over `N_SPEED` tunes."""
    found = json.loads(run_node("tests/speed.mjs", find_program("chromium"), address, N_SPEED))
    n_notes, wall, cpu = (
        sum(tune[name] for tune in found["tunes"]) for name in ("nNotes", "seconds", "cpuSeconds")
    )
    return {
        "n_notes": n_notes,
        "notes_per_second": round(n_notes / wall, 1),
        "notes_per_cpu_second": round(n_notes / cpu, 1),
        "ready_seconds": round(found["readySeconds"], 1),
        "first_note_seconds": round(found["firstNoteSeconds"], 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def judge(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Returns for each kind of request how many texts all readers take, and who the readers are.

    Raises:
        ValueError: If a reader is missing.
    """
    verdicts, about = judge_texts([line["exported"] for line in lines])
    if about["missing"]:
        raise ValueError(f"readers are missing: {about['missing']}")
    written, valid, kept, faults = Counter(), Counter(), Counter(), []
    for line, verdict in zip(lines, verdicts, strict=True):
        kind = line["request"]["kind"]
        written[kind] += 1
        valid[kind] += bool(verdict[VALID] and line["hasEnd"])
        kept[kind] += keeps_the_rest(line["request"], line["abc"])
        if not verdict[VALID]:
            faults.append(line | {"messages": verdict["messages"]})
    counts = {
        kind: {"n": n, "n_valid": valid[kind], "n_rest_kept": kept[kind]}
        for kind, n in written.items()
    }
    FAULTS.parent.mkdir(exist_ok=True)
    FAULTS.write_text(json.dumps(faults, indent=1) + "\n", "utf-8")
    return {"texts": counts, "readers": about["versions"]}


def keeps_the_rest(request: dict[str, Any], abc: str) -> bool:
    """Whether what was to stay of a tune did: other bars, other voices, or conditions."""
    if request["kind"] == "write":
        asked = request["conditions"]
        head = abc.partition("\n[V:")[0]
        return all(f"\n{field}:{asked[name]}\n" in head
                   for field, name in (("M", "meter"), ("K", "key")) if name in asked)  # fmt: skip
    given, found = read_bars(request["tune"]), read_bars(abc)
    if request["kind"] == "fill":
        before, after = request["first"] - 1, request["last"]
        kept = [(*tune.lines[:before], *tune.lines[after:]) for tune in (given, found)]
        return kept[0] == kept[1] and given.ticks == found.ticks
    own = given.n_voices
    return all(
        list(found.voices(bar))[:own] == list(given.voices(bar)) for bar in range(len(given.lines))
    )


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> None:
    """Runs the command."""
    parser = parser_of("benchmarks.page", __doc__)
    parser.add_argument("model", type=Path, help="a finished run that was trained to fill in")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--tunes", type=int, default=300)
    parser.add_argument("--fills", type=int, default=100)
    parser.add_argument("--voices", type=int, default=50, help="accompaniments")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "page.json")
    options = parser.parse_args(arguments)
    print(json.dumps(campaign(options), indent=2))


def campaign(options: argparse.Namespace) -> dict[str, Any]:
    """Runs the parts, and writes them into the result beside those that are there already."""
    old = json.loads(options.out.read_text("utf-8")) if options.out.is_file() else {}
    if old.get("model", options.model.name) != options.model.name:
        raise ValueError(f"{options.out} is of {old['model']}; remove it, or choose another --out")
    found: dict[str, Any] = {"model": options.model.name}
    with tempfile.TemporaryDirectory() as place:
        page, small = Path(place, "page"), Path(place, "page_small")
        found["page"] = build_page(options.model, page)
        with served(page) as address:
            if "speed" in options.parts:
                untrained = save_untrained(options.model, Path(place, "small"))
                found["page_small"] = build_page(untrained, small)
                found["speed"] = {"model": measure_speed(address)}
                with served(small) as other:
                    found["speed"]["llama_small"] = measure_speed(other)
            if "validity" in options.parts:
                counts = (options.tunes, options.fills, options.voices)
                printed = run_node("tests/campaign.mjs", find_program("chromium"), address, *counts)
                found |= judge([json.loads(line) for line in printed.splitlines()])
    options.out.write_text(json.dumps(old | found, indent=2) + "\n", "utf-8")
    return old | found


if __name__ == "__main__":
    sys.exit(main())
