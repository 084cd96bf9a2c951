"""The name of an instrument, in the languages of scores -> its General MIDI program."""

from functools import lru_cache

DEFAULT_PROGRAM = 0  # as MIDI has it where a file names none


@lru_cache(maxsize=4096)
def program_of_name(name: str) -> int:
    """Returns the program that music21 knows for a name, `DEFAULT_PROGRAM` if it knows none."""
    if not name:
        return DEFAULT_PROGRAM
    from music21 import instrument  # here, because it takes a second, and few scores need it

    try:
        found = instrument.fromString(name).midiProgram
    except instrument.InstrumentException:
        return DEFAULT_PROGRAM
    return DEFAULT_PROGRAM if found is None else found
