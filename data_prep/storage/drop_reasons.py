"""Why a file or tune is not in a corpus: all reasons, of all stages.

A new rule is two files: its reason here, and the rule itself, which gives that reason: it raises
`MidiError` in the conversion, or returns it in `filter_tunes.drop_reason`. Rows, stage.json, cards
and pages hold the reason's text and count it; they need no list of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class DropReason(StrEnum):
    """A reason, as rows and stage.json have it.

    Attributes:
        help: What it means, in a line.
    """

    help: str

    def __new__(cls, text: str, help_line: str) -> DropReason:
        """Makes a member, which is its text."""
        reason = str.__new__(cls, text)
        reason._value_, reason.help = text, help_line
        return reason

    # the conversion
    NOT_MIDI = "not_midi", "no MThd chunk near the start: a web page, another format, an empty file"
    UNREADABLE = "unreadable", "a broken header, or tracks that cannot be parsed"
    UNREADABLE_MEMBER = (
        "unreadable_member",
        "of an archive or folder: damaged, encrypted, a link, a name that leads out of it",
    )
    NO_NOTES = "no_notes", "no track holds a note"
    TOO_MANY_BYTES = "too_many_bytes", "above midi_file.Limits.bytes"
    TOO_MANY_NOTES = "too_many_notes", "above midi_file.Limits.notes"
    TOO_MANY_BARS = "too_many_bars", "above midi_file.Limits.bars"
    TOO_MANY_VOICES = "too_many_voices", "above midi_file.Limits.voices"
    TOO_MANY_QUARTERS = "too_many_quarters", "above midi_file.Limits.quarters"
    TOO_MANY_SECONDS = "too_many_seconds", "above midi_file.Limits.seconds"
    TOO_MANY_CHARS = "too_many_chars", "the text would be above midi_file.Limits.chars"
    TOO_MUCH_EXPANSION = (
        "too_much_expansion",
        "the text would be above midi_file.Limits.chars_per_byte times the file",
    )
    TIMEOUT = "timeout", "the converter was not done in time, also when tried again alone"
    CRASH = "crash", "a fault of the converter, or its worker died or ran out of memory"
    # cleaning
    UNREADABLE_ABC = "unreadable_abc", "the text is not in the dialect"
    SILENT = "silent", "no bar holds a note"
    FIRST_BAR_TOO_LONG = "first_bar_too_long", "not even one bar fits into clean.max_chars"
    # filtering
    TOO_FEW_NOTES = "too_few_notes", "below filter.min_notes"
    TOO_REPETITIVE = (
        "too_repetitive",
        "compresses too well: the whole below filter.min_gzip_ratio, or each of its voices below "
        "filter.min_voice_gzip_ratio",
    )
    DUPLICATE = "duplicate", "the same music as another tune, which stays"


def counted(dropped: Mapping[str, int]) -> str:
    """Returns how many were dropped for which reason, in one line."""
    return ", ".join(f"{reason} {n:,}" for reason, n in dropped.items()) or "none"


def reasons_help() -> str:
    """Returns all reasons with their meanings, for the end of a command's help."""
    lines = (f"  {reason:<20}{reason.help}" for reason in DropReason)
    return "\n".join(["why files and tunes are dropped, as stage.json counts them:", *lines])
