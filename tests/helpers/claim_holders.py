"""A process that holds a claim until it is killed."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, time
from pathlib import Path
from data_prep.storage.claims import take
claim = take(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(300)
"""


def claim_in_another_process(path: Path) -> subprocess.Popen:
    """Starts it, and waits until it holds the claim."""
    command = [sys.executable, "-c", PROGRAM, str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process
