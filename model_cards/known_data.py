"""What a card says of the music that a model was trained on, by the name of its dataset."""

from dataclasses import dataclass

CODE_LICENSE = "apache-2.0"


@dataclass(frozen=True)
class KnownData:
    """Music whose rights are known, or known to be unclear.

    Attributes:
        about: Sentences for the card.
        license: Of weights trained on it, by the Hub's name.
    """

    about: str
    license: str = CODE_LICENSE


_BOOKS = (
    "Ryan's Mammoth Collection (1883), O'Neill's Music of Ireland, Aird's Airs (1778-1801) and the "
    "chorales of J. S. Bach"
)
KNOWN_DATA = {
    "music21": KnownData(
        "The model was trained on the public-domain music that ships with the music21 package: "
        f"{_BOOKS}."
    ),
    "music21_with_essen": KnownData(
        "The model was trained on the music that ships with the music21 package, public-domain "
        "collections and the Essen folk songs; the encodings of the latter are licensed for "
        "non-commercial use only."
    ),
    "pretrained": KnownData(
        "The model was trained on public-domain and CC0 music alone: the collections that ship "
        f"with the music21 package, without the Essen folk songs ({_BOOKS}), and the songs and "
        "string quartets of [OpenScore](https://openscore.cc) (OpenScore Lieder Corpus and "
        "OpenScore String Quartets, CC0), transcribed by its volunteers.",
        license="cc0-1.0",
    ),
}
UNKNOWN_DATA = KnownData(
    'The model was trained on the MIDI files named under "data" above; rights in public MIDI '
    "collections are often unclear."
)
