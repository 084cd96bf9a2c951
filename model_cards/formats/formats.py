"""The files for other engines that `make publish FORMATS="gguf onnx"` adds to a published model.

A file is kept only if the engine itself, run here, computes the same as transformers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from .reference import Reference

STOCK_TYPES = ("gpt2", "llama")


@dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
        modules: What writes and checks it; an extra of pyproject.toml installs them.
        write: (model, folder, name of the model) -> file: what its check found.
    """

    modules: tuple[str, ...]
    write: Callable[[Reference, Path, str], dict[str, str]]


def _write_gguf(reference: Reference, folder: Path, name: str) -> dict[str, str]:
    from .gguf_export import write_gguf  # gguf and llama_cpp are optional

    return write_gguf(reference, folder, name)


def _write_onnx(reference: Reference, folder: Path, name: str) -> dict[str, str]:
    from .onnx_export import write_onnx  # onnx and onnxruntime are optional

    return write_onnx(reference, folder)


# name -> format; the name is also that of the extra
FORMATS = {
    "gguf": Format(("gguf", "llama_cpp"), _write_gguf),
    "onnx": Format(("onnx", "onnxruntime", "onnxscript"), _write_onnx),
}


def check_installed(names: Sequence[str]) -> None:
    """Checks that the engines of some formats are installed.

    Raises:
        ValueError: If one is not.
    """
    for name in names:
        missing = [module for module in FORMATS[name].modules if find_spec(module) is None]
        if missing:
            raise ValueError(
                f"the format {name} is written and checked with {', '.join(missing)}, which is not "
                f'installed: pip install --constraint constraints.txt --editable ".[{name}]"'
            )


def check_type(model_type: str) -> None:
    """Checks that a model is of a class that other engines know.

    Raises:
        ValueError: If it is not.
    """
    if model_type not in STOCK_TYPES:
        raise ValueError(
            f"a model of type {model_type}, expected {' or '.join(STOCK_TYPES)}, the types that "
            "other engines know: publish a GPT with STOCK=1; an LSTM has no such form"
        )


def write_formats(names: Sequence[str], folder: Path, name: str) -> dict[str, str]:
    """Adds formats to a folder.

    Args:
        names: Of `FORMATS`.
        folder: What is published: weights, config and tokenizer of a stock model.
        name: The name of the model, in names of files.

    Returns:
        File -> what its check found, in one line.

    Raises:
        ValueError: If a format cannot hold the model, or its engine computes something else.
    """
    reference = Reference(folder)
    found = {}
    for each in names:
        found |= FORMATS[each].write(reference, folder, name)
    return found
