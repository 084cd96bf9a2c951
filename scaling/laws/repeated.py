"""Laws for repeated data: how much a token is worth when it is seen again.

N parameters, D tokens, U unique tokens (U = D where nothing repeats), L loss in nats per token.
Both laws have exact gradients. Array letters: n runs, k parameters, m terms.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, ndtr

from .law import Law, Needs, Points, Surface
from .power_sums import CHINCHILLA, CHINCHILLA_TIED, log_sum, nothing_left

DECAY_STARTS = (1.0, 5.0, 20.0)  # published: 15.4 for tokens, 5.3 for parameters
KEPT_STARTS = (0.3, 0.7, 0.95)
RAN_AWAY = np.log(50.0)  # log distance of a decay from 5 repetitions
FARTHEST = 20.0  # log of N / U_N, beyond which the exponential vanishes
SMALLEST_LOSS = 1e-3  # used where the bend of a bad start takes the law below 0


@dataclass(frozen=True)
class Muennighoff(Law):
    """Tokens and parameters whose value decays with repetition.

    R_D = D / U - 1 repetitions are worth D' = U + U R_D* (1 - exp(-R_D / R_D*)) tokens. N' is
    defined the same way with U_N = min(N, U (A/B)^(1/alpha)), the best size for U tokens.
    Source: Muennighoff et al. 2023 (arXiv 2305.16264), section 5.
    """

    def surface(self, points: Points) -> Surface:
        """As in Law."""
        log_n, log_d = points.log_n, points.log_d
        log_u = np.minimum(points.log_u, log_d)
        repeats_d = np.expm1(log_d - log_u)  # (n,)
        ones = np.ones_like(log_n)

        def log_loss(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_e, log_a, log_b, alpha, log_rd, log_rn = theta
            gain_d, _, gain_d_by_decay = _gain(repeats_d, np.exp(log_rd))
            worth_d = log_u + gain_d
            best = log_u + (log_a - log_b) / alpha
            log_un = np.minimum(log_n, np.maximum(best, log_n - FARTHEST))
            above = (best < log_n) & (log_n < best + FARTHEST)  # U_N depends on theta only there
            repeats_n = np.expm1(log_n - log_un)
            gain_n, gain_n_by_repeats, gain_n_by_decay = _gain(repeats_n, np.exp(log_rn))
            worth_n = log_un + gain_n
            by_un = above * (1 - gain_n_by_repeats * (repeats_n + 1))  # d worth_n / d log_un
            log_terms = np.stack([log_e * ones, log_a - alpha * worth_n, log_b - alpha * worth_d])
            log_total, (e_share, a_share, b_share) = log_sum(log_terms)
            a_by_alpha = -worth_n + by_un * (log_a - log_b) / alpha
            columns = [
                *(e_share, a_share * (1 - by_un), a_share * by_un + b_share),
                a_share * a_by_alpha - b_share * worth_d,
                *(-b_share * (alpha * gain_d_by_decay), -a_share * (alpha * gain_n_by_decay)),
            ]
            return log_total, np.stack(columns, axis=1)

        return log_loss

    def shifted(self, theta: np.ndarray, log_n: float, log_d: float) -> np.ndarray:
        """As in Law."""
        return theta - theta[3] * np.array([0, log_n, log_d, 0, 0, 0])

    def starts(self, points: Points, log_loss: np.ndarray) -> list[np.ndarray]:
        """As in Law: the tied law's starts, with decays from a grid."""
        plain = [s for s in CHINCHILLA_TIED.starts(points, log_loss) if 0.1 < s[3] < 1]
        return [np.concatenate([start, np.log([d, d])]) for start in plain for d in DECAY_STARTS]

    def starts_beside(
        self, theta: np.ndarray, points: Points, log_loss: np.ndarray
    ) -> list[np.ndarray]:
        """As in Law: restarts decays that ran away and floors that collapsed."""
        plain = CHINCHILLA_TIED.starts_beside(theta[:4], points, log_loss)
        beside = [np.concatenate([start, theta[4:]]) for start in plain]
        if np.any(np.abs(theta[4:] - np.log(5.0)) > RAN_AWAY):
            beside += [np.concatenate([theta[:4], np.log([d, d])]) for d in DECAY_STARTS]
        return beside


