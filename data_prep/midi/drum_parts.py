"""Which channels are drums, and from when on: channel 10, unless a file says otherwise.

Sources: General MIDI Level 2 (banks 120 and 121); Roland GS (part mode, address 40 1n 15; reset,
40 00 7F); Yamaha XG (part mode, address 08 pp 07; banks 126 and 127; system on, 00 00 7E).
"""

from collections.abc import Iterator
from typing import NamedTuple

CHANNELS = 16  # per port
DRUM_CHANNEL = 9  # the default, counted from 0
_BANKS = {120: True, 121: False, 126: True, 127: True}  # whether their programs are drum kits
_XG_BANKS = (126, 127)  # other instruments where a file uses GS
_GS = (0x41, 0x42, 0x12)  # maker and model, without the device byte between them
_RESETS = ((0x7E, 0x09), (*_GS, 0x40, 0x00, 0x7F), (0x43, 0x4C, 0x00, 0x00, 0x7E))
_GS_PART_MODE = (0x40, 0x15)  # address bytes before and after the part
_XG_PART_MODE = (0x43, 0x4C, 0x08)


class Step(NamedTuple):
    """An event that may turn a channel into drums, or back.

    Attributes:
        time: In any unit.
        place: Position in the file.
        channel: Plus 16 for each port; for a system exclusive message the first of its port.
        bank: The bank that controller 0 selects, None for other steps.
        sysex: A system exclusive message without its F0, None for other steps. If there is neither
            this nor a bank, the step is a program change: a bank takes effect at the next one.
    """

    time: int
    place: int
    channel: int
    bank: int | None = None
    sysex: bytes | None = None


def drum_changes(steps: list[Step]) -> Iterator[tuple[int, int, bool]]:
    """Yields (channel, time, whether it is drums from there on), sorted by time."""
    speaks_gs = any(_is(step.sysex, _GS) for step in steps)
    kits = {bank: kit for bank, kit in _BANKS.items() if not (speaks_gs and bank in _XG_BANKS)}
    banks: dict[int, int] = {}
    changed: set[int] = set()
    # At equal times a reset comes first, since setup tracks come in any order.
    for step in sorted(steps, key=lambda s: (s.time, not _is_reset(s.sysex), s.place)):
        if _is_reset(step.sysex):
            banks.clear()
            port = range(step.channel, step.channel + CHANNELS)
            yield from ((c, step.time, c % CHANNELS == DRUM_CHANNEL) for c in changed & {*port})
        elif mode := _part_mode(step.sysex):
            channel, is_drums = step.channel + mode[0], mode[1]
            changed.add(channel)
            yield channel, step.time, is_drums
        elif step.bank is not None:
            banks[step.channel] = step.bank
        elif step.sysex is None and (kit := kits.get(banks.get(step.channel, -1))) is not None:
            changed.add(step.channel)
            yield step.channel, step.time, kit


def changes_drums(banks: set[int], sysex: list[bytes]) -> bool:
    """Whether any channel may be turned into drums, or back: most files contain no such event."""
    return not banks.isdisjoint(_BANKS) or any(_part_mode(content) for content in sysex)


def _part_mode(sysex: bytes | None) -> tuple[int, bool] | None:
    """Returns (channel, whether it is drums) if a message sets the mode of a part, else None."""
    if _is(sysex, (*_GS, _GS_PART_MODE[0])) and len(sysex) > 7:
        part, address, mode = sysex[5] ^ 0x10, sysex[6], sysex[7]
        if part < CHANNELS and address == _GS_PART_MODE[1]:
            # Part 0 plays on channel 10; 1-9 on channels 1-9, the others on 11-16.
            return (DRUM_CHANNEL if part == 0 else part - (part <= DRUM_CHANNEL)), mode > 0
    if _is(sysex, _XG_PART_MODE) and len(sysex) > 6 and sysex[5] == 0x07:
        return sysex[4] % CHANNELS, sysex[6] > 0
    return None


def _is_reset(sysex: bytes | None) -> bool:
    return any(_is(sysex, reset) for reset in _RESETS)


def _is(sysex: bytes | None, maker_and_address: tuple[int, ...]) -> bool:
    """Whether a message begins with these bytes; its second byte, the device, is ignored."""
    if not sysex:
        return False
    maker, *address = maker_and_address
    return sysex[0] == maker and sysex[2:].startswith(bytes(address))
