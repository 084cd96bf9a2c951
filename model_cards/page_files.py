"""A model -> the files of the page that plays it: weights, tokenizer, settings, card, Python code.

    python -m model_cards.page_files runs/demo/gpt_l2_d64_t2M_s1 runs/page

`make page` calls this, then builds the page around it; see docs/how-to/page.md. The weights are
rounded to half precision, and the page computes with them in single precision.
"""

import ast
import json
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from scaling.families import family_of
from scaling.writing.commands import command, parser_of

ROOT = Path(__file__).parent.parent
ENTRY = ROOT / "page" / "python" / "api.py"
MOST_PARAMETERS = 30_000_000
LARGEST_HALF = torch.finfo(torch.float16).max
_MOMENT = (2020, 1, 1, 0, 0, 0)  # so that the same files make the same archive


def write_page_files(source: Path, out: Path, has_weights: bool = True) -> None:
    """Writes `<out>/model/` and `<out>/python.zip`.

    Args:
        source: A finished run, or a folder with config.json, model.safetensors, tokenizer.json.
        out: Folder of the page.
        has_weights: Whether the page computes with the model itself. If not, a studio does, see
            evaluation/serving/studio/.

    Raises:
        ValueError: If there is no model, or it is too large for a page.
    """
    saved = source / "checkpoint" if (source / "checkpoint").is_dir() else source
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        if not (saved / name).is_file():
            raise ValueError(f"no {name} in {saved}, expected a finished run or a saved model")
    config = json.loads((saved / "config.json").read_text("utf-8"))
    folder = out / "model"
    if folder.resolve() == saved.resolve():
        raise ValueError(f"{folder} is the model itself, expected another folder for its page")
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("model.safetensors", "README.md"):  # of another model
        (folder / name).unlink(missing_ok=True)
    if has_weights:
        n_parameters = write_weights(saved, folder, config)
    else:
        n_parameters = sum(weight.numel() for weight in _read_weights(saved, config).values())
    longest = json.loads((saved / "tokenizer_config.json").read_text("utf-8"))["model_max_length"]
    for name in ("config.json", "tokenizer.json"):
        shutil.copyfile(saved / name, folder / name)
    if (saved / "README.md").is_file():
        shutil.copyfile(saved / "README.md", folder / "README.md")
    about = {"name": source.resolve().name, "family": family_of(config["model_type"]).label}
    about["trained_length"] = min(longest, config.get("max_position_embeddings") or longest)
    about |= {"n_parameters": n_parameters, "hasCard": (saved / "README.md").is_file()}
    about |= {"isServed": not has_weights, "reads": [".abc", ".txt"], "converts": []}
    (folder / "about.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")
    _write_code(out / "python.zip")


def write_weights(saved: Path, folder: Path, config: dict[str, Any]) -> int:
    """Writes a saved model's weights in half precision; returns their number.

    Raises:
        ValueError: If they cannot be read, are too many, or beyond half precision.
    """
    weights = _read_weights(saved, config)
    n_parameters = sum(weight.numel() for weight in weights.values())
    if n_parameters > MOST_PARAMETERS:
        raise ValueError(
            f"{n_parameters:,} parameters, expected at most {MOST_PARAMETERS:,}: a browser would "
            "take too long; use a smaller model, or make studio"
        )
    for name, weight in weights.items():
        if not weight.abs().max() <= LARGEST_HALF:
            raise ValueError(f"{name} has values beyond {LARGEST_HALF:,.0f}, or none")
    halves = {name: weight.half().contiguous() for name, weight in weights.items()}
    save_file(halves, folder / "model.safetensors")
    return n_parameters


def _read_weights(saved: Path, config: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Returns a saved model's weights, tied ones once.

    Raises:
        ValueError: If they cannot be read.
    """
    try:
        weights = load_file(saved / "model.safetensors")
    except SafetensorError as error:
        raise ValueError(f"{saved / 'model.safetensors'} cannot be read: {error}") from None
    if config.get("tie_word_embeddings", True):
        weights.pop("lm_head.weight", None)
    return weights


def _write_code(archive: Path) -> None:
    """Writes the page's own Python and all that it imports: the dialect has one source."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(imported_files(ENTRY)):
            info = zipfile.ZipInfo(path.relative_to(ROOT).as_posix(), _MOMENT)
            info.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(info, path.read_bytes())


def imported_files(entry: Path) -> set[Path]:
    """Returns a module of this project and all modules that it imports, without packages' own.

    Raises:
        ValueError: If one imports more than the standard library and this project.
    """
    found, waiting = set(), [entry]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for name in _imports(path):
            file = ROOT.joinpath(*name.split(".")).with_suffix(".py")
            if file.is_file():
                waiting.append(file)
            elif name.partition(".")[0] not in sys.stdlib_module_names:
                raise ValueError(f"{path} imports {name}, which the page does not have")
    return found


def _imports(path: Path) -> list[str]:
    """Returns the absolute names of the modules that a module imports."""
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = path.parents[node.level - 1].relative_to(ROOT).parts if node.level else ()
            names.append(".".join((*above, *filter(None, [node.module]))))
    return names


@command(ValueError, OSError)
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command."""
    parser = parser_of("model_cards.page_files", __doc__)
    parser.add_argument("model", type=Path, help="a finished run, or the folder of a saved model")
    parser.add_argument("out", type=Path, help="the folder of the page")
    parser.add_argument("--without-weights", action="store_true", help="for a studio")
    given = parser.parse_args(arguments)
    write_page_files(given.model, given.out, has_weights=not given.without_weights)


if __name__ == "__main__":
    sys.exit(main())
