"""SoundFont files with compressed samples (SF3): read, cut to some presets, written.

A file holds presets -> zones -> instruments -> zones -> samples; a zone is a list of generators
(numbered settings) and of modulators. Samples are Ogg Vorbis streams, which are copied as they are.
Source: SoundFont Technical Specification 2.04, section 7; SF3 adds the compressed sample type.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

_INSTRUMENT, _SAMPLE = 41, 53  # generators that name what a zone plays
_COMPRESSED, _MONO = 16, 1  # sample types
_VERSION = struct.pack("<HH", 3, 1)  # of SF3
_PRESET, _HEADER, _BAG = "<20sHHHIII", "<20sH", "<HH"
_GENERATOR, _MODULATOR, _SAMPLE_HEADER = "<HH", "<HHhHH", "<20sIIIIIBbHH"

Zone = tuple[tuple[tuple[int, int], ...], tuple[tuple[int, ...], ...]]  # generators, modulators
Place = tuple[int, int]  # bank, program


@dataclass(frozen=True)
class Sample:
    """An Ogg Vorbis stream; `settings` are its loop, rate, pitch and correction, as in the file."""

    name: bytes
    ogg: bytes
    settings: tuple[int, ...]


@dataclass(frozen=True)
class Instrument:
    """Zones whose generators 53 are numbers of samples."""

    name: bytes
    zones: tuple[Zone, ...]


@dataclass(frozen=True)
class Preset:
    """Zones whose generators 41 are numbers of instruments."""

    name: bytes
    zones: tuple[Zone, ...]


@dataclass(frozen=True)
class SoundFont:
    """The content of a file.

    Attributes:
        info: Four-letter name -> text, without the version.
        presets: (bank, program) -> preset.
        instruments: By number.
        samples: By number.
    """

    info: dict[bytes, bytes]
    presets: dict[Place, Preset]
    instruments: tuple[Instrument, ...]
    samples: tuple[Sample, ...]


def read_soundfont(data: bytes) -> SoundFont:
    """Reads an SF3 file.

    Raises:
        ValueError: If it is none, or damaged, or its samples are not compressed.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"sfbk":
        raise ValueError("not a SoundFont: it does not begin with RIFF ... sfbk")
    try:
        lists = {data[at : at + 4]: dict(_chunks(data, at + 4, end)) for at, end in _lists(data)}
        info, smpl, tables = lists[b"INFO"], lists[b"sdta"][b"smpl"], lists[b"pdta"]
        rows = list(struct.iter_unpack(_SAMPLE_HEADER, tables[b"shdr"]))[:-1]
        if not all(row[9] & _COMPRESSED for row in rows):
            raise ValueError("a SoundFont of uncompressed samples, expected an SF3 file")
        samples = tuple(
            Sample(name, smpl[start:end], (loop, loop_end, rate, pitch, correction))
            for name, start, end, loop, loop_end, rate, pitch, correction, _, _ in rows
        )
        inst = list(struct.iter_unpack(_HEADER, tables[b"inst"]))
        zones = _zones(tables, b"i")
        instruments = tuple(
            Instrument(name, tuple(zones[first:stop]))
            for (name, first), (_, stop) in itertools.pairwise(inst)
        )
        phdr = list(struct.iter_unpack(_PRESET, tables[b"phdr"]))
        zones = _zones(tables, b"p")
        presets = {
            (row[2], row[1]): Preset(row[0], tuple(zones[row[3] : after[3]]))
            for row, after in itertools.pairwise(phdr)
        }
    except (KeyError, struct.error) as error:
        raise ValueError(f"a damaged SoundFont: {error!r}") from None
    info.pop(b"ifil", None)
    return SoundFont(info, presets, instruments, samples)


def cut_soundfont(font: SoundFont, stands_in: Mapping[Place, Place]) -> SoundFont:
    """Returns a file with the presets that are named, and with nothing that they do not use.

    Args:
        font: The whole file.
        stands_in: Place of a preset in the new file -> place in `font` of what it plays.

    Raises:
        ValueError: If `font` has no such preset.
    """
    if missing := sorted(set(stands_in.values()) - font.presets.keys()):
        raise ValueError(f"the SoundFont has no presets (bank, program) {missing}")
    presets = {place: font.presets[stands_in[place]] for place in sorted(stands_in)}
    used = _named(presets.values(), _INSTRUMENT)
    instruments = [font.instruments[number] for number in used]
    heard = _named(instruments, _SAMPLE)
    return SoundFont(
        font.info,
        {place: _renumbered(preset, _INSTRUMENT, used) for place, preset in presets.items()},
        tuple(_renumbered(instrument, _SAMPLE, heard) for instrument in instruments),
        tuple(font.samples[number] for number in heard),
    )


