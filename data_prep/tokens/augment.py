"""Augmented copies of a train song, in other keys and at other tempos.

They are written once, in the data stage, rather than drawn at training time: blocks stay one
memory-mapped file whose order depends only on seed and step, the loader is as fast as before, and
unique tokens can be counted. Another key also needs another spelling, so a copy needs a parse:
11 ms for the first copy of a song and 2 ms for each further one (means over 1,500 files of 11,800
characters each, on one core).

Only the train split is augmented, after the split: all copies of a song are in train, so nothing
of validation or test is learned in another key.

The text is what the converter would write for the transposed music, including its choice of key;
so copies of a text that is a fixed point of the converter are fixed points, too.
"""

import hashlib
import math
import random
import re
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from ..dialect.abc_to_midi import perform
from ..dialect.bar_writer import spellings
from ..dialect.notation import ALTERATIONS, KEY_NAMES, KEYS, NOTE, key_alterations, natural_pitch
from ..dialect.tune import Tune, best_key, playable_tempo, print_tune
from ..dialect.tune_parser import parse_tune

OTHER_KEYS = tuple(semitones for semitones in range(-6, 6) if semitones)
MAX_TEMPO_JITTER = 0.5
_PITCHES = 128
_PIANO = (21, 108)  # lowest and highest key of a piano, as MIDI pitches


@dataclass(frozen=True)
class AugmentSettings:
    """How the train split is augmented.

    Attributes:
        copies: Additional copies of each song, each in a different key; 0 to 11.
        tempo_jitter: Largest change of tempo of a copy: up to this much faster (0.1: by 10 %), or
            slower by the same factor, log-uniform; 0 to 0.5, 0 keeps the tempo.
        seed: Random seed.
    """

    copies: int = 0
    tempo_jitter: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.copies <= len(OTHER_KEYS):
            raise ValueError(
                f"copies is {self.copies}, expected 0 to {len(OTHER_KEYS)}: a song has no more "
                "other keys"
            )
        if not 0 <= self.tempo_jitter <= MAX_TEMPO_JITTER:
            raise ValueError(
                f"tempo_jitter is {self.tempo_jitter}, expected 0 to {MAX_TEMPO_JITTER}; "
                "0.1 is up to 10 % faster or slower"
            )


def augmented(abc: str, digest: str, settings: AugmentSettings) -> list[str]:
    """Returns the augmented copies of a song, in the layout `bars`.

    They depend only on the song and the settings; with fewer `copies`, the first ones stay the
    same.

    Args:
        abc: The song, in either layout, with its `%%MIDI` lines (without them, drums would be
            taken for pitches).
        digest: The song's digest, which seeds the draws along with `settings.seed`.
        settings: How many copies, and how they differ.

    Returns:
        `settings.copies` texts; fewer where fewer keys stay in range, see `transpositions`.

    Raises:
        AbcError: If the text is not in the dialect.
    """
    if not settings.copies:
        return []
    tune = parse_tune(abc)
    counts = _pitch_counts(tune)
    seed = hashlib.sha256(f"augment {settings.seed} {digest}".encode()).digest()
    # Only `Random.random()` is guaranteed to be reproducible across Python versions.
    draw = random.Random(int.from_bytes(seed, "big")).random
    keys = sorted(_in_range(counts), key=lambda _: draw())[: settings.copies]
    copies = []
    for semitones in keys:
        copy = transpose(tune, semitones, counts)
        if settings.tempo_jitter:
            copy = with_tempo(copy, (1 + settings.tempo_jitter) ** (2 * draw() - 1))
        copies.append(print_tune(copy, "bars"))
    return copies


# ---------------------------------------------------------------- keys


def transpose(tune: Tune, semitones: int, counts: np.ndarray | None = None) -> Tune:
    """Returns the tune `semitones` higher; drums keep their pitches, spelled in the new key.

    The key is the one that the converter would choose. If the tune's own key was not the
    converter's choice, it is moved along the circle of fifths, to at most six accidentals.

    Args:
        tune: The tune to transpose.
        semitones: Interval in semitones, negative for down.
        counts: Its pitch counts, if known; see `_pitch_counts`.

    Raises:
        AbcError: If a bar is not in the dialect.
        ValueError: If a pitch would leave MIDI's range.
    """
    counts = _pitch_counts(tune) if counts is None else counts
    used = np.flatnonzero(counts)
    outside = [pitch for pitch in used.tolist() if not 0 <= pitch + semitones < _PITCHES]
    if outside:
        raise ValueError(
            f"{semitones:+d} semitones make pitch {outside[0] + semitones} of {outside[0]}, "
            f"expected MIDI's 0-127; this tune can be moved by {-used[0]:+d} to "
            f"{_PITCHES - 1 - used[-1]:+d}"
        )
    key = _key_after(tune.key, semitones, counts)
    pitched, drums = _Respeller(tune.key, key, semitones), _Respeller(tune.key, key, 0)
    voices = [
        replace(voice, bars=list(map((drums if voice.is_drums else pitched).bar, voice.bars)))
        for voice in tune.voices
    ]
    return replace(tune, key=key, voices=voices, origins={})  # new text has no origin


