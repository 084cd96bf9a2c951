"""Bytes of a MIDI file -> a symusic score; what wraps or slightly breaks it is set right.

symusic parses. It refuses some legal files (a long header chunk, SMPTE time) and some that hold
good music all the same (an unknown format number): their headers are rewritten here.

Source: Standard MIDI File specification 1.0 (RP-001), header and track chunks; RIFF RMID (RP-029).
"""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from symusic import Score, Tempo
from symusic.core import ScoreTick

from ..storage.drop_reasons import DropReason
from ..storage.explain import first_line


class MidiError(ValueError):
    """A MIDI file that is not converted.

    Attributes:
        reason: For counting.
    """

    def __init__(self, reason: DropReason, message: str) -> None:
        super().__init__(reason, message)  # as given: another process makes it anew from these
        self.reason = reason

    def __str__(self) -> str:
        return ": ".join(self.args)


@dataclass(frozen=True)
class Limits:
    """What a file may ask for; beyond it, it is refused with a reason of its own.

    Real files reach 30,000 notes; a legal one of 47 bytes may hold one rest of 139,810 bars
    (the longest that MIDI can write). What is far beyond either is a bomb or a joke.

    Attributes:
        bytes: Size of the file. 200,000 notes fit in 2 MB, as does the largest file of Lakh MIDI.
        notes: Notes that symusic finds.
        bars: Bars, silent ones too.
        voices: Voices of all parts; the dialect numbers them with three digits.
        quarters: Quarter notes from the start to the end.
        seconds: By the tempo map.
        chars: Characters of the text.
        chars_per_byte: Characters of the text per byte of the file, counted as one of at least
            `small_file_bytes`, since a small file may rest for long.
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
    """Raises `MidiError` with the reason where a file holds more of something than it may."""
    if found > limit:
        raise MidiError(reason, f"{found:,.0f} {what}, limit {limit:,.0f}")


# What is a MIDI file, by name and by content (`find_header`): nobody else decides that.
MIDI_SUFFIXES = (".mid", ".midi", ".kar", ".rmi")
_HEADER_SEARCH_BYTES = 65_536
_HEADER_LENGTH = 6
_MOST_TRACKS = 0xFFFF  # that a header can say
_SMPTE_29 = 30_000 / 1001  # 30 frames a second with dropped numbers; any other number is meant
_SMPTE_QUARTERS_A_SECOND = 2  # 120 quarters a minute, MIDI's own default


def find_header(content: bytes) -> int:
    """Returns where the chunk MThd stands: not at 0 in RIFF RMID and Mac binary; -1 if nowhere."""
    return content.find(b"MThd", 0, _HEADER_SEARCH_BYTES)


def load_score(midi: bytes, limits: Limits = LIMITS) -> ScoreTick:
    """Parses a MIDI file, from wherever its header chunk stands.

    Returns:
        A score of at least one note.

    Raises:
        MidiError: With the reason not to convert it.
    """
    check_limit(DropReason.TOO_MANY_BYTES, len(midi), "bytes", limits.bytes)
    start = find_header(midi)
    if start < 0:
        raise MidiError(DropReason.NOT_MIDI, f"starts with {midi[:16]!r}, expected the chunk MThd")
    midi = midi[start:]
    length = int.from_bytes(midi[4:8], "big")
    if length < _HEADER_LENGTH or len(midi) < 8 + length:
        raise MidiError(DropReason.UNREADABLE, f"header of {length} bytes in a file of {len(midi)}")
    file_format, division = midi[8:10], midi[12:14]
    ticks_a_second = _smpte_ticks_a_second(division)
    if ticks_a_second:
        division = round(ticks_a_second / _SMPTE_QUARTERS_A_SECOND).to_bytes(2, "big")
    if not any(division):
        raise MidiError(DropReason.UNREADABLE, "0 ticks a quarter note")
    body = midi[8 + length :]
    if file_format == b"\x00\x02":
        score = _parse_patterns(body, division)
    else:
        score = _parse_tracks(midi[10:12], division, body)
    if ticks_a_second:  # time is absolute there: tempo events do not stretch it
        mspq = round(score.tpq / ticks_a_second * 1e6)
        score.tempos = type(score.tempos)([Tempo(0, mspq=mspq)])
    n_notes = score.note_num()
    if n_notes == 0:
        raise MidiError(DropReason.NO_NOTES, "no track holds a note")
    check_limit(DropReason.TOO_MANY_NOTES, n_notes, "notes", limits.notes)
    quarters = score.end() / score.tpq
    check_limit(DropReason.TOO_MANY_QUARTERS, quarters, "quarters", limits.quarters)
    return score


def _smpte_ticks_a_second(division: bytes) -> float | None:
    """Returns the ticks a second of a header that counts frames, None for one that does not."""
    if division[0] < 0x80:
        return None
    frames = 256 - division[0]
    return (_SMPTE_29 if frames == 29 else frames) * division[1]


def _parse(file_format: bytes, n_tracks: bytes, division: bytes, body: bytes) -> ScoreTick:
    header = b"MThd" + _HEADER_LENGTH.to_bytes(4, "big") + file_format + n_tracks + division
    try:
        # Sanitised: values of 128-255 where 127 is the most are common in files from the web.
        return Score.from_midi(header + body, sanitize_data=True)
    except RuntimeError as error:
        raise MidiError(DropReason.UNREADABLE, first_line(error)[:200]) from error


def _parse_tracks(said: bytes, division: bytes, body: bytes) -> ScoreTick:
    """Reads formats 0 and 1; tracks that the header does not count as well, where they are sound.

    Args:
        said: The number of tracks, as the header has it.
        division: Of the header.
        body: The chunks after it.
    """
    n_tracks = _n_tracks(said, body)
    if n_tracks != said:
        with suppress(MidiError):
            return _parse(b"\x00\x01", n_tracks, division, body)
    return _parse(b"\x00\x01", said, division, body)


def _parse_patterns(body: bytes, division: bytes) -> ScoreTick:
    """Reads format 2, whose tracks are pieces of their own: one after another, bar by bar."""
    whole: ScoreTick | None = None
    for track in _track_chunks(body):
        pattern = _parse(b"\x00\x00", b"\x00\x01", division, track)
        if whole is None:
            whole = pattern
            continue
        bar = 4 * whole.tpq
        pattern = pattern.shift_time(-(-whole.end() // bar) * bar)
        for name in ("tracks", "tempos", "time_signatures"):
            getattr(whole, name).extend(getattr(pattern, name))
    if whole is None:
        raise MidiError(DropReason.UNREADABLE, "no track chunk")
    return whole


def _n_tracks(said: bytes, body: bytes) -> bytes:
    """Returns the number of tracks as a header has it: more than it says, where more are there."""
    n_tracks = int.from_bytes(said, "big")
    if body.count(b"MTrk") <= n_tracks:  # as nearly always, and soon known
        return said
    chunks = _track_chunks(body)
    n_whole = sum(len(c) == 8 + int.from_bytes(c[4:8], "big") for c in chunks)  # none cut off
    return min(max(n_tracks, n_whole), _MOST_TRACKS).to_bytes(2, "big")


def _track_chunks(body: bytes) -> Iterator[bytes]:
    start = 0
    while start + 8 <= len(body):
        stop = start + 8 + int.from_bytes(body[start + 4 : start + 8], "big")
        if body[start : start + 4] == b"MTrk":
            yield body[start:stop]
        start = stop
