"""How a training process on Linux gets its memory: large pages, and buffers that are kept.

This module imports nothing but the standard library, since a program calls it before all else.
"""

import ctypes
import os
import sys
from contextlib import suppress
from pathlib import Path

# parameters of mallopt(3)
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
MOST_BYTES = 2**30

HUGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
TUNABLES, TUNABLE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"


def use_huge_pages() -> None:
    """Start this program anew, once, with memory in pages of 2 MiB instead of 4 KiB.

    Many Linux systems give huge pages only to programs that ask for them, and glibc asks only if a
    variable says so when the program starts. The look-up of small pages is what a step of a small
    model waits for on a busy virtual machine. A value of the user's own takes precedence; without
    Linux or glibc nothing happens.
    """
    own = os.environ.get(TUNABLES, "")
    # a program run inside another's process has another's command line
    is_own_process = sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :] == sys.argv[1:]
    if TUNABLE in own or not is_own_process or not _are_huge_pages_on_request():
        return
    wanted = ":".join(filter(None, (own, f"{TUNABLE}=1")))
    sys.stdout.flush()
    os.execve(
        sys.executable,
        [sys.executable, *sys.orig_argv[1:]],
        {**os.environ, TUNABLES: wanted},
    )


def _are_huge_pages_on_request() -> bool:
    with suppress(OSError):
        return "[madvise]" in HUGE_PAGES.read_text()
    return False


def keep_freed_memory() -> None:
    """Let glibc keep the buffers that each step frees and the next one allocates again.

    By default, large buffers go back to the system, which returns them page by page. That costs a
    tenth of a step for small models on a CPU. Without glibc this does nothing.
    """
    with suppress(OSError, AttributeError):
        c_library = ctypes.CDLL(None)
        c_library.mallopt(M_MMAP_THRESHOLD, MOST_BYTES)
        c_library.mallopt(M_TRIM_THRESHOLD, 2 * MOST_BYTES - 1)
