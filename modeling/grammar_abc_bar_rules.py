"""What may follow in one bar of one voice, character by character, and what was written.

A `Key` contains everything that the rest of the bar depends on: the ticks left, the letters altered
so far, the current element. The states of `grammar_abc_bar` are made from it.

Source of the rules: data_prep/dialect/DIALECT.md; each exists because some reader misreads the
alternative.
"""

from typing import NamedTuple

from .grammar_abc_limits import Limits
from .grammar_abc_spelling import (
    Lengths,
    Names,
    alteration_bits,
    lengths_of,
    name_of,
    plain_lengths,
)
from .grammar_abc_tuplets import (
    SHORTEST_TUPLET_TICKS,
    UNEQUAL_ITEMS,
    Tuplet,
    item_lengths,
    unequal_fits,
)
from .notation_abc import KEYS, SHORTEST_TICKS, TICKS_PER_TUPLET_UNIT, spell

Pitches = tuple[int, ...]


class Key(NamedTuple):
    """Everything that the rest of a bar depends on.

    Attributes:
        left: Ticks to the end of the bar, not counting the current element.
        altered: Letters altered so far, one bit each.
        tied: Pitches that the next element must repeat, or ().
        is_tied_in: Whether they continue from the previous bar.
        phase: The current element: "" none, "(" the start of a tuplet, "n" a note's name, "[" a
            chord, "l" a length, "t" the text of a tied note.
        text: Its text so far.
        pitches: Pitches of the chord or note so far.
        tuplet: The current tuplet, or None.
        sounds: Whether a note has been written.
        is_silent: Whether the whole bar is one rest.
        is_open: Whether the bar may end before it is full: a pickup.
        may_be_silent: Whether the whole bar may be one rest.
    """

    left: int
    altered: int = 0
    tied: Pitches = ()
    is_tied_in: bool = False
    phase: str = ""
    text: str = ""
    pitches: Pitches = ()
    tuplet: Tuplet | None = None
    sounds: bool = False
    is_silent: bool = False
    is_open: bool = False
    may_be_silent: bool = False


