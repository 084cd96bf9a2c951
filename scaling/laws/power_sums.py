"""Laws that are sums of powers of N and D, with and without a floor.

N parameters, D tokens, L loss in nats per token. The logarithm of such a law is the log-sum-exp of
lines in log N and log D, with an exact gradient. Array letters: n runs, k parameters, m terms.
"""

import itertools
from dataclasses import dataclass

import numpy as np

from .law import Law, Needs, Points, Surface

EXPONENT_STARTS = (0.05, 0.2, 0.5, 1.0)
FLOOR_SHARE_STARTS = (0.05, 0.35, 0.65, 0.9)
COLLAPSED = 0.01  # a floor below this share of the smallest loss


@dataclass(frozen=True)
class Term:
    """scale * N^-n_exponent * D^-d_exponent, by name; a term without exponents is the floor."""

    scale: str
    n_exponent: str | None = None
    d_exponent: str | None = None


@dataclass(frozen=True)
class PowerSum(Law):
    """A law that is a sum of terms."""

    terms: tuple[Term, ...] = ()

    def design(self, points: Points) -> np.ndarray:
        """Lines of the terms, (m, n, k): log term = design @ theta."""
        names = self.parameters
        lines = np.zeros((len(self.terms), len(points.log_n), len(names)))
        for index, term in enumerate(self.terms):
            lines[index, :, names.index(term.scale)] = 1.0
            for name, log in ((term.n_exponent, points.log_n), (term.d_exponent, points.log_d)):
                if name is not None:
                    lines[index, :, names.index(name)] -= log
        return lines

    def surface(self, points: Points) -> Surface:
        """As in Law."""
        lines = self.design(points)

        def log_loss(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_total, shares = log_sum(lines @ theta)
            return log_total, np.einsum("mn,mnk->nk", shares, lines)

        return log_loss

    def shifted(self, theta: np.ndarray, log_n: float, log_d: float) -> np.ndarray:
        """As in Law: exponents stay, scales absorb the shift."""
        shifted = theta.copy()
        origin = Points.once(np.array([log_n]), np.array([log_d]))
        at_origin = self.design(origin)[:, 0, :] @ theta  # (m,)
        for value, term in zip(at_origin, self.terms, strict=True):
            shifted[self.parameters.index(term.scale)] = value
        return shifted

    def starts(self, points: Points, log_loss: np.ndarray) -> list[np.ndarray]:
        """As in Law: exponents from a grid, the mean loss divided among the terms."""
        slopes = list(itertools.product(EXPONENT_STARTS, repeat=len(self.exponents)))
        return self._starts_from(slopes, float(np.mean(log_loss)))

    def starts_beside(
        self, theta: np.ndarray, points: Points, log_loss: np.ndarray
    ) -> list[np.ndarray]:
        """As in Law: other floors, because a collapsed floor would stay at 0 in every refit."""
        highest = np.log(COLLAPSED) + log_loss.min()
        if self.floor is None or theta[self.parameters.index(self.floor)] >= highest:
            return []
        slopes = tuple(float(theta[self.parameters.index(name)]) for name in self.exponents)
        return self._starts_from([slopes], float(np.mean(log_loss)))

    def _starts_from(self, slopes: list[tuple[float, ...]], log_mean: float) -> list[np.ndarray]:
        shares = FLOOR_SHARE_STARTS if self.floor else (0.0,)
        n_power_terms = len(self.terms) - (self.floor is not None)
        starts = []
        for share, values in itertools.product(shares, slopes):
            named = dict(zip(self.exponents, values, strict=True))
            for term in self.terms:
                part = share if term.scale == self.floor else (1 - share) / n_power_terms
                named[term.scale] = log_mean + float(np.log(part))
            starts.append(np.array([named[name] for name in self.parameters]))
        return starts


def log_sum(log_terms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of the sum over terms, (n,), and each term's share of it, (m, n).

    Written by hand: scipy's logsumexp and softmax take ten times as long on arrays this small.
    """
    highest = log_terms.max(axis=0)  # (n,)
    shares = np.exp(log_terms - highest)  # (m, n)
    total = shares.sum(axis=0)  # (n,)
    return highest + np.log(total), shares / total


def nothing_left(parameters: str) -> str:
    """Why fewer sizes do not support a law, as text for the refusal."""
    return f"with fewer, nothing is left to test {parameters} parameters with"


POWER = PowerSum(
    name="power",
    formula="L = C * N^-alpha",
    label=r"$L=C\,N^{-\alpha}$",
    kinds={"C": "scale", "alpha": "exponent"},
    needs=Needs(3, "two sizes fix the line exactly and leave nothing to test it with"),
    terms=(Term("C", n_exponent="alpha"),),
)
POWER_FLOOR = PowerSum(
    name="power_floor",
    formula="L = a * N^-alpha + c",
    label=r"$L=a\,N^{-\alpha}+c$",
    kinds={"a": "scale", "alpha": "exponent", "c": "scale"},
    needs=Needs(
        6,
        "alpha and the floor c trade off against each other, "
        "and with 5 points the AICc of 3 parameters is undefined",
    ),
    floor="c",
    terms=(Term("a", n_exponent="alpha"), Term("c")),
)
# Source: Hoffmann et al. 2022, eq. 10
CHINCHILLA = PowerSum(
    name="chinchilla",
    formula="L = E + A / N^alpha + B / D^beta",
    label=r"$L=E+A/N^{\alpha}+B/D^{\beta}$",
    kinds={"E": "scale", "A": "scale", "B": "scale", "alpha": "exponent", "beta": "exponent"},
    needs=Needs(4, nothing_left("five"), runs=12, budgets=3),
    floor="E",
    terms=(Term("E"), Term("A", n_exponent="alpha"), Term("B", d_exponent="beta")),
)
# Source: Muennighoff et al. 2023 and Gadre et al. 2024, who tie the exponents
CHINCHILLA_TIED = PowerSum(
    name="chinchilla_tied",
    formula="L = E + A / N^alpha + B / D^alpha",
    label=r"$L=E+A/N^{\alpha}+B/D^{\alpha}$",
    kinds={"E": "scale", "A": "scale", "B": "scale", "alpha": "exponent"},
    needs=Needs(4, nothing_left("four"), runs=12, budgets=3),
    floor="E",
    terms=(Term("E"), Term("A", n_exponent="alpha"), Term("B", d_exponent="alpha")),
)
