"""Memory that a training process keeps."""

import ctypes
from contextlib import suppress

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_BYTES = 2**30


def keep_freed_memory() -> None:
    """Let glibc keep the buffers that each step frees and the next one allocates again.

    By default, large buffers go back to the system, which returns them page by page. That costs a
    tenth of a step for small models on a CPU. Without glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
        c_library.mallopt(M_TRIM_THRESHOLD, 2 * MOST_BYTES - 1)
