"""The outcome of each check, printed as it becomes known."""

from collections.abc import Iterator
from contextlib import contextmanager

from .commands import CheckError


class Checks:
    """Prints and counts outcomes."""

    def __init__(self) -> None:
        self.n_passed = self.n_failed = 0

    def tell(self, is_passed: bool, what: str, found: str) -> None:
        """Prints one outcome.

        Args:
            is_passed: Whether it is as it should be.
            what: What was checked.
            found: What was seen.
        """
        self.n_passed += is_passed
        self.n_failed += not is_passed
        print(f"{'passed' if is_passed else 'FAILED'}  {what}: {found}", flush=True)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """A part that cannot go on is a failed check."""
        try:
            yield
        except (CheckError, OSError) as error:
            self.tell(False, name, str(error))
