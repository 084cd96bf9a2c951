"""Distance between the statistics of generated and real tunes, and between real and real.

Conventions: a set is a list of rows of `music_statistics.describe_tune`. The real pieces are split
at random into halves A and B, many times. The generated set G and A are both compared with B, each
subsampled to the size of the smaller one, since all these distances depend on set size. A against B
is the floor: no model can be expected below it. Values are means over the splits, with percentiles
2.5 and 97.5 over splits, which show how much the draw of pieces matters; they are not confidence
intervals for other pieces.

`overlapping_area` and `kl_nats` per statistic follow Yang and Lerch 2020 (mgeval), section 3.3:
the densities of the distances |x - y| between pairs in B (intra-set) and between one piece of G and
one of B (inter-set), which are the same if G is like B. Here the densities share one bandwidth
(Scott's rule for as many values as B has pieces, not pairs), are mirrored at 0 and computed on a
grid.

`frechet_distance` covers all statistics of FRECHET together, in units of their deviation over all
real pieces: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), with covariances shrunk as in Ledoit and
Wolf 2004. It is a distance of these features, not the Frechet music distance (FMD) of learned ones.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

Rows = Sequence[Mapping[str, float | None]]

GRID = 512
LEAST_MASS = 1e-6  # lower bound for a grid cell in the logarithm of kl_nats
MIN_PIECES = 4  # per half
N_SPLITS = 20
SEED = 1
# statistics that are defined for every piece of a few bars
FRECHET = (
    "pitch_range",
    "n_pitch_classes",
    "pitch_class_entropy",
    "scale_consistency",
    "polyphony",
    "polyphony_rate",
    "empty_beat_rate",
    "empty_bar_rate",
    "groove_consistency",
    "bar_similarity_short",
    "bar_repeat_rate",
    "distinct_4bar",
    "rest_bar_rate",
    "notes_per_chord_mean",
    "notes_per_chord_p95",
)


def overlap_and_kl(values: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Overlapping area and Kullback-Leibler divergence of one statistic.

    Args:
        values: (n,) of the measured pieces.
        reference: (m,) of the pieces they are compared with; m >= 2.

    Returns:
        The area under both densities, 0 to 1 (1 if equal); and the divergence of the inter-set
        distances from the intra-set ones in nats, at least 0.
    """
    within = np.abs(reference[:, None] - reference)[np.triu_indices(len(reference), 1)]
    between = np.abs(values[:, None] - reference).ravel()
    width = max(within.max(), between.max()) / GRID or 1.0
    bandwidth = within.std() * len(reference) ** -0.2 / width  # in grid cells
    p, q = (_density(distances / width, bandwidth) for distances in (within, between))
    p_safe, q_safe = np.maximum(p, LEAST_MASS), np.maximum(q, LEAST_MASS)
    divergence = float((p * np.log(p_safe / q_safe)).sum())
    return float(np.minimum(p, q).sum()), max(0.0, divergence)


def _density(distances: np.ndarray, bandwidth: float) -> np.ndarray:
    """(2 GRID,) masses that sum to 1. distances: (n,) in grid cells, 0 to GRID."""
    counts = np.bincount(np.minimum(distances.astype(int), GRID - 1), minlength=2 * GRID)
    # mode reflect mirrors at 0; 2 GRID cells leave room for the right tail
    smooth = gaussian_filter1d(counts.astype(float), max(bandwidth, 0.5), mode="reflect")
    return smooth / smooth.sum()


def frechet_distance(values: np.ndarray, reference: np.ndarray) -> float:
    """Frechet distance of two normal distributions fitted to features, at least 0.

    Args:
        values: (n, F), n >= 2.
        reference: (m, F), m >= 2.

    Source: Dowson and Landau 1982.
    """
    first, second = shrunk_covariance(values), shrunk_covariance(reference)
    # S1 S2 has the eigenvalues of a symmetric matrix, so they are real and at least 0
    roots = np.sqrt(np.maximum(np.linalg.eigvals(first @ second).real, 0))
    apart = values.mean(0) - reference.mean(0)
    return max(0.0, float(apart @ apart + np.trace(first + second) - 2 * roots.sum()))


