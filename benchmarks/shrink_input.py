"""Minimizes an input that fails its check, for benchmarks/fuzz_conversion.py."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

Input = bytes | str


def shrink(data: Input, kind_of_failure: Callable[[Input], str], seconds: float) -> Input:
    """Removes ever shorter stretches, as long as the check fails in the same way.

    Args:
        data: The input.
        kind_of_failure: Returns how an input fails its check, "" if it does not.
        seconds: Time after which the shortest input so far is returned.
    """
    deadline = time.monotonic() + seconds
    kind = kind_of_failure(data)

    def fails(candidate: Input) -> bool:
        return kind_of_failure(candidate) == kind

    size = max(1, len(data) // 2)
    while kind and data:
        data, is_shorter = _remove_stretches(data, size, fails, deadline)
        if time.monotonic() > deadline or (size == 1 and not is_shorter):
            break
        size = max(1, size // 2)
    return data


def _remove_stretches(
    data: Input, size: int, fails: Callable[[Input], bool], deadline: float
) -> tuple[Input, bool]:
    """Tries all stretches of one size; returns the rest, and whether it is shorter."""
    length, start = len(data), 0
    while start < len(data) and time.monotonic() <= deadline:
        shorter = next(filter(fails, _without(data, start, start + size)), None)
        data, start = (data, start + size) if shorter is None else (shorter, start)
    return data, len(data) < length


def _without(data: Input, start: int, stop: int) -> Iterator[Input]:
    """Yields an input without a stretch, first with a corrected track length."""
    rest = data[stop:]
    if isinstance(data, bytes):
        head = data.rfind(b"MTrk", 0, start)
        length = int.from_bytes(data[head + 4 : head + 8], "big") - (stop - start)
        if head >= 0 and start >= head + 8 and length >= 0:
            yield data[: head + 4] + length.to_bytes(4, "big") + data[head + 8 : start] + rest
    yield data[:start] + rest
