"""Real tiny music, and the data pipeline's output on it, shared by all tests."""

from pathlib import Path

import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def tune_files() -> list[Path]:
    """Sixty public-domain fiddle tunes as MIDI; see tests/data/README.md."""
    return sorted((DATA / "tunes").glob("*.mid"))


@pytest.fixture(scope="session")
def chorale() -> bytes:
    """A four-part chorale by J. S. Bach as MIDI."""
    return (DATA / "bach_bwv269.mid").read_bytes()
