"""The interface of a law: named parameters, a surface over N, D and U with derivatives, and needs.

N parameters, D tokens, U unique tokens, L loss in nats per token. theta, (k,), contains a
law's parameters as the minimizer sees them. Array letters: n runs, k parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import expit, logit

# scale: above 0, stored as logarithm; exponent and slope: stored as is; decay: a number of
# repetitions above 0, stored as logarithm; share: in (0, 1), stored as logit
Kind = Literal["scale", "exponent", "decay", "share", "slope"]
# of theta in centered logs; wide enough that the runs do not determine a parameter at its bound
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
    """Points at which a law is evaluated: log N, log D and log U, each (n,).

    If U is at least D, no token is seen twice.
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
    """What a law needs from the runs; with less, the law is refused.

    Attributes:
        sizes: number of distinct N.
        why: the reason, as text for the refusal.
        runs: number of trained models or branches.
        budgets: number of distinct D; 1 for a law in N alone, fitted at one D.
        repeated: number of runs that see their data more than once.
        unique: number of distinct U among all runs.
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
        label: the formula in figures: TeX without spaces, because notes are wrapped at spaces.
        kinds: kind of each parameter by name, in the order of theta. An exponent printed in tables
            and figures is named by one letter or by the TeX name of a Greek letter.
        floor: name of the irreducible loss, which no size or budget goes below, if there is one.
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
        """Names of the parameters that determine how fast the loss falls."""
        return tuple(name for name, kind in self.kinds.items() if kind == "exponent")

    def not_falling(self, theta: np.ndarray, low: np.ndarray | None = None) -> str | None:
        """Why a fit is no scaling law: an exponent or its interval reaches 0 or below; else None.

        theta: (k,); low: lower ends of its intervals, (k,), if there are any.
        """
        for what, at in (("", theta), ("the lower end of the interval of ", low)):
            values = {} if at is None else self.values(at)
            wrong = [f"{n} is {values[n]:.3g}" for n in self.exponents if values.get(n, 1) <= 0]
            if wrong:
                found = " and ".join(wrong)
                return (
                    f"{what}{found}, expected above 0: the runs do not show that the loss falls "
                    "with more parameters or tokens, so there is no best size"
                )
        return None

    @property
    def is_at_one_budget(self) -> bool:
        """Whether the law does not depend on D, so that all runs must have the same D."""
        return self.needs.budgets == 1

    @property
    def bounds(self) -> list[tuple[float, float]]:
        """Lower and upper bound of each element of theta, for centered logs."""
        return [BOUNDS[kind] for kind in self.kinds.values()]

    def values(self, theta: np.ndarray) -> dict[str, float]:
        """Parameters on their natural scale, by name. theta: (k,)."""
        natural = {"scale": np.exp, "decay": np.exp, "share": expit}
        return {
            name: float(natural.get(kind, float)(number))
            for (name, kind), number in zip(self.kinds.items(), theta, strict=True)
        }

    def theta(self, values: dict[str, float]) -> np.ndarray:
        """The inverse of `values`: theta, (k,)."""
        stored = {"scale": np.log, "decay": np.log, "share": logit}
        kinds = self.kinds.items()
        return np.array([float(stored.get(kind, float)(values[name])) for name, kind in kinds])

    def surface(self, points: Points) -> Surface:
        """The law over these points, as a function of theta."""
        raise NotImplementedError

    def shifted(self, theta: np.ndarray, log_n: float, log_d: float) -> np.ndarray:
        """Theta after log_n and log_d are subtracted from the logs; U is shifted like D."""
        raise NotImplementedError

    def starts(self, points: Points, log_loss: np.ndarray) -> list[np.ndarray]:
        """Starting thetas, (k,) each, for a fit in centered logs."""
        raise NotImplementedError

    def starts_beside(
        self, theta: np.ndarray, points: Points, log_loss: np.ndarray
    ) -> list[np.ndarray]:
        """Extra starts if a parameter of a fit, theta (k,), is at its bound; often none."""
        raise NotImplementedError

    def log_loss(self, theta: np.ndarray, points: Points) -> np.ndarray:
        """Natural logarithm of the law's loss, (n,). theta: (k,)."""
        return self.surface(points)(theta)[0]
