"""Importing this module makes each process compute the digest of this project's code only once.

A training run takes a tenth of a second here, and the digest in its record several times that. The
code does not change while the tests run.
"""

from functools import cache
from pathlib import Path

from training import record

_digest_of = record.code_digest
_digest_of_project = cache(_digest_of)


def code_digest(project: Path = record.PROJECT) -> str:
    """Like that of training.record; for another folder it is computed each time."""
    return (_digest_of_project if project == record.PROJECT else _digest_of)(project)


record.code_digest = code_digest
code_digest()
