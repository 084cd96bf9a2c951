"""What `make play` writes: the conditions of each piece, and the instruments that play it.

The music that the models learn from names few instruments: folk tunes and chorales are all written
for piano, at 120 quarters a minute, and the voice of a song for oboe. So a piece is asked for as
that music has it, and then played on the instruments and at the tempo that it is meant for. Both
stand here, and only here.
"""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from data_prep.dialect.tune import playable_tempo, print_tune
from data_prep.dialect.tune_parser import parse_tune

from ..samples.prompts import read_tune

_MUSIC = Path(__file__).parent.parent.parent / "tests" / "data"  # public domain and CC0
PIANO, OBOE, VIOLIN, VIOLA, CELLO = 0, 68, 40, 41, 42  # General MIDI programs, from 0


@dataclass(frozen=True)
class Piece:
    """A piece to be written and played.

    Attributes:
        name: Of its files.
        title: For people.
        asked: Conditions, as the pipeline takes them; `prompt` and `accompany` may be a file.
        played_on: General MIDI programs, one per voice; empty to keep those of the text.
        tempo: Quarters a minute at which it is played; None to keep that of the text.
        top: Number of the voice that is highest in the score.
        about: What the model was given, in a sentence for the page.
    """

    name: str
    title: str
    asked: dict[str, Any]
    played_on: tuple[int, ...] = ()
    tempo: int | None = None
    top: int = 1
    about: str = ""

    def conditions(self) -> dict[str, Any]:
        """Returns the conditions, with the tune of a file as text.

        Raises:
            OSError: If it cannot be read.
        """
        return {
            name: read_tune(value) if isinstance(value, Path) else value
            for name, value in self.asked.items()
        }

    def played(self, abc: str) -> str:
        """Returns a tune as it is played, in the layout `voices`."""
        tune = parse_tune(abc)
        for voice, program in zip(tune.voices, self.played_on, strict=False):
            voice.program = program
        tune.voices.insert(0, tune.voices.pop(self.top - 1))
        if self.tempo:
            faster = self.tempo / tune.tempos[0]
            tune.tempos = {bar: _times(tempo, faster) for bar, tempo in tune.tempos.items()}
        return print_tune(tune, "voices")


def _times(tempo: Fraction, faster: Fraction) -> Fraction:
    return Fraction(playable_tempo(round(4 * tempo * faster)), 4)


FLUTE, FIDDLE, CHOIR, VOICE = 73, 110, 52, 53
TUNES = (
    Piece(
        name="jig",
        title="A jig for fiddle",
        asked={"meter": "6/8", "key": "D", "tempo": 120, "instruments": [PIANO]},
        played_on=(FIDDLE,),
        tempo=165,
        about="Asked for: 6/8, D major, one voice.",
    ),
    Piece(
        name="chorale",
        title="A chorale for four voices",
        asked={"meter": "4/4", "key": "G", "tempo": 120, "instruments": [PIANO] * 4},
        played_on=(CHOIR,) * 4,
        tempo=72,
        about="Asked for: 4/4, G major, four voices.",
    ),
    Piece(
        name="song",
        title="A song for voice and piano",
        asked={"meter": "3/4", "key": "F", "tempo": 92, "instruments": [PIANO] * 3 + [OBOE]},
        played_on=(PIANO, PIANO, PIANO, VOICE),
        top=4,
        about="Asked for: 3/4, F major, 92 quarters a minute, a voice and three parts of a piano.",
    ),
    Piece(
        name="quartet",
        title="A string quartet",
        asked={
            "meter": "2/4",
            "key": "C",
            "tempo": 100,
            "instruments": [VIOLIN, VIOLIN, VIOLA, CELLO],
        },
        about="Asked for: 2/4, C major, 100 quarters a minute, two violins, viola and cello.",
    ),
)
FILLED_IN = Piece(
    name="filled_in",
    title="Four bars written anew",
    asked={"prompt": _MUSIC / "tunes" / "RedLionHornpipe_001.mid", "fill": (9, 12)},
    played_on=(FLUTE,),
    about="The Red Lion Hornpipe from Ryan's Mammoth Collection (1883). The model saw all bars but "
    "9 to 12, and wrote these.",
)
ACCOMPANIED = Piece(
    name="accompaniment",
    title="A piano part for a given voice",
    asked={"accompany": _MUSIC / "adieu_voice.abc", "instruments": [PIANO, PIANO]},
    played_on=(VOICE, PIANO, PIANO),
    about="The voice of Erik Satie's Adieu (1920), from OpenScore Lieder (CC0). The model saw it "
    "alone, and wrote the piano.",
)
