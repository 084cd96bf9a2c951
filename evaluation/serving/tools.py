"""The tools of the MCP server: their arguments with ranges, and what they do.

A tool is a model of its arguments, from which clients get its schema; `TOOLS` lists them all.
"""

import base64
import binascii
import random
from abc import abstractmethod
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_prep.dialect.notation import KEYS
from data_prep.importers.kinds import SUFFIXES, kind_of

from . import work
from .answers import Check, Tune
from .folder import Folder
from .jobs import Jobs

MOST_CHARS = 65_536  # of ABC, given or answered
MOST_FILE_BYTES = 1 << 20  # in base64; files of the folder may be as large as their kind allows
MOST_BARS_FILLED = 64

Abc = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MOST_CHARS,
        description="A tune as ABC text, also with repeats, lyrics or chord symbols of others",
    ),
]
Bar = Annotated[int, Field(ge=1, le=10_000)]
Instruments = Annotated[
    list[int | str],
    Field(
        min_length=1,
        max_length=15,
        description="One per voice: General MIDI names such as Violin, programs 0 to 127, or drums",
        examples=[["Violin", "Acoustic Bass", "drums"]],
    ),
]


@dataclass(frozen=True)
class Desk:
    """What tools work with: the jobs of a model, and the folder that clients may use, if any."""

    jobs: Jobs
    folder: Folder | None

    def open_folder(self) -> Folder:
        """Returns the folder.

        Raises:
            ValueError: If clients may use none.
        """
        if self.folder is None:
            raise ValueError("no files: the server was started without a folder for them (--files)")
        return self.folder

    async def read(self, name: str, content: bytes) -> work.Music:
        """Reads music in the process for readers."""
        return await self.jobs.run("reader", work.read, name, content)

    async def read_abc(self, abc: str) -> work.Music:
        """Reads ABC text in the process for readers."""
        return await self.read("tune.abc", abc.encode())


