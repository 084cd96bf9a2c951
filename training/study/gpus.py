"""Find the available GPUs without torch, whose import takes seconds."""

import os
import re
import subprocess
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

DEVICES = Path("/dev")
NVIDIA_SMI_SECONDS = 30.0  # it wakes a sleeping driver


def find_gpus() -> list[str]:
    """Values for CUDA_VISIBLE_DEVICES, one entry per GPU; [] without one.

    An existing CUDA_VISIBLE_DEVICES takes precedence. Otherwise `nvidia-smi -L` lists them by their
    UUIDs: its numbers are not always those that CUDA uses.
    """
    outer = os.environ.get("CUDA_VISIBLE_DEVICES")
    if outer is not None:
        # as CUDA reads it: entries from the first invalid one on do not count
        entries = (entry.strip() for entry in outer.split(","))
        return list(takewhile(lambda entry: entry and not entry.startswith("-"), entries))
    pipes = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    limits = {"timeout": NVIDIA_SMI_SECONDS, "check": True}
    with suppress(OSError, subprocess.SubprocessError):
        return _listed_devices(subprocess.run(["nvidia-smi", "-L"], **pipes, **limits).stdout)
    # some containers have the devices but not the tool
    found = (re.fullmatch(r"nvidia(\d+)", path.name) for path in DEVICES.glob("nvidia*"))
    return [str(number) for number in sorted(int(match[1]) for match in found if match)]


def _listed_devices(text: str) -> list[str]:
    """UUIDs in the output of `nvidia-smi -L`; the MIG parts of a divided GPU replace the whole."""
    devices: list[str] = []
    for uuid in re.findall(r"UUID: ((?:GPU|MIG)-[^)\s]+)", text):
        if uuid.startswith("MIG") and devices and devices[-1].startswith("GPU"):
            devices.pop()
        devices.append(uuid)
    return devices
