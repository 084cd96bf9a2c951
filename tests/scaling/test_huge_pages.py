"""A command asks for huge pages once, and keeps its command line and variables."""

import os
import subprocess
import sys

import pytest

from scaling.writing import commands

PROGRAM = """
import os, sys
from pathlib import Path
from scaling.writing import commands
commands.HUGE_PAGES = Path(sys.argv[1])
commands.use_huge_pages()
print(sys.argv[2], os.environ.get("GLIBC_TUNABLES", "unset"), os.environ.get("KEPT"))
"""


@pytest.mark.parametrize(
    ("offered", "own", "expected"),
    [
        ("always [madvise] never", None, "glibc.malloc.hugetlb=1"),
        (
            "always [madvise] never",
            "glibc.malloc.tcache_count=3",
            "glibc.malloc.tcache_count=3:glibc.malloc.hugetlb=1",
        ),
        ("always [madvise] never", "glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
        ("[always] madvise never", None, "unset"),
        ("always madvise [never]", None, "unset"),
        (None, None, "unset"),  # not Linux
    ],
)
def test_huge_pages_are_asked_for_once(tmp_path, offered, own, expected):
    system = tmp_path / "enabled"
    if offered:
        system.write_text(offered)
    env = {key: value for key, value in os.environ.items() if key != commands.TUNABLES}
    env |= {"KEPT": "kept"} | ({commands.TUNABLES: own} if own else {})
    command = [sys.executable, "-c", PROGRAM, str(system), "two words"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said == f"two words {expected} kept\n"


def test_a_program_inside_another_process_leaves_it_as_it_is(tmp_path):
    (tmp_path / "enabled").write_text("always [madvise] never")
    within = f"import sys; sys.argv[1:] = [{str(tmp_path / 'enabled')!r}, 'inside']{PROGRAM}"
    env = {key: value for key, value in os.environ.items() if key != commands.TUNABLES}
    command = [sys.executable, "-c", within, "other", "words", "here"]
    said = subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout
    assert said == "inside unset None\n"
