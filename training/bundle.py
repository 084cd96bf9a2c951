"""Pack data/<name>/<preset> into one file to train from without pyarrow or music21.

    python -m training.bundle data/dev/char dev.bundle
    python train.py configs/gpt_tiny.yaml data.root=dev.bundle data.dataset=dev

Training from the bundle gives the same data digest, block order and losses as training from the
folder. It needs torch, transformers, accelerate, numpy, safetensors and PyYAML.
"""

import argparse
import sys
from pathlib import Path

from scaling.writing.commands import command

from .data.blocks import load_songs
from .data.bundles import write_bundle
from .data.data_files import check_files, locate_data


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="training.bundle",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dataset", type=Path, help="data/<name>/<preset>")
    parser.add_argument("out", type=Path, help="file to write")
    options = parser.parse_args(arguments)
    folder = options.dataset
    place = {"root": str(folder.parent.parent), "dataset": folder.parent.name}
    files = locate_data({"data": {**place, "preset": folder.name}})
    check_files(files)
    songs = load_songs(files, "validation")
    size = write_bundle(files.folder, songs.ids, songs.totals, options.out)
    print(
        f"{options.out}: {size:,} bytes; train with data.root={options.out} {_names(files.folder)}"
    )
    return 0


def _names(folder: Path) -> str:
    return f"data.dataset={folder.parent.name} data.preset={folder.name}"


if __name__ == "__main__":
    sys.exit(main())
