"""What is played of ABC of others is what abc2midi plays: one small tune per feature.

The abc2midi is the one inside symusic.
"""

import subprocess
from pathlib import Path

import pytest
import symusic
from symusic import Score

from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.notation import CHORD_ATTACK_LINE, TICKS_PER_QUARTER
from data_prep.importers.foreign_abc import read_book

ABC2MIDI = Path(symusic.__file__).parent / "bin" / "abc2midi"
TOLERANCE_QUARTERS = 0.035  # half of a 64th note, and the rounding of abc2midi
HEAD = "X:1\nM:4/4\nL:1/8\nK:C\n"  # of the tunes that have none of their own

# Feature -> tune.
TUNES = {
    "modes": (
        "X:1\nL:1/8\nK:Ddor\nCDEF GABc|[K:Gmix]fgab|[K:Abm]ABcd|[K:F#loc]fgab|"
        "[K:E phr]fgab|[K:C lyd]fgab|[K:Hp]fgcd|[K:none]fgcd|[K:B min]fgcd|[K:A Major]fgcd|"
        "[K:E aeolian]fgcd|]"
    ),
    "octave= in K:": (
        "X:1\nL:1/8\nK:C octave=-1\nCDEF|[K:C octave=1]CDEF|[K:C treble-8]CDEF|"
        "[K:G clef=bass]GABc|]"
    ),
    "clefs in K:": "X:1\nL:1/8\nK:C clef=treble+8\nCDEF|[K:C bass]CDEF|]",
    "clefs and octaves in V:": (
        "X:1\nL:1/8\nK:C\nV:1 treble-8\nCDEF|\nV:2 clef=treble+8 octave=-1\nCDEF|\n"
        "V:3 bass octave=2\nCDEF|]"
    ),
    "transpose=": "X:1\nL:1/8\nK:C transpose=2\nCDEF|[K:G transpose=5]CDEF|]",
    "shift= and sound=": "X:1\nL:1/8\nK:C shift=CD\nCDEF|\n[K:C sound=cB]CDEF|]",
    "instrument=": "X:1\nL:1/8\nK:C instrument=Bb\nCDEF|]",
    "%%MIDI transpose in the music": (
        "%%MIDI transpose 3\nCDEF|\n%%MIDI rtranspose 2\nCDEF|\n%%MIDI transpose 0\nCDEF|]"
    ),
    "%%MIDI transpose in the header": "X:1\nL:1/8\n%%MIDI transpose -12\nK:C\nCDEF|]",
    "lengths of chords": "[C2E2]3 [CE]2 [C3E]F [CE]/2F/2 [C/E/]G/|[CEG]>A A>[CE] [CE]<[DF]|]",
    "tuplets": (
        "(3CDE (2FG (4ABcd (5CDEFG (6ABcdef (7CDEFGAB|"
        "(9CDEFGABcd (3:2:2C2D (3:2:4CDE/F/ (5:4:5CDEFG (3::2CD (3:4:3CDE|"
        "(3[CE]DE (3zDE (3C>DE|]"
    ),
    "tuplets in 6/8": "X:1\nM:6/8\nL:1/8\nK:C\n(5CDEFG (7CDEFGAB(2AB (4ABcd (8CDEFGABc|]",
    "broken rhythm": (
        "C>D E<F C>>D E<<F C>>>D E<<<F|C > D E >F C> D|z>D C>z C2>D2 C>D2|C/>D/ C>|D|]"
    ),
    "ties": (
        "C2-C2 D-D-D|-C C- C|C-|C ^C-|C C|[CE]2-[CE]2 [CE]-[CG]|[C-E]2 C2 E-(3E F G|c-&e|c4|]"
    ),
    "ties at repeats": "|:C2 D2-:|D4|C-[CE]- [EG]|C-z C|^F-|F F|^F-|=F|]",
    "grace notes": (
        "{g}A2 {gf}A2 {g2}A2 {gab}A/ {g}[CE]2|A{g} B|A{g}|B {g}z2 A|"
        "{/g}A2 {[gb]}A2 {gagb}A {g}|:B|]"
    ),
    "grace notes in sixteenths": "X:1\nL:1/16\nK:C\n{g}A2 {gf}A{g}B {g}A/|(3{g}ABc A>{g}B|]",
    "%%MIDI gracedivider and grace": (
        "X:1\nL:1/8\n%%MIDI gracedivider 8\nK:C\n{g}A2 {gf}A2|\n%%MIDI grace 1/2\n{g}A2 {gf}A2|]"
    ),
    "%%MIDI grace in the header": "X:1\nL:1/8\n%%MIDI grace 1/3\nK:C\n{g}A2 {gf}A2|]",
    "ornaments": (
        "~A2 ~B3 ~c4 ~d TA2 Te RA2 !trill!A4|~A>B TA>B|{g}~A2 (3~ABc T(A2B)|uA vB HA .A LA MA|]"
    ),
    "trills in slow quarters": "X:1\nL:1/4\nQ:1/4=60\nK:D\nTA2 TA3/2 TA|~F3 RF|]",
    "trills that are tied": "X:1\nL:1/16\nQ:1/4=200\nK:D\nTA2 TA3 TA6 TA4-|A4|~F6 RF4|]",
    "fermatas": "HA2 HB !fermata!c2 Hz2 H[CE]2 [CE]2|!fermata![CE] !fermata!z|]",
    "%%MIDI fermatafixed": "X:1\nL:1/8\n%%MIDI fermatafixed\nK:C\nHA2 HB !fermata!c2 H[CE]2|]",
    "rests of bars": "z2 x2 y3 z4|Z|Z2|X|C8|[M:3/4]Z|C6|]",
    "rests of bars by voice": "X:1\nM:3/4\nK:C\nZ2|C2|\nV:2\nM:2/4\nZ2|C2|]",
    "repeats": "C8|:D8:|E8|:F8::G8:|A8|]",
    "repeats 2": "C8:|D8:|E8|]",
    "repeats 3": "|:C8|1D8:|2E8|]F8|:G8|[1A8:|[2B8||c8|]",
    "repeats 4": "|:C8|1,3D8:|2,4E8:|F8|]",
    "repeats 5": "|:C8|1D8:|2E8:|3F8|]G8|]",
    "repeats 6": "|:C8|1-2D8:|3E8|]G8|]",
    "repeats 7": "C8|[1D8:|[2E8|]F8:|G8|]",
    "repeats 8": "|:C8|:D8:|E8:|F8|]",
    "repeats 9": "C8||D8:|E8||F8:|G8|]",
    "repeats 10": "|:C8|1D8|E8:|2F8|G8:|\n|:A8|1B8:|2c8|]",
    "repeats 11": "|:C8::D8::E8:|F8|]",
    "repeats 12": "|:C8|1D8|2E8|]F8|]",
    "repeats 13": "C8|1D8:|2E8|]F8|]",
    "repeats 14": "|:C8[1D8:|[2E8||F8|]",
    "repeats 15": "|:C8:|:D8:|:E8:|]",
    "repeats 16": "|:C8:||:D8:||E8|]",
    "repeats of two voices": "V:1\n|:C8:|D8|]\nV:2\n|:E8:|F8|]",
    "repeats of two voices 2": "V:1\nC8:|D8|]\nV:2\nE8:|F8:|]",
    "parts": "X:1\nM:4/4\nL:1/8\nP:ABA\nK:C\nP:A\nC8|\nP:B\nD8|]",
    "parts 2": "X:1\nM:4/4\nL:1/8\nP:A2(BC)2\nK:C\nG8|\nP:A\n|:C8:|\nP:B\nD8|\nP:C\nE8|]",
    "parts 3": (
        "X:1\nM:4/4\nL:1/8\nP:ABA\nK:C\nV:1\nP:A\n[V:1]C8|\n[V:2]c8|\nP:B\n[V:1]D8|\n[V:2]d8|]"
    ),
    "parts 4": "P:A\n|:C8|1D8:|\nP:B\nE8|]",
    "overlays": "C4 D4&E8|F8|G4 A4&z4 e4&c8|B8|]",
    "overlays in repeats": "|:C4 D4&E8|F8:|G8|1A8&c8:|2B8|]",
    "overlays of several bars": "C8|(&D8|E8&F8|G8&)|A8|]",
    "accidentals of overlays": "X:1\nM:4/4\nL:1/8\nK:D\nC4 ^D4&D8 |D8|]",
    "accidentals": "^C C c =C C|C c|_B b B,|^^F F __B B|]",
    "accidentals by octave": "X:1\nL:1/8\n%%propagate-accidentals octave\nK:C\n^C C c|]",
    "accidentals that do not hold": (
        "X:1\nL:1/8\nK:C\n%%propagate-accidentals not\n^C C c|\n%%MIDI barlines\n^C C c|]"
    ),
    "accidentals at changes": "^C C [K:G] C F|^C2 [M:3/4] C|^c-|c c|]",
    "accidentals at endings": "^C C[1 C C|]",
    "hornpipe in 4/4": (
        "X:1\nM:4/4\nL:1/8\nR:hornpipe\nK:C\nCDEF G>A B<c|C2DE F/G/A B2|(3CDE FG A2 zB|"
        "[CE]DEF {g}GABc|]"
    ),
    "hornpipe in 2/4": "X:1\nM:2/4\nL:1/16\nR:Hornpipe\nK:C\nCDEF G>AB<c|C2DE FGAB|]",
    "hornpipe in cut time": "X:1\nM:C|\nL:1/8\nR:hornpipe\nK:C\nCDEF G>A B<c|]",
    "voices": "V:1\nCDEF|\nV:2\nEFGA|\nV:1\nGABc|\nV:2\nBcde|\n[V:1]C4|[V:2]E4|]",
    "voices with names": (
        "V:S clef=treble\nV:A clef=alto\n[V:S]CDEF|\n[V:A]EFGA|\n[V:S]GABc|\n[V:A]Bcde|]"
    ),
    "voices with properties": (
        'X:1\nL:1/8\nV:1 name="a b" clef=bass\nV:2 octave=-1\nK:G\nV:1\nCDEF|\nV:2\nCDEF|]'
    ),
    "keys by voice": "V:1\nC[K:D]CF|\nV:2\nCF|[K:G]F|]",
    "unit lengths by voice": "V:1\nL:1/4\nC\nV:2\nC[L:1/16]C2|]",
    "decorations, chord symbols, slurs": (
        '!p!C !f!D "Am"E "^text"F (GA) (B(cd)e) +fermata+c !D.C.!C|J K .A|]'
    ),
    "ends of printed lines": "CDEF!\nGABc!\nC*\nD\\\nE|]",
    "user symbols": "X:1\nL:1/8\nU:W=!trill!\nU:h=!fermata!\nK:C\nWC2 hD2 E|]",
    "comments": "CDEF % GABc\n%comment\nC\n%%MIDI nonsense 3\nD|]",
    "blocks of text": "CDEF|\n%%begintext\nGABc\n%%endtext\nC|]",
    "no meter": "X:1\nK:C\nCDEF|]",
    "unit length of short meters": "X:1\nM:2/4\nK:C\nCDEF|]",
    "free meter": "X:1\nM:none\nK:C\nCDEF|GAB|]",
    "complex meter": "X:1\nM:2+3/8\nK:C\nCDEFG|Z|C|]",
    "complex meter in parentheses": "X:1\nM:(2+3+2)/8\nK:C\nCDEFGAB|Z|C|]",
    "drums and %%MIDI drummap": "%%MIDI channel 10\nCDEF|\n%%MIDI drummap C 35\nCDEF|]",
    "programs": "V:1\n%%MIDI program 40\nC4|\nV:2\n%%MIDI program 3 50\nD4|]",
    "lines that begin like fields": "A:|B|\nC:C\nG: A\nE|]",
    "stray signs": "C D) } ] > E|(C-D F##G|]",
    "lengths": "C0 C1 C01 C/ C// C/4 C3/ C3/2 C4/1 C10 C/1|]",
    "%%MIDI C": "X:1\nL:1/8\n%%MIDI C 62\nK:C\nCDE|]",
    "%%MIDI ratio": "X:1\nL:1/8\n%%MIDI ratio 2 1\nK:C\nC>D E<F C>>D|]",
    "tempo": "X:1\nL:1/8\nQ:1/8=90\nK:C\nCDEF|]",
    "text before the first tune": "text\nX: 5\nT:a\nK:C\nCDEF|]\n\nX:6\nK:C\nGABc|]",
    "staccato": ".C>.D .E>F E<.F .C-C|.[CE]-.[CE] [C.E]2 .(CD)|]",
    "ornaments of chords": "~[CE]2 T[CE]2 [~CE]2|]",
    "slurs": "(3(CDE) ((CD)E) sC|]",
    "old chords": "+C2E+ D|]",
    "bar lines of all kinds": "C8||D8[|E8|]F8.|G8|:A8:|[1B8|]",
    "double bar with a repeat": "C8|:D8:||E8|]",
}


