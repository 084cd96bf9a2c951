"""What the sound bank holds: the instruments kept of General MIDI's 128, and which stands in.

The instruments that the models of this project write for are kept, and of each family of General
MIDI the most usual ones. A program that is not kept is played by a kept one that sounds most like
it, by a preset of its own in the file: every player finds all 128 programs, and none has to guess.
"""

from pathlib import Path

BANK = Path(__file__).with_name("fluid_r3_mono_cut.sf3")
# Kept program -> the programs that it also stands in for. Programs are numbered from 0.
STANDS_IN: dict[int, tuple[int, ...]] = {
    # pianos
    **{0: (2,), 1: (), 3: (), 4: (5,), 6: (7,)},
    # chromatic percussion
    **{8: (9, 10), 11: (12, 13), 14: ()},
    # organs
    **{16: (17, 18), 19: (), 20: (21, 22, 23)},
    # guitars
    **{24: (25,), 27: (26, 28, 29, 30, 31)},
    # basses
    **{32: (35,), 33: (34, 36, 37), 38: (39,)},
    # strings
    **{40: (), 41: (), 42: (43,), 44: (), 46: (15, 45), 47: ()},
    # ensembles
    **{48: (), 49: (), 50: (51,), 52: (), 53: (54,), 55: ()},
    # brass
    **{56: (59, 61), 57: (58,), 60: (), 62: (63,)},
    # reeds
    **{65: (64, 66, 67), 68: (69,), 70: (), 71: ()},
    # pipes
    **{73: (72,), 74: (75, 76, 77, 79), 78: ()},
    # synthesizer leads, pads and effects
    **{80: (82, 83, 85), 81: (84, 86, 87), 89: (88, 91, 92, 94), 90: (93, 95), 96: ()},
    **{98: (), 100: (97, 99, 101, 102, 103)},
    # instruments of the world
    **{105: (), 107: (104, 106, 108), 109: (111,), 110: ()},
    # percussion
    **{112: (), 113: (), 114: (), 115: (), 116: (), 117: (), 118: (), 119: ()},
    # sound effects
    **{120: (), 121: (), 122: (126,), 123: (), 125: (124,), 127: ()},
}
DRUM_BANK = 128
