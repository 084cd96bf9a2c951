"""What a law is: named parameters, a surface over N, D and U with its derivatives, and its needs.

N parameters, D tokens, U unique tokens, L loss in nats per token. theta, (k,), holds a law's
parameters as the minimiser sees them. Array letters: n runs, k parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit, logit

# scale: above 0, stored as logarithm; exponent and slope: stored as they are; decay: above 0, a
# number of repetitions, stored as logarithm; share: in (0, 1), stored as logit
Kind = Literal["scale", "exponent", "decay", "share", "slope"]
# of theta in centred logs; wide enough that a parameter at its bound is one the runs do not fix
BOUNDS: dict[Kind, tuple[float, float]] = {
    "scale": (-16.0, 16.0),
    "exponent": (-2.0, 6.0),
    "decay": (-4.0, 9.0),
    "share": (-8.0, 8.0),
    "slope": (-60.0, 60.0),
}
# theta (k,) -> log loss (n,) and its derivative by theta (n, k), over the points it was made for
Surface = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Points(NamedTuple):
    """Where a law is asked for its loss: log N, log D and log U, each (n,).

    Where U is D or more, no token is seen twice.
    """

    log_n: np.ndarray
    log_d: np.ndarray
    log_u: np.ndarray

    @classmethod
    def once(cls, log_n: np.ndarray, log_d: np.ndarray) -> "Points":
        """Points at which no token is seen twice."""
        return cls(log_n, log_d, log_d)

    def minus(self, log_n: float, log_d: float) -> "Points":
        """The points in other units of N, and of D and U."""
        return Points(self.log_n - log_n, self.log_d - log_d, self.log_u - log_d)


@dataclass(frozen=True)
class Needs:
    """What a law asks of the runs; below it the law is refused.

    Attributes:
        sizes: distinct N.
        why: the reason, in words for the refusal.
        runs: trained models or branches.
        budgets: distinct D; 1 is a law in N alone, fitted at one D.
        repeated: runs that see their data more than once.
        unique: distinct U among all runs.
    """

    sizes: int
    why: str
    runs: int = 0
    budgets: int = 1
    repeated: int = 0
    unique: int = 1


@dataclass(frozen=True)
class Law:
    """One form of L(N, D) or L(N, D, U).

    Attributes:
        label: the formula as figures print it: TeX without spaces, at which notes are wrapped.
        kinds: kind of each parameter by name, in the order of theta. An exponent that tables and
            figures print is named by one letter or by TeX's name of a Greek one.
        floor: name of the loss that no size or budget goes below, if the law has one.
    """

    name: str
    formula: str
    label: str
    kinds: dict[str, Kind]
    needs: Needs
    floor: str | None = None

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names in the order of theta."""
        return tuple(self.kinds)

    @property
    def exponents(self) -> tuple[str, ...]:
        """Names of the parameters that say how the loss falls."""
        return tuple(name for name, kind in self.kinds.items() if kind == "exponent")

    def not_falling(self, theta: np.ndarray, low: np.ndarray | None = None) -> str | None:
        """Why a fit is no scaling law: an exponent, or its interval, reaches 0 or below; else None.

        theta: (k,); low: lower ends of its intervals, (k,), where there are some.
        """
        for what, at in (("", theta), ("the lower end of the interval of ", low)):
            values = {} if at is None else self.values(at)
            wrong = [f"{n} is {values[n]:.3g}" for n in self.exponents if values.get(n, 1) <= 0]
            if wrong:
                found = " and ".join(wrong)
                return (
                    f"{what}{found}, expected above 0: the runs do not show that the loss falls "
                    "with more parameters or tokens, so no size is best"
                )
        return None

    @property
    def is_at_one_budget(self) -> bool:
        """Whether D plays no part, so that all runs must share one."""
        return self.needs.budgets == 1

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Lower and upper end of each of theta, for centred logs."""
        return [BOUNDS[kind] for kind in self.kinds.values()]

    def values(self, theta: np.ndarray) -> dict[str, float]:
        """Parameters in their natural scale, by name. theta: (k,)."""
        natural = {"scale": np.exp, "decay": np.exp, "share": expit}
        return {
            name: float(natural.get(kind, float)(number))
            for (name, kind), number in zip(self.kinds.items(), theta, strict=True)
        }

    def theta(self, values: dict[str, float]) -> np.ndarray:
        """The way back from values, (k,)."""
        stored = {"scale": np.log, "decay": np.log, "share": logit}
        kinds = self.kinds.items()
        return np.array([float(stored.get(kind, float)(values[name])) for name, kind in kinds])

    def surface(self, points: Points) -> Surface:
        """The law over these points, as a function of theta."""
        raise NotImplementedError

    def shifted(self, theta: np.ndarray, log_n: float, log_d: float) -> np.ndarray:
        """Theta for logs from which log_n and log_d are subtracted; U shifts as D does."""
        raise NotImplementedError

    def starts(self, points: Points, log_loss: np.ndarray) -> list[np.ndarray]:
        """Thetas, (k,) each, from which a fit in centred logs begins."""
        raise NotImplementedError

    def starts_beside(
        self, theta: np.ndarray, points: Points, log_loss: np.ndarray
    ) -> list[np.ndarray]:
        """Further starts where a parameter of a fit, theta (k,), sits at its bound; often none."""
        raise NotImplementedError

    def log_loss(self, theta: np.ndarray, points: Points) -> np.ndarray:
        """Natural logarithm of the law's loss, (n,). theta: (k,)."""
        return self.surface(points)(theta)[0]
