"""Limits above which MIDI files are not converted, and the error that reports it."""

from dataclasses import dataclass

from ..storage.drop_reasons import DropReason


class MidiError(ValueError):
    """A file that is not converted.

    Attributes:
        reason: The drop reason, for counting.
    """

    def __init__(self, reason: DropReason, message: str) -> None:
        super().__init__(reason, message)  # unchanged, since unpickling calls __init__ with these
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(frozen=True)
class Limits:
    """Upper limits for a file; each has its own drop reason.

    Real files reach 30,000 notes; a legal file of 47 bytes may contain one rest of 139,810 bars
    (the longest that MIDI can write). Anything far above either is a bomb or a joke.

    Attributes:
        bytes: Size of the file. 200,000 notes fit in 2 MB, as does the largest file of Lakh MIDI.
        notes: Notes of all tracks.
        bars: Bars, including silent ones.
        voices: Voices of all parts; the dialect numbers them with three digits.
        quarters: Quarter notes from start to end.
        seconds: Duration by the tempo map.
        chars: Characters of the text.
        chars_per_byte: Characters of the text per byte of the file. The file counts as at least
            `small_file_bytes` long, since a small file may contain long rests.
        small_file_bytes: See `chars_per_byte`.
    """

    bytes: int = 8_000_000
    notes: int = 200_000
    bars: int = 150_000
    voices: int = 999
    quarters: int = 1_000_000
    seconds: float = 100 * 3600.0
    chars: int = 8_000_000
    chars_per_byte: int = 400
    small_file_bytes: int = 4096


LIMITS = Limits()


def check_limit(reason: DropReason, found: float, what: str, limit: float) -> None:
    """Raises `MidiError` with the reason if a file exceeds a limit."""
    if found > limit:
        raise MidiError(reason, f"{found:,.0f} {what}, limit {limit:,.0f}")
