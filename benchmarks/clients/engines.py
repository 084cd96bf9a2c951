"""Files of a published folder for other engines: written, checked, and read by these engines.

The checks of `make publish` are on texts of the model's own; here songs of a dataset follow.
"""

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from model_cards.formats.compare import LARGEST_LOSS, Engine, loss_difference
from model_cards.formats.formats import FORMATS, check_installed
from model_cards.formats.reference import Reference

NODE_SECONDS = 3600
READ_BACK = "X:1\nM:3/4\nL:1/16\n[V:1]^A,2|]"
Row = dict[str, Any]  # {"ok": ..., "found": ...}


def run_engines(folder: Path, songs: Sequence[str]) -> dict[str, Row]:
    """Adds all formats to a folder and reads songs in each smaller file.

    Args:
        folder: A published folder of a stock class.
        songs: Texts, which are cut to the context.

    Returns:
        Format -> what was found.
    """
    reference, rows = Reference(folder), {}
    for name, each in FORMATS.items():
        print(f"{name} of {folder.name} ...", flush=True)
        try:
            check_installed([name])
            found = [f"{file}: {said}" for file, said in each.write(reference, folder, "m").items()]
            texts = [reference.read(song) for song in songs]
            costs = {
                file: loss_difference(engine(), texts) for file, engine in _smaller(folder, name)
            }
            found += [f"{file} on {len(songs)} songs {cost:+.4f}" for file, cost in costs.items()]
            is_close = all(abs(cost) <= LARGEST_LOSS for cost in costs.values())
            rows[name] = {"ok": is_close, "found": "; ".join(found)}
        except ValueError as error:
            rows[name] = {"ok": False, "found": str(error)}
    return rows


def _smaller(folder: Path, name: str) -> Iterator[tuple[str, Callable[[], Engine]]]:
    """Yields the files of a format with rounded weights, and what loads them."""
    if name == "onnx":
        from model_cards.formats.onnx_export import INT8, OnnxEngine  # optional packages

        yield INT8, lambda: OnnxEngine(folder / INT8)
        return
    from model_cards.formats.llama_cpp_engine import LlamaCppEngine  # optional packages

    n_positions = Reference(folder).context
    for file in sorted(folder.glob("*.gguf")):
        yield file.name, lambda file=file: LlamaCppEngine(file, n_positions)


def run_node(folder: Path, node: Path, programs: Path) -> dict[str, Row]:
    """Has transformers.js under node write the greedy tune of both ONNX files of a folder.

    The tune of `onnx/model.onnx` must be that of transformers; that of int8, which rounds in other
    ways, must be that of ONNX Runtime.

    Args:
        folder: A published folder with the format onnx.
        node: Where npm installed transformers.js.
        programs: Where its program is.
    """
    from model_cards.formats.onnx_export import INT8, OnnxEngine  # optional packages

    reference = Reference(folder)
    tune = reference.greedy[0]
    expected = {
        "fp32": ("transformers", tune),
        "q8": ("ONNX Runtime", OnnxEngine(folder / INT8).greedy(reference.start, len(tune))),
    }
    version = json.loads((node / "node_modules/@huggingface/transformers/package.json").read_text())
    ids = reference.tokenizer(READ_BACK)["input_ids"]
    is_right, found = True, []
    for kind, (engine, ids_wanted) in expected.items():
        program = programs / "transformers_js.mjs"
        command = ["node", str(program), str(folder.resolve()), str(len(tune)), kind, READ_BACK]
        done = subprocess.run(command, cwd=node, capture_output=True, timeout=NODE_SECONDS)
        if done.returncode:
            said = done.stderr.decode().strip().splitlines()
            return _row(version, False, said[-1] if said else f"status {done.returncode}")
        said = json.loads(done.stdout.decode().splitlines()[-1])
        same = sum(one == other for one, other in zip(said["greedy"], ids_wanted, strict=True))
        found.append(f"{kind}: {same} of {len(tune)} greedy tokens as {engine}")
        is_right &= same == len(tune) and said["ids"] == ids and said["decoded"] == READ_BACK
    return _row(version, is_right, "; ".join([*found, "tokenizer equal"]))


def _row(version: dict[str, str], is_right: bool, found: str) -> dict[str, Row]:
    return {f"transformers.js {version['version']}": {"ok": is_right, "found": found}}
