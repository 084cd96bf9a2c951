"""Whether a kept file still belongs to what it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def is_fresh(about: Path, key: dict[str, Any]) -> bool:
    """Whether a JSON file says all that a key says; False where there is none.

    Args:
        about: Written beside what is kept, or with it: what it was made of, and maybe more.
        key: What it would be made of now.
    """
    if not about.exists():
        return False
    said = json.loads(about.read_text("utf-8"))
    return key == {name: said.get(name) for name in key}