def transpositions(tune: Tune) -> list[int]:
    """Returns the semitones by which the tune can be transposed, of -6 to 5 without 0, ascending.

    The result stays on the 88 keys of a piano, since abcjs cannot play pitches far below; a tune
    that is already outside them goes no further out. A tune without pitched notes has no other
    keys.

    Raises:
        AbcError: If a bar is not in the dialect.
    """
    return _in_range(_pitch_counts(tune))


def _pitch_counts(tune: Tune) -> np.ndarray:
    """Returns the number of notes of each MIDI pitch, without drums: (128,) int64."""
    performance = perform(tune)
    pitches = [
        pitch
        for voice, chords in zip(tune.voices, performance.voices, strict=True)
        if not voice.is_drums
        for _, _, chord in chords
        for pitch in chord
    ]
    return np.bincount(np.array(pitches, np.int64), minlength=_PITCHES)


def _in_range(counts: np.ndarray) -> list[int]:
    used = np.flatnonzero(counts)
    if not len(used):
        return []
    lowest, highest = int(used[0]), int(used[-1])
    low, high = min(_PIANO[0], lowest), max(_PIANO[1], highest)
    return [s for s in OTHER_KEYS if low <= lowest + s and highest + s <= high]


def _key_after(key: str, semitones: int, counts: np.ndarray) -> str:
    """Returns the key after transposing by `semitones`; see `transpose`."""
    classes = np.bincount(np.arange(_PITCHES) % 12, counts).astype(np.int64)  # (12,), C first
    if key == best_key(classes):
        # Not simply transposed: of keys that need equally many accidentals (a pentatonic tune has
        # three), the converter takes the one with fewer sharps or flats, which may differ.
        return best_key(np.roll(classes, semitones))
    return KEY_NAMES[(KEYS[key] + 7 * semitones + 5) % 12 - 5]


class _Respeller:
    """Writes bars of one key as bars of another, some semitones higher.

    Only note names are replaced, in place, so lengths, ties and tuplets cannot change. The
    accidental rule is that of `bar_writer`, and a test checks that they agree.
    """

    def __init__(self, key: str, new_key: str, semitones: int) -> None:
        self._signature = key_alterations(KEYS[key])
        self._spellings = spellings(new_key)
        self._semitones = semitones
        self._read: dict[str, int] = {}  # letter -> alteration, as read in the bar so far
        self._written: set[str] = set()  # letters altered in the new text of the bar so far
        self._known = {"": ""}  # bars repeat a lot

    def bar(self, text: str) -> str:
        """Returns the new text of a bar, which must be in the dialect."""
        if text not in self._known:
            self._read, self._written = {}, set()
            self._known[text] = NOTE.sub(self._note, text)
        return self._known[text]

    def _note(self, match: re.Match[str]) -> str:
        sign, name, letter = match.groups()
        letter = letter.upper()
        if sign:
            self._read[letter] = ALTERATIONS[sign]
        alteration = self._read.get(letter, self._signature[letter])
        pitch = natural_pitch(name) + alteration + self._semitones
        letter, bare, marked, in_key = self._spellings[pitch]
        if in_key:
            return marked if letter in self._written else bare
        self._written.add(letter)
        return marked


# ---------------------------------------------------------------- tempo


def with_tempo(tune: Tune, factor: float) -> Tune:
    """Returns the tune with all tempos times `factor`, to the precision of `Q:` and MIDI.

    `Q:` counts quarters of a beat, from 3.75 to 24,000 quarters a minute; tempos out of range are
    clipped. Changes that round to the same tempo are left out, as in the converter.

    Raises:
        ValueError: If the factor is not a positive number.
    """
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"tempo factor {factor}, expected a positive number such as 1.1")
    tempos: dict[int, Fraction] = {}
    current = None
    for bar, tempo in sorted(tune.tempos.items()):
        nearest = Fraction(playable_tempo(round(float(tempo * 4) * factor)), 4)
        if nearest != current:
            tempos[bar] = current = nearest
    return replace(tune, tempos=tempos)
