"""Once this is imported, the digest of this project's code is computed once a process.

A run of training is a tenth of a second here, and the digest that its record holds several times
that. The code does not change while the tests run.
"""

from functools import cache
from pathlib import Path

from training import record

_digest_of = record.code_digest
_digest_of_project = cache(_digest_of)


def code_digest(project: Path = record.PROJECT) -> str:
    """As that of training.record; of another folder it is computed each time."""
    return (_digest_of_project if project == record.PROJECT else _digest_of)(project)


record.code_digest = code_digest
code_digest()