def shrunk_covariance(values: np.ndarray) -> np.ndarray:
    """Covariance of (n, F), shrunk toward a multiple of the identity, more for small n: (F, F).

    Source: Ledoit and Wolf 2004, lemma 3.2 to 3.4.
    """
    n, n_features = values.shape
    centred = values - values.mean(0)
    sample = centred.T @ centred / n
    target = np.trace(sample) / n_features * np.eye(n_features)
    spread = ((sample - target) ** 2).sum()
    # sum over pieces of |x x' - S|^2, without building n matrices
    noise = ((centred**2).sum(1) ** 2).sum() / n**2 - (sample**2).sum() / n
    share = min(1.0, noise / spread) if spread > 0 else 0.0
    return share * target + (1 - share) * sample


def table_of(rows: Rows, names: Sequence[str]) -> np.ndarray:
    """(n, F) float64, NaN where a statistic is undefined."""
    return np.array([[row.get(name) for name in names] for row in rows], dtype=float)


def compare_sets(generated: Rows, real: Rows) -> dict[str, Any]:
    """Distances of generated tunes to real ones, each with its floor.

    Args:
        generated: Statistics of a model's tunes.
        real: Statistics of held-out pieces.

    Returns:
        `frechet` with `frechet_distance`, and in `statistics` for each one `overlapping_area` and
        `kl_nats`: `value`, `floor` and their `difference`, as `mean` and `splits_95`; None if
        fewer than 4 generated or 8 real pieces have the statistic. Also `n_compared` pieces per
        set, and `n` and `n_undefined` of both sets.

    Raises:
        ValueError: If there are fewer than 4 generated or 8 real pieces.
    """
    if len(generated) < MIN_PIECES or len(real) < 2 * MIN_PIECES:
        raise ValueError(
            f"{len(generated)} generated and {len(real)} real readable pieces, expected at least "
            f"{MIN_PIECES} and {2 * MIN_PIECES}; sample more tunes"
        )
    per_statistic = {}
    for name in dict.fromkeys(name for row in real for name in row):
        sides = [table_of(rows, [name])[:, 0] for rows in (generated, real)]
        measured = ("overlapping_area", "kl_nats"), overlap_and_kl
        per_statistic[name] = _compare(*sides, *measured)
    sides = [table_of(rows, FRECHET) for rows in (generated, real)]
    complete = sides[1][~np.isnan(sides[1]).any(1)]
    deviation = complete.std(0) if len(complete) else np.ones(len(FRECHET))
    scale = np.where(deviation > 0, deviation, 1.0)
    measured = ("frechet_distance",), frechet_distance
    frechet = _compare(*(side / scale for side in sides), *measured)
    return {
        "settings": {"splits": N_SPLITS, "seed": SEED, "frechet_statistics": list(FRECHET)},
        "frechet": frechet,
        "statistics": per_statistic,
    }


def _compare(
    generated: np.ndarray,
    real: np.ndarray,
    names: Sequence[str],
    measure: Callable[[np.ndarray, np.ndarray], float | tuple[float, ...]],
) -> dict[str, Any]:
    """Distances over random halves; generated: (n,) or (n, F), real: (m,) or (m, F).

    Rows with NaN are skipped.
    """
    known, content = [], {}
    for side, rows in (("generated", generated), ("real", real)):
        known.append(rows[~np.isnan(rows.reshape(len(rows), -1)).any(1)])
        content[side] = {"n": len(known[-1]), "n_undefined": len(rows) - len(known[-1])}
    ours, theirs = known
    if len(ours) < MIN_PIECES or len(theirs) < 2 * MIN_PIECES:
        return content | dict.fromkeys(names)
    rng = np.random.default_rng(SEED)
    half = len(theirs) // 2
    size = min(half, len(ours))
    found = []
    for _ in range(N_SPLITS):
        order = rng.permutation(len(theirs))
        reference, other = theirs[order[half:]], theirs[order[:size]]
        drawn = ours[rng.choice(len(ours), size, replace=False)]
        found.append([measure(drawn, reference), measure(other, reference)])
    distances = np.array(found).reshape(N_SPLITS, 2, len(names))
    content |= {"n_compared": size}
    for number, name in enumerate(names):
        value, floor = distances[:, 0, number], distances[:, 1, number]
        sides = {"value": value, "floor": floor, "difference": value - floor}
        content[name] = {
            side: {"mean": float(of.mean()), "splits_95": np.percentile(of, (2.5, 97.5)).tolist()}
            for side, of in sides.items()
        }
    return content
