"""Which files a published folder may hold: weights, text and code, and no pickles."""

import ast
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open

GGUF_START = b"GGUF"


def check_files(folder: Path) -> None:
    """Checks that a folder contains only weights, text and code.

    Raises:
        ValueError: If a file has another suffix, or content that does not match its suffix.
    """
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file() or path.suffix not in _CHECKS:
            allowed = ", ".join(_CHECKS)
            raise ValueError(
                f"{path.name} is not published: expected plain files of type {allowed}"
            )
        try:
            _CHECKS[path.suffix](path)
        except (ValueError, SyntaxError, SafetensorError) as error:
            raise ValueError(f"{path.name} is not what its suffix indicates: {error}") from error


def _check_safetensors(path: Path) -> None:
    with safe_open(path, "pt") as weights:
        weights.keys()


def _check_gguf(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(len(GGUF_START))
    if start != GGUF_START:
        raise ValueError(f"it starts with {start!r}, expected {GGUF_START!r}")


def _check_onnx(path: Path) -> None:
    import onnx  # optional: whoever publishes such a file has it

    try:
        onnx.checker.check_model(path)
    except onnx.checker.ValidationError as error:
        raise ValueError(str(error).partition("\n")[0]) from error


_CHECKS = {
    ".safetensors": _check_safetensors,
    ".gguf": _check_gguf,
    ".onnx": _check_onnx,
    ".json": lambda path: json.loads(path.read_text("utf-8")),
    ".py": lambda path: ast.parse(path.read_text("utf-8")),
    ".md": lambda path: path.read_text("utf-8"),
    ".lark": lambda path: path.read_text("utf-8"),
}