def played_by_us(text: str) -> list[tuple[float, int]]:
    found = next(read_book(text.encode()))
    assert found.error is None
    return [
        (onset / TICKS_PER_QUARTER, pitch)
        for voice in perform(found.tune).voices
        for onset, _, pitches in voice
        for pitch in pitches
    ]


def played_by_abc2midi(text: str, folder: Path) -> list[tuple[float, int]]:
    """Its notes without accompaniment of chord symbols, and with chords that are struck at once."""
    source, target = folder / "tune.abc", folder / "tune.mid"
    source.write_text(text.replace("K:", f"{CHORD_ATTACK_LINE}\nK:", 1))
    subprocess.run([ABC2MIDI, source, "-NGUI", "-o", target], capture_output=True, check=True)
    score = Score.from_midi(target.read_bytes())
    # Its files begin one tick late.
    return [((n.time - 1) / score.tpq, n.pitch) for track in score.tracks for n in track.notes]


@pytest.mark.parametrize("text", TUNES.values(), ids=TUNES)
def test_notes_and_onsets_are_those_of_abc2midi(text, tmp_path):
    text = text if "K:" in text and text.startswith(("X:", "text")) else HEAD + text
    own, reference = played_by_us(text), played_by_abc2midi(text, tmp_path)
    assert sorted(pitch for _, pitch in own) == sorted(pitch for _, pitch in reference)
    for pitch in {pitch for _, pitch in own}:
        onsets, others = (sorted(t for t, p in side if p == pitch) for side in (own, reference))
        assert onsets == pytest.approx(others, abs=TOLERANCE_QUARTERS)