class Tool(BaseModel):
    """The arguments of a tool; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid")
    name: ClassVar[str]
    answer: ClassVar[type[BaseModel]] = Tune

    @abstractmethod
    async def run(self, desk: Desk) -> BaseModel:
        """Returns the answer.

        Raises:
            JobError: If a job fails.
            ValueError: If the arguments do not fit.
            OSError: If a file cannot be read or written.
        """


class _GivesTune(Tool):
    with_midi: bool = Field(False, description="Whether the answer holds a MIDI file, in base64")
    save_as: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="Also write <save_as>.abc and <save_as>.mid, both new, to the user's folder",
        examples=["waltz"],
    )

    def _check_names(self, desk: Desk) -> None:
        """Refuses names that are taken before the work, so that no tune is lost."""
        for name in self._files():
            if desk.open_folder().has(name):
                raise ValueError(f"{name!r} exists already; choose another name")

    def _files(self) -> list[str]:
        return [] if self.save_as is None else [f"{self.save_as}.abc", f"{self.save_as}.mid"]

    def _answered(self, music: work.Music, desk: Desk, seed: int | None = None) -> Tune:
        if len(music.abc) > MOST_CHARS:
            raise ValueError(f"{len(music.abc):,} characters of ABC, limit {MOST_CHARS:,}")
        for name, content in zip(self._files(), (music.abc.encode(), music.midi), strict=False):
            desk.open_folder().add(name, content)
        return Tune(
            **{name: getattr(music, name) for name in ("abc", "n_bars", "n_voices", "seconds")},
            seed=seed,
            remarks=list(music.remarks),
            midi_base64=base64.b64encode(music.midi).decode() if self.with_midi else None,
            files=self._files(),
        )


class _Writes(_GivesTune):
    seed: int | None = Field(None, ge=0, lt=2**32, description="Chosen at random if not given")
    temperature: float = Field(1.0, ge=0.1, le=2.0, description="Lower is more predictable")
    max_tokens: int = Field(1500, ge=64, le=8192, description="The longest that may be written")

    async def _written(self, asked: dict[str, Any], desk: Desk) -> Tune:
        self._check_names(desk)
        seed = random.getrandbits(32) if self.seed is None else self.seed
        settings = {
            "seed": seed,
            "temperature": self.temperature,
            "max_new_tokens": self.max_tokens,
        }
        music = await desk.jobs.run("model", work.write, desk.jobs.model, asked, settings)
        return self._answered(music, desk, seed)


class WriteTune(_Writes):
    """Writes a new tune; what is not given is chosen by the model."""

    name = "write_tune"
    meter: str | None = Field(None, max_length=10, examples=["3/4", "6/8"])
    key: Literal[tuple(KEYS)] | None = Field(
        None, description="The major key of the key signature: for A minor, C"
    )
    tempo: float | None = Field(None, ge=20, le=300, description="Quarter notes a minute")
    instruments: Instruments | None = None

    async def run(self, desk: Desk) -> Tune:
        """Returns the tune."""
        conditions = self.model_dump(include={"meter", "key", "tempo", "instruments"})
        return await self._written(conditions, desk)


class ContinueTune(_Writes):
    """Goes on with a tune: keeps its first bars as they are and writes until the tune ends."""

    name = "continue_tune"
    abc: Abc
    bars: Bar | None = Field(None, description="How many bars are kept; all if not given")

    async def run(self, desk: Desk) -> Tune:
        """Returns the whole tune."""
        music = await desk.read_abc(self.abc)
        return await self._written({"prompt": _first_bars(music, self.bars)}, desk)


class FillBars(_Writes):
    """Writes bars of a tune anew so that they fit those around them; all others stay as they are.

    Needs a model that was trained to fill in.
    """

    name = "fill_bars"
    abc: Abc
    first_bar: Bar = Field(description="The first bar to write anew; a pickup is bar 1")
    last_bar: Bar = Field(description="The last one")

    async def run(self, desk: Desk) -> Tune:
        """Returns the whole tune."""
        if self.last_bar - self.first_bar >= MOST_BARS_FILLED:
            raise ValueError(f"expected at most {MOST_BARS_FILLED} bars from first_bar to last_bar")
        music = await desk.read_abc(self.abc)
        asked = {"prompt": music.bars, "fill": (self.first_bar, self.last_bar)}
        return await self._written(asked, desk)


class Accompany(_Writes):
    """Writes further voices beside those of a tune, which stay as they are."""

    name = "accompany"
    abc: Abc
    instruments: Instruments

    async def run(self, desk: Desk) -> Tune:
        """Returns the tune with all voices."""
        music = await desk.read_abc(self.abc)
        asked = {"accompany": music.bars, "instruments": self.instruments}
        return await self._written(asked, desk)


class ConvertMidi(_GivesTune):
    """Turns MIDI, a score (MusicXML, MEI, Humdrum) or the ABC of others into plain ABC.

    Takes either a file of the user's folder or the bytes of one.
    """

    name = "convert_midi"
    file: str | None = Field(
        None, max_length=1000, description="Path below the user's folder", examples=["song.mid"]
    )
    content_base64: str | None = Field(
        None, max_length=4 * MOST_FILE_BYTES // 3 + 4, description="The bytes of a file, in base64"
    )
    suffix: Literal[SUFFIXES] = Field(".mid", description="What kind of file content_base64 is")

    async def run(self, desk: Desk) -> Tune:
        """Returns the tune."""
        if (self.file is None) == (self.content_base64 is None):
            raise ValueError("expected either file or content_base64")
        self._check_names(desk)
        if self.file is None:
            return self._answered(await desk.read(f"music{self.suffix}", self._decoded()), desk)
        kind = kind_of(self.file)
        if kind is None:
            raise ValueError(f"{self.file!r}: expected a name ending in {' '.join(SUFFIXES)}")
        content = desk.open_folder().read(self.file, kind.most_bytes)
        return self._answered(await desk.read(self.file, content), desk)

    def _decoded(self) -> bytes:
        try:
            return base64.b64decode(self.content_base64, validate=True)
        except binascii.Error as error:
            raise ValueError(f"content_base64 is not base64: {error}") from None


class CheckAbc(Tool):
    """Says whether an ABC text can be read, which bars are wrong, and what other programs say."""

    name = "check_abc"
    answer = Check
    abc: Abc
    ask_readers: bool = Field(
        False, description="Also ask music21, abc2midi and abcjs, which takes half a minute"
    )

    async def run(self, desk: Desk) -> Check:
        """Returns what is wrong."""
        problems, warnings = await desk.jobs.run("reader", work.find_problems, self.abc)
        readers, complaints = None, []
        if self.ask_readers:
            readers, complaints = await desk.jobs.run("judge", work.judge, self.abc)
        return Check(
            is_valid=not problems,
            problems=problems,
            warnings=warnings,
            readers=readers,
            complaints=complaints,
        )


TOOLS: dict[str, type[Tool]] = {
    tool.name: tool
    for tool in (WriteTune, ContinueTune, FillBars, Accompany, ConvertMidi, CheckAbc)
}


def _first_bars(music: work.Music, n_bars: int | None) -> str:
    """Returns the header and first bars of a tune, open at the end."""
    n_bars = music.n_bars if n_bars is None else n_bars
    if n_bars > music.n_bars:
        raise ValueError(f"bars is {n_bars}, but the tune has {music.n_bars}")
    header, mark, lines = music.bars.partition("\n[V:")
    kept = (mark[1:] + lines).splitlines()[:n_bars]
    return "\n".join([header, *kept]).replace("|]", "|") + "\n"