class BarRules:
    """What may follow in one key signature, melodic or drums.

    Args:
        key: One of KEYS.
        is_drums: Whether the voice is the drum kit.
        limits: What may be written.
    """

    def __init__(self, key: str, is_drums: bool, limits: Limits) -> None:
        self.sharps = KEYS[key]
        self.range = limits.drum_pitches if is_drums else limits.pitches
        self.limits = limits
        self._names: dict[int, Names] = {}

    def names(self, altered: int) -> Names:
        """Returns the note names when these letters are altered."""
        if altered not in self._names:
            self._names[altered] = Names(self.sharps, altered, *self.range)
        return self._names[altered]

    def follow(self, key: Key) -> set[str]:
        """Returns the legal characters; `|` where the bar may end."""
        rules = {
            "": self._follow_boundary,
            "(": self._follow_tuplet_head,
            "t": lambda key: {self._tied_text(key)[len(key.text)]},
            "n": self._follow_note,
            "[": self._follow_chord,
            "l": self._follow_length,
        }
        return rules[key.phase](key)

    def stepped(self, key: Key, character: str) -> tuple[Key, Pitches]:
        """Returns the state after a legal character, and the pitches that start to sound with it.

        A length ends where something else starts, so notes count from there.
        """
        new: Pitches = ()
        if key.phase == "n" and key.text + character not in self.names(key.altered).reach:
            key = self._named(key)
        if key.phase == "l" and key.text + character not in self._lengths(key).follow:
            key, new = self.end(key)
            if character == "-":
                return key._replace(tied=key.pitches, pitches=()), new
            key = key._replace(pitches=())
        return self._extended(key, character), new

    def end(self, key: Key) -> tuple[Key, Pitches]:
        """Returns the bar at its end, which must be legal, and the pitches that start with it."""
        if key.phase == "n":
            key = self._named(key)
        if key.phase != "l":
            return key, ()
        return self._ended(key), () if key.tied else key.pitches

    def _extended(self, key: Key, character: str) -> Key:
        """Returns the state after a character that continues an element or starts one."""
        if key.phase == "t" or (key.phase == "" and key.tied and character != "("):
            text = key.text + character
            if text == self._tied_text(key):
                return self._begin_length(key, key.tied)
            return key._replace(phase="t", text=text)
        if key.phase == "":
            if character == "z":
                return self._begin_length(key, ())
            phase = {"(": "(", "[": "["}.get(character, "n")
            return key._replace(phase=phase, text=character if phase != "[" else "")
        if key.phase == "(":
            return self._tuplet_extended(key, character)
        if key.phase == "[":
            return self._chord_extended(key, character)
        return key._replace(text=key.text + character)

    # -- between elements ---------------------------------------------------------------------

    def _follow_boundary(self, key: Key) -> set[str]:
        """Handles the start of an element; `-` is only legal right after a length."""
        found = {"|"} if self._may_end(key) else set()
        is_tied_out = bool(key.tied) and not key.is_tied_in
        if is_tied_out and self.limits.is_plain:
            return found  # only the bar line, which was ensured before the tie
        if not key.left:
            return found
        if key.tied:
            text = self._tied_text(key)
            if text and self._sound_lengths(key):
                found.add(text[0])
        else:
            names = self.names(key.altered)
            may_be_chord, may_be_single = self._item_kinds(key)
            if self._sound_lengths(key):
                if may_be_single:
                    found |= names.follow[""]
                if may_be_chord and names.reach[""][0] < names.top:
                    found.add("[")
            if may_be_single and self._rest_lengths(key):
                found.add("z")
        is_plain_tie = self.limits.is_plain and key.tied
        if key.tuplet is None and key.left >= SHORTEST_TUPLET_TICKS and not is_plain_tie:
            found.add("(")
        return found

    def _may_end(self, key: Key) -> bool:
        if key.tuplet is not None or not (key.sounds or key.is_silent):
            return False
        if key.tied and key.is_tied_in:
            return False
        return not key.left or key.is_open

    # -- tuplets ------------------------------------------------------------------------------

    def _item_kinds(self, key: Key) -> tuple[bool, bool]:
        """Returns whether a chord may come next, and whether a note or rest may.

        If both occur in a tuplet, abc2midi takes them for items of different lengths.
        """
        tuplet = key.tuplet
        if tuplet is None or not tuplet.units or not self.limits.is_plain:
            return True, True
        return tuplet.has_chords, not tuplet.has_chords

    def _follow_tuplet_head(self, key: Key) -> set[str]:
        if key.text == "(":
            return {"3"}
        if key.text == "(3":
            item = key._replace(phase="", text="", tuplet=Tuplet(3, 0, False))
            return self._follow_boundary(item) | ({":"} if not self.limits.is_plain else set())
        if key.text in ("(3:", "(3:2"):
            return {"2:"[len(key.text) - 3]}
        return {str(n_items) for n_items in UNEQUAL_ITEMS if unequal_fits(key.left, n_items, 0)}

    def _tuplet_extended(self, key: Key, character: str) -> Key:
        text = key.text + character
        if "(3:2:".startswith(text):
            return key._replace(text=text)
        item = key._replace(phase="", text="")
        if key.text == "(3":
            return self._extended(item._replace(tuplet=Tuplet(3, 0, False)), character)
        return item._replace(tuplet=Tuplet(int(character), 0, True))

    # -- names --------------------------------------------------------------------------------

    def _follow_note(self, key: Key) -> set[str]:
        names = self.names(key.altered)
        found = names.follow[key.text]
        if key.text in names.pitch_of:
            return found | self._follow_length(self._named(key))
        return found

    def _named(self, key: Key) -> Key:
        pitch = self.names(key.altered).pitch_of[key.text]
        return self._begin_length(key, (pitch,))

    def _tied_text(self, key: Key) -> str:
        """Returns the text that repeats the tied pitches here."""
        altered, out = key.altered, []
        for pitch in key.tied:
            out.append(name_of(pitch, self.sharps, altered))
            altered |= alteration_bits((pitch,), self.sharps)
        return out[0] if len(out) == 1 else f"[{''.join(out)}]"

    def text_of(self, pitches: Pitches) -> str:
        """Returns a note's name, or a chord, as a bar begins with it."""
        return self._tied_text(Key(0, tied=pitches))

    def _begin_length(self, key: Key, pitches: Pitches) -> Key:
        altered = key.altered | alteration_bits(pitches, self.sharps)
        return key._replace(phase="l", text="", pitches=pitches, altered=altered)

    # -- chords: `text` is the current name, `pitches` are those before it ----------------------

    def _follow_chord(self, key: Key) -> set[str]:
        names = self.names(key.altered)
        last = key.pitches[-1] if key.pitches else -1
        found = set()
        for character in names.follow[key.text]:
            low, high = names.reach[key.text + character]
            # a first note needs one above it
            if high > last and (key.pitches or low < names.top):
                found.add(character)
        pitch = names.pitch_of.get(key.text)
        if pitch is None or pitch <= last:
            return found
        n_notes = len(key.pitches) + 1
        if n_notes >= 2:
            found.add("]")
        if n_notes < self.limits.chord_notes and pitch < names.top:
            after = self.names(key.altered | alteration_bits((pitch,), self.sharps))
            found |= {c for c in after.follow[""] if after.reach[c][1] > pitch}
        return found

    def _chord_extended(self, key: Key, character: str) -> Key:
        names = self.names(key.altered)
        if key.text + character in names.reach:
            return key._replace(text=key.text + character)
        pitches = (*key.pitches, names.pitch_of[key.text])
        if character == "]":
            return self._begin_length(key, pitches)
        altered = key.altered | alteration_bits(pitches[-1:], self.sharps)
        return key._replace(text=character, pitches=pitches, altered=altered)

    # -- lengths ------------------------------------------------------------------------------

    def _follow_length(self, key: Key) -> set[str]:
        lengths = self._lengths(key)
        found = lengths.follow[key.text]
        if key.text not in lengths.ticks_of:
            return found
        ended = self._ended(key)
        found = found | self._follow_boundary(ended._replace(pitches=()))
        if key.pitches and self._may_tie(ended):
            found.add("-")
        return found

    def _lengths(self, key: Key) -> Lengths:
        """Returns the legal lengths of the current element."""
        return self._sound_lengths(key) if key.pitches else self._rest_lengths(key)

    def _sound_lengths(self, key: Key) -> Lengths:
        return plain_lengths(key.left) if key.tuplet is None else item_lengths(key.tuplet, key.left)

    def _rest_lengths(self, key: Key) -> Lengths:
        """Returns the lengths of rests: a bar needs a note, or consists of a single rest."""
        if key.tuplet is None:
            is_free = key.sounds or key.may_be_silent
            return plain_lengths(key.left if is_free else key.left - SHORTEST_TICKS)
        items = item_lengths(key.tuplet, key.left)
        if key.sounds or key.tuplet.n_left > 1:
            return items
        return lengths_of(tuple(t for t in items.ticks_of.values() if t < key.left), True)

    def _ended(self, key: Key) -> Key:
        """Returns the state after an element whose length is complete; keeps its pitches."""
        ticks = self._lengths(key).ticks_of[key.text]
        tuplet = key.tuplet
        if tuplet is not None:
            units = ticks // TICKS_PER_TUPLET_UNIT + tuplet.units * tuplet.is_unequal
            is_chord = len(key.pitches) > 1
            tuplet = tuplet._replace(n_left=tuplet.n_left - 1, units=units, has_chords=is_chord)
            tuplet = tuplet if tuplet.n_left else None
        is_silent = not key.pitches and not key.sounds and key.may_be_silent and not key.tuplet
        return key._replace(
            left=key.left - ticks,
            phase="",
            text="",
            tied=(),
            is_tied_in=False,
            tuplet=tuplet,
            sounds=key.sounds or bool(key.pitches),
            is_silent=is_silent and (key.left == ticks or key.is_open),
            # two rests are not a single rest
            may_be_silent=False,
        )

    def _may_tie(self, ended: Key) -> bool:
        """Returns whether the element that just ended may be tied to the next."""
        if not self.limits.is_plain:
            return bool(ended.left) or self._may_end(ended)
        if ended.tuplet is not None or not self._may_end(ended):
            return False
        # in the next bar no letter is altered, yet the text must be the same there
        own = alteration_bits(ended.pitches, self.sharps)
        here = self._tied_text(ended._replace(altered=ended.altered & ~own, tied=ended.pitches))
        there = self._tied_text(ended._replace(altered=0, tied=ended.pitches))
        # if a chord has one letter with two accidentals, abc2midi applies both to all octaves
        spelled = {spell(pitch, self.sharps)[:2] for pitch in ended.pitches}
        return here == there and len({letter for letter, _ in spelled}) == len(spelled)