def _gain(repeats: np.ndarray, decay: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log(1 + decay (1 - exp(-repeats / decay))), and its derivatives by repeats and log decay."""
    left = np.exp(-repeats / decay)
    worth = 1 - decay * np.expm1(-repeats / decay)
    by_log_decay = decay * (1 - left) - repeats * left
    return np.log(worth), left / worth, by_log_decay / worth


@dataclass(frozen=True)
class Sms(Law):
    """The law of MuPT for ABC music: an interaction of N and D, and a bend where runs overfit.

    D'' = U (1 - k^(D/U)) / (1 - k); L = d / (N^alpha D''^beta) + A / N^alpha + B / D''^beta + E
    + GELU(kd D + kn ln N - ku ln U - kin). Source: Qu et al. 2024 (arXiv 2404.06393), section 4.
    """

    def surface(self, points: Points) -> Surface:
        """As in Law."""
        log_n, log_d = points.log_n, points.log_d
        log_u = np.minimum(points.log_u, log_d)
        epochs = np.exp(log_d - log_u)
        ones, n_tokens = np.ones_like(log_n), np.exp(log_d)

        def log_loss(theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_e, log_a, log_b, log_both, alpha, beta, logit_k, log_kd, kn, ku, kin = theta
            k = expit(logit_k)
            left = k**epochs
            worth = log_u + np.log1p(-left) - np.log1p(-k)  # (n,)
            worth_by_logit = k * (1 - k) * (1 / (1 - k) - epochs * left / k / (1 - left))
            n_part, d_part = -alpha * log_n, -beta * worth
            log_terms = np.stack(
                [log_e * ones, log_a + n_part, log_b + d_part, log_both + n_part + d_part]
            )
            total = np.exp(np.clip(log_terms, -50, 50))  # (m, n)
            growth = np.exp(log_kd) * n_tokens
            bend, slope = _gelu(growth + kn * log_n - ku * log_u - kin)
            with_n, with_d = total[1] + total[3], total[2] + total[3]
            loss = np.maximum(total.sum(axis=0) + bend, SMALLEST_LOSS)
            columns = [
                *(*total, -with_n * log_n, -with_d * worth, -with_d * beta * worth_by_logit),
                *(slope * growth, slope * log_n, -slope * log_u, -slope),
            ]
            jacobian = np.where(loss > SMALLEST_LOSS, np.stack(columns) / loss, 0.0).T
            return np.log(loss), jacobian

        return log_loss

    def shifted(self, theta: np.ndarray, log_n: float, log_d: float) -> np.ndarray:
        """As in Law."""
        _, _, _, _, alpha, beta, _, _, kn, ku, _ = theta
        n_shift, d_shift = -alpha * log_n, -beta * log_d
        scales = [0, n_shift, d_shift, n_shift + d_shift]
        return theta + np.array([*scales, 0, 0, 0, log_d, 0, 0, ku * log_d - kn * log_n])

    def starts(self, points: Points, log_loss: np.ndarray) -> list[np.ndarray]:
        """As in Law: starts of the five-parameter law, with a weak and a strong bend."""
        plain = [s for s in CHINCHILLA.starts(points, log_loss) if 0.1 < s[3] < 1 > s[4] > 0.1]
        starts = []
        for (log_e, log_a, log_b, alpha, beta), k, bend in itertools.product(
            plain, KEPT_STARTS, (-3.0, -1.0)
        ):
            powers = [log_e, log_a, log_b, min(log_a, log_b) - 1, alpha, beta]
            starts.append(np.array([*powers, np.log(k / (1 - k)), np.log(0.1), 0.1, 0.1, -bend]))
        return starts

    def starts_beside(
        self, theta: np.ndarray, points: Points, log_loss: np.ndarray
    ) -> list[np.ndarray]:
        """As in Law: other values of k, if k is close to 0 or 1."""
        if abs(theta[6]) < 6:
            return []
        return [np.concatenate([theta[:6], [np.log(k / (1 - k))], theta[7:]]) for k in KEPT_STARTS]


def _gelu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """GELU, x Phi(x), and its derivative."""
    below, density = ndtr(x), np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)
    return x * below, below + x * density


MUENNIGHOFF = Muennighoff(
    name="muennighoff",
    formula="L = E + A / N'^alpha + B / D'^alpha, D' = U + U RD (1 - exp(-(D/U - 1) / RD))",
    label=r"$L=E+A/N'^{\alpha}+B/D'^{\alpha}$",
    kinds=CHINCHILLA_TIED.kinds | {"RD": "decay", "RN": "decay"},
    needs=Needs(4, nothing_left("six"), runs=16, budgets=3, repeated=6),
    floor="E",
)
SMS = Sms(
    name="sms",
    formula="L = d / (N^alpha D''^beta) + A / N^alpha + B / D''^beta + E "
    "+ GELU(kd D + kn ln N - ku ln U - kin), D'' = U (1 - k^(D/U)) / (1 - k)",
    label="SMS$(N,D,U)$",
    kinds={
        **dict.fromkeys(("E", "A", "B", "d"), "scale"),
        **{"alpha": "exponent", "beta": "exponent", "k": "share", "kd": "scale"},
        **dict.fromkeys(("kn", "ku", "kin"), "slope"),
    },
    needs=Needs(5, nothing_left("eleven"), runs=36, budgets=4, repeated=12, unique=3),
    floor="E",
)