def _named(holders: Iterable[Preset | Instrument], generator: int) -> list[int]:
    """The numbers that a generator has in the zones, ascending."""
    return sorted(
        {
            value
            for holder in holders
            for generators, _ in holder.zones
            for kind, value in generators
            if kind == generator
        }
    )


def _renumbered(holder: Any, generator: int, kept: list[int]) -> Any:
    """Returns a preset or instrument whose generator counts in `kept` only."""
    zones = tuple(
        (
            tuple((k, kept.index(v) if k == generator else v) for k, v in generators),
            modulators,
        )
        for generators, modulators in holder.zones
    )
    return replace(holder, zones=zones)


def write_soundfont(font: SoundFont) -> bytes:
    """Returns the bytes of an SF3 file; the same content gives the same bytes."""
    smpl = b"".join(sample.ogg for sample in font.samples)
    smpl += bytes(len(smpl) % 2)  # some readers do not know that odd chunks are padded
    info = [_chunk(b"ifil", _VERSION), *(_chunk(*item) for item in font.info.items())]
    return _chunk(
        b"RIFF",
        b"sfbk"
        + _chunk(b"LIST", b"INFO" + b"".join(info))
        + _chunk(b"LIST", b"sdta" + _chunk(b"smpl", smpl))
        + _chunk(b"LIST", b"pdta" + _tables(font)),
    )


def _tables(font: SoundFont) -> bytes:
    """The tables of presets, instruments and samples, each with its last, empty row."""
    presets = sorted(font.presets.items())
    heads, at = [], 0
    for (bank, program), preset in [*presets, ((0, 0), Preset(b"EOP", ()))]:
        heads.append(struct.pack(_PRESET, preset.name, program, bank, at, 0, 0, 0))
        at += len(preset.zones)
    names, at = [], 0
    for instrument in [*font.instruments, Instrument(b"EOI", ())]:
        names.append(struct.pack(_HEADER, instrument.name, at))
        at += len(instrument.zones)
    places, at = [], 0
    for sample in font.samples:
        loop, loop_end, rate, pitch, correction = sample.settings
        row = (at, at + len(sample.ogg), loop, loop_end, rate, pitch, correction, 0)
        places.append(struct.pack(_SAMPLE_HEADER, sample.name, *row, _COMPRESSED | _MONO))
        at += len(sample.ogg)
    places.append(struct.pack(_SAMPLE_HEADER, b"EOS", *[0] * 9))
    return (
        _chunk(b"phdr", b"".join(heads))
        + _zone_chunks([zone for _, preset in presets for zone in preset.zones], b"p")
        + _chunk(b"inst", b"".join(names))
        + _zone_chunks([zone for each in font.instruments for zone in each.zones], b"i")
        + _chunk(b"shdr", b"".join(places))
    )


# ---------------------------------------------------------------- chunks and zones


def _lists(data: bytes) -> Iterator[tuple[int, int]]:
    """Yields start and end of the content of each LIST of a file."""
    at, end = 12, 8 + struct.unpack_from("<I", data, 4)[0]
    while at < min(end, len(data)):
        size = struct.unpack_from("<I", data, at + 4)[0]
        yield at + 8, at + 8 + size
        at += 8 + size + size % 2


def _chunks(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    while at < end:
        size = struct.unpack_from("<I", data, at + 4)[0]
        if at + 8 + size > len(data):
            raise ValueError("a damaged SoundFont: it is cut off")
        yield data[at : at + 4], data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)


def _zones(tables: Mapping[bytes, bytes], kind: bytes) -> list[Zone]:
    """The zones of all presets (`p`) or instruments (`i`), in order."""
    bags = list(struct.iter_unpack(_BAG, tables[kind + b"bag"]))
    generators = list(struct.iter_unpack(_GENERATOR, tables[kind + b"gen"]))
    modulators = list(struct.iter_unpack(_MODULATOR, tables[kind + b"mod"]))
    return [
        (tuple(generators[g:g_end]), tuple(modulators[m:m_end]))
        for (g, m), (g_end, m_end) in itertools.pairwise(bags)
    ]


def _zone_chunks(zones: list[Zone], kind: bytes) -> bytes:
    bags, generators, modulators = [], [], []
    for own_generators, own_modulators in [*zones, ((), ())]:
        bags.append(struct.pack(_BAG, len(generators), len(modulators)))
        generators += own_generators
        modulators += own_modulators
    rows = {
        b"bag": bags,
        b"mod": [struct.pack(_MODULATOR, *row) for row in [*modulators, (0,) * 5]],
        b"gen": [struct.pack(_GENERATOR, *row) for row in [*generators, (0, 0)]],
    }
    return b"".join(_chunk(kind + name, b"".join(content)) for name, content in rows.items())
