"""The best size at a budget from runs at equal FLOPs, without a law of the loss.

It is the minimum of a parabola through the runs around the best one. The slope of a line through
such optima in log-log, the exponent of N_opt ~ C^a, is biased if the two exponents of a law
differ, so fits.json quotes the exponent of a fitted law. Source: Hoffmann et al. 2022, approach 2;
Porian et al. 2024 (arXiv 2406.19146).
N parameters, C FLOPs; n runs of one budget.
"""

import numpy as np

PARABOLA_RUNS = 5


def parabola_optimum(log_n: np.ndarray, loss: np.ndarray) -> float | None:
    """Log N at the minimum of a parabola through five runs around the best; log_n, loss: (n,).

    Returns:
        None with fewer runs, or if the parabola has no minimum.
    """
    if len(log_n) < PARABOLA_RUNS:
        return None
    order = np.argsort(log_n)
    half = PARABOLA_RUNS // 2
    middle = int(np.clip(np.argmin(loss[order]), half, len(order) - half - 1))
    around = order[middle - half : middle + half + 1]
    bend, slope, _ = np.polyfit(log_n[around], loss[around], 2)
    return None if bend <= 0 else float(-slope / (2 * bend))
