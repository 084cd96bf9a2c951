"""Invariants for any input, in bounded time and memory."""

from __future__ import annotations

import contextlib
import itertools
import re
import resource
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from symusic import Score

from data_prep.dialect.abc_to_midi import Performance, abc_to_midi, perform
from data_prep.dialect.notation import TICKS_PER_QUARTER, AbcError
from data_prep.dialect.tune import LAYOUTS, Tune, print_tune
from data_prep.dialect.tune_parser import parse_tune
from data_prep.importers.foreign_abc import read_book
from data_prep.midi.limits import LIMITS, MidiError
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.storage.drop_reasons import DropReason

MAX_SECONDS = 5.0  # of CPU time, which does not depend on the load of the machine
MAX_GROWTH_BYTES = 512 * 2**20
MAX_TUNES = 50  # of a file that are checked

T = TypeVar("T")


class _FindingError(Exception):
    """Carries the line that a check returns."""


class _OutOfTime(BaseException):
    """Not an `Exception`, so that no code under test can catch it as its own."""


def check_midi(data: bytes) -> str | None:
    """Checks that a file becomes a valid text, or is rejected with a reason.

    Returns:
        None if all is well, else one line that states the problem. Never raises.
    """
    return limited(_check_midi, data)


def check_abc(text: str) -> str | None:
    """Checks that a text becomes a valid MIDI file, or is rejected with the position.

    Returns:
        None if all is well, else one line that states the problem. Never raises.
    """
    return limited(_check_abc, text)


def check_foreign(content: bytes) -> str | None:
    """Checks that a file of foreign ABC becomes sound tunes, or errors with the position.

    Returns:
        None if all is well, else one line that states the problem. Never raises.
    """
    return limited(_check_foreign, content)


def kind_of(description: str) -> str:
    """Returns the result of a check without the details of the input, for grouping."""
    return description.split(" (", 1)[0]


def _check_midi(data: bytes) -> None:
    text = _convert("midi_to_abc", data)
    if text is not None:
        _check_converted(text)


def _check_abc(text: str) -> None:
    try:
        with _step("abc_to_midi"):
            performance = perform(parse_tune(text))
            midi = abc_to_midi(text)
    except AbcError as error:
        _check_place(text, error)
        return
    _check_notes(midi, performance)
    if not performance.bar_errors and (again := _convert("midi_to_abc of accepted text", midi)):
        _check_converted(again)


def _check_foreign(content: bytes) -> None:
    with _step("read_book"):
        found = [*itertools.islice(read_book(content), MAX_TUNES)]
    if not found:
        raise _FindingError("read_book yields nothing")
    n_lines = len(re.split(b"\r\n|\n\r|\r|\n", content)) + content.count(b"\r")
    for tune in found:
        for said in (*tune.warnings, *filter(None, [tune.error])):
            if not 1 <= said.line <= max(n_lines, 1) or said.column < 1:
                raise _FindingError(f"place beside the text ({said!r})")
        if (tune.tune is None) == (tune.error is None):
            raise _FindingError("neither tune nor error, or both")
        if tune.tune:
            _check_tune(tune.tune)


def _check_tune(tune: Tune) -> None:
    """Checks that a tune is in the dialect: its bars are full, and both layouts read alike."""
    if tune.origins:  # it was in the dialect before, which other checks cover
        return
    with _step("print_tune of a foreign tune"):
        layouts = [parse_tune(print_tune(tune, layout)) for layout in LAYOUTS]
        performances = [perform(layout) for layout in (tune, *layouts)]
    if performances[0].bar_errors:
        raise _FindingError(f"bar errors in a foreign tune ({performances[0].bar_errors[0]})")
    for name, layout, performance in zip(LAYOUTS, layouts, performances[1:], strict=True):
        if layout != tune or performance.voices != performances[0].voices:
            raise _FindingError(f"the layout {name} reads otherwise ({layout.meters})")


def _convert(step: str, midi: bytes) -> str | None:
    """Converts a file; None if it is rejected with a reason from the list."""
    try:
        with _step(step):
            return midi_to_abc(midi, layout="bars")
    except MidiError as error:
        if not isinstance(error.reason, DropReason):
            raise _FindingError(f"{step}: reason {error.reason!r} is not in the list") from error
        return None


def _check_converted(text: str) -> None:
    """Checks the invariants of all text that the converter writes."""
    try:
        with _step("abc_to_midi of converted text"):
            tune = parse_tune(text)
            performance = perform(tune)
            midi = abc_to_midi(text)
            exported = abc_to_midi(print_tune(tune, "voices"))
        if performance.bar_errors:
            raise _FindingError(f"bar errors in converted text ({performance.bar_errors[0]})")
        _check_notes(midi, performance)
        if exported != midi:
            raise _FindingError("the layouts differ as MIDI")
        with _step("midi_to_abc of converted text"):
            # Our file may be smaller than the one from which the text was made.
            limits = replace(LIMITS, chars_per_byte=LIMITS.chars)
            returned = midi_to_abc(midi, layout="bars", limits=limits)
    except (AbcError, MidiError) as error:
        reason = f" {error.reason}" if isinstance(error, MidiError) else ""
        what = f"converted text is refused: {type(error).__name__}{reason}"
        raise _FindingError(f"{what} ({error})") from error
    if returned != text:
        raise _FindingError(f"no fixed point: {_first_difference(text, returned)}")


