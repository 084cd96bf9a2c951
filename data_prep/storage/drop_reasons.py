"""Why a file or tune is not in a corpus: the drop reasons of all stages.

A new rule touches two files: its reason here, with a line of help, and the rule itself, which
raises `MidiError` with the reason in the conversion, or returns it in `filter_tunes.drop_reason`.
Rows, stage.json, cards and pages contain and count the reason's text; they need no separate list.
"""

from collections.abc import Mapping
from enum import StrEnum


class DropReason(StrEnum):
    """A drop reason, as written in rows and stage.json; `HELP` explains each."""

    # the conversion
    NOT_MIDI = "not_midi"
    NOT_A_SCORE = "not_a_score"
    UNREADABLE = "unreadable"
    UNREADABLE_MEMBER = "unreadable_member"
    NO_NOTES = "no_notes"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_NOTES = "too_many_notes"
    TOO_MANY_BARS = "too_many_bars"
    TOO_MANY_VOICES = "too_many_voices"
    TOO_MANY_QUARTERS = "too_many_quarters"
    TOO_MANY_SECONDS = "too_many_seconds"
    TOO_MANY_CHARS = "too_many_chars"
    TOO_MUCH_EXPANSION = "too_much_expansion"
    TIMEOUT = "timeout"
    CRASH = "crash"
    # cleaning
    UNREADABLE_ABC = "unreadable_abc"
    SILENT = "silent"
    FIRST_BAR_TOO_LONG = "first_bar_too_long"
    # filtering
    TOO_FEW_NOTES = "too_few_notes"
    TOO_REPETITIVE = "too_repetitive"
    DUPLICATE = "duplicate"


# Separate from the reasons, so that rewording one does not change the code digest.
HELP = {
    DropReason.NOT_MIDI: "no MThd chunk near the start: a web page, another format, an empty file",
    DropReason.NOT_A_SCORE: "a file named as a score that is no MusicXML, MEI or Humdrum",
    DropReason.UNREADABLE: (
        "MIDI with a malformed header, or tracks that cannot be parsed; a score that is cut off or "
        "malformed"
    ),
    DropReason.UNREADABLE_MEMBER: (
        "in an archive or folder: damaged, encrypted, a link, a name that leads out of it"
    ),
    DropReason.NO_NOTES: "no track contains a note",
    DropReason.TOO_MANY_BYTES: "above midi.limits.Limits.bytes",
    DropReason.TOO_MANY_NOTES: "above midi.limits.Limits.notes",
    DropReason.TOO_MANY_BARS: "above midi.limits.Limits.bars",
    DropReason.TOO_MANY_VOICES: "above midi.limits.Limits.voices",
    DropReason.TOO_MANY_QUARTERS: "above midi.limits.Limits.quarters",
    DropReason.TOO_MANY_SECONDS: "above midi.limits.Limits.seconds",
    DropReason.TOO_MANY_CHARS: "the text would be above midi.limits.Limits.chars",
    DropReason.TOO_MUCH_EXPANSION: (
        "the text would be above midi.limits.Limits.chars_per_byte times the file size"
    ),
    DropReason.TIMEOUT: "the converter timed out, also when the file was retried alone",
    DropReason.CRASH: "a bug in the converter, or its worker died or ran out of memory",
    DropReason.UNREADABLE_ABC: "the text is not in the dialect",
    DropReason.SILENT: "no bar contains a note",
    DropReason.FIRST_BAR_TOO_LONG: "not even one bar fits in clean.max_chars",
    DropReason.TOO_FEW_NOTES: "below filter.min_notes",
    DropReason.TOO_REPETITIVE: (
        "compresses too well: the tune below filter.min_gzip_ratio, or each of its voices below "
        "filter.min_voice_gzip_ratio"
    ),
    DropReason.DUPLICATE: "the same music as another tune, which is kept",
}


def counted(dropped: Mapping[str, int]) -> str:
    """Returns the number dropped for each reason, in one line."""
    return ", ".join(f"{reason} {n:,}" for reason, n in dropped.items()) or "none"


def reasons_help() -> str:
    """Returns all reasons with their meanings, for the end of a command's help."""
    lines = (f"  {reason:<20}{HELP[reason]}" for reason in DropReason)
    return "\n".join(["why files and tunes are dropped, as stage.json counts them:", *lines])
