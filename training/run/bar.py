"""The progress bar of runs and studies. Imports no torch: a study starts in no time."""

import sys
from typing import Any

SECONDS_IN_A_FILE = 30.0


def bar_look() -> dict[str, Any]:
    """Returns arguments of `tqdm` for a bar of tokens, which a log file gets twice a minute."""
    seconds = {} if sys.stderr.isatty() else {"mininterval": SECONDS_IN_A_FILE}
    return {"unit": "tok", "unit_scale": True, "dynamic_ncols": True, **seconds}