def _check_notes(midi: bytes, performance: Performance) -> None:
    """Checks that symusic reads the notes of the text at their positions.

    A tick out of MIDI's range would otherwise silently be written as another one.
    """
    with _step("symusic"):
        score = Score.from_midi(midi)
    scale = score.tpq / TICKS_PER_QUARTER
    read = sorted(
        (note.time / scale, note.duration / scale, note.pitch)
        for part in score.tracks
        for note in part.notes
    )
    meant = sorted(
        (onset, end - onset, pitch)
        for chords in performance.voices
        for onset, end, pitches in chords
        for pitch in pitches
    )
    if len(read) != len(meant):
        raise _FindingError(f"notes are lost in the MIDI file ({len(meant)}, read {len(read)})")
    for wanted, found in zip(meant, read, strict=True):
        if wanted != found:
            raise _FindingError(f"notes are moved in the MIDI file ({wanted}, read {found})")


def _check_place(text: str, error: AbcError) -> None:
    """Checks that an error's position is in the text, or just past the end of a line."""
    lines = re.split("\r\n|\r|\n", text)  # as editors count them
    inside = 1 <= error.line <= len(lines)
    if not inside or not 1 <= error.column <= len(lines[error.line - 1]) + 1:
        message = re.sub(r"'.*'|\".*\"|\d+", "_", error.message)
        raise _FindingError(f"AbcError beside the text: {message[:60]} ({str(error)[:60]!r})")


def _first_difference(text: str, returned: str) -> str:
    """Describes the first line that differs between two texts: its kind, and both versions."""
    pairs = itertools.zip_longest(text.split("\n"), returned.split("\n"), fillvalue="")
    line, back = next(pair for pair in pairs if pair[0] != pair[1])
    kind = "its lines"
    if line.rstrip("|]") == back.rstrip("|]"):
        kind = "number of bars"
    elif line.startswith("[V:") and back.startswith("[V:"):
        kind = "notes of a bar"
        for letter, name in (("M", "metre"), ("V", "voices"), ("Q", "tempo")):
            fields = [re.findall(rf"\[{letter}:[^\]]*\]", side) for side in (line, back)]
            if fields[0] != fields[1]:
                kind = f"{name} of a bar"
                break
    elif line[:2] == back[:2]:
        kind = "%%MIDI of a voice" if line.startswith("%") else line[:2]
    return f"{kind} ({line[:80]!r} comes back as {back[:80]!r})"


@contextlib.contextmanager
def _step(name: str) -> Iterator[None]:
    """Turns errors that are not rejections into findings that name the step and the place."""
    try:
        yield
    except (AbcError, MidiError):
        raise
    except Exception as error:
        message = " ".join(str(error).split())[:100]
        kind = f"{name}: {type(error).__name__} at {_place(error)}"
        raise _FindingError(f"{kind} ({message})") from error


def _place(error: BaseException) -> str:
    """Returns where an error was raised: the place in the converter, if it passed through it."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "data_prep" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"


def limited(check: Callable[[T], None], data: T) -> str | None:
    """Runs a check within time and memory limits.

    Returns:
        What it found, or which limit it exceeded, in one line of ASCII; None if all is well. Never
        raises.
    """
    description = _in_limits(check, data)
    if description is None:
        return None
    # It quotes odd inputs, and a lone surrogate, for example, cannot be printed.
    return " ".join(description.encode("ascii", "backslashreplace").decode().split())


def _in_limits(check: Callable[[T], None], data: T) -> str | None:
    start = time.process_time()
    try:
        with _memory_limit(), _time_limit():
            check(data)
    except _FindingError as finding:
        return str(finding)
    except _OutOfTime as error:
        return f"more than {MAX_SECONDS:.0f} s (interrupted at {_place(error)})"
    except Exception as error:  # from the check itself, outside its steps
        return f"check: {type(error).__name__} at {_place(error)} ({error})"
    seconds = time.process_time() - start  # in case no signal was possible, or C code delayed it
    return f"more than {MAX_SECONDS:.0f} s ({seconds:.1f} s)" if seconds > MAX_SECONDS else None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Raises `_OutOfTime` after `MAX_SECONDS`; works only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _memory_limit() -> Iterator[None]:
    """Raises MemoryError if memory grows by more than `MAX_GROWTH_BYTES`; on Linux only."""
    statm = Path("/proc/self/statm")
    if not statm.exists():
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    now = int(statm.read_text().split()[0]) * resource.getpagesize()
    limit = now + MAX_GROWTH_BYTES
    for bound in (soft, hard):
        limit = limit if bound == resource.RLIM_INFINITY else min(limit, bound)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
