"""Whether a tune is coherent: voices that drift apart or change role, key and meter kept.

Conventions as in music_statistics.py.
"""

from itertools import combinations

import numpy as np
from scipy.stats import wasserstein_distance

from .musical_piece import END, MIN_NOTES, ONSET, PITCH, VOICE, Piece, Statistic, pitch_classes

# Krumhansl and Kessler 1982: how well each semitone, from the tonic up, fits a key
MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


def _halves(piece: Piece) -> tuple[tuple[int, int], tuple[int, int]]:
    """First bar and the bar after the last, for both halves."""
    middle = piece.n_bars // 2
    return (0, middle), (middle, piece.n_bars)


def _alignment(piece: Piece, bars: tuple[int, int]) -> float | None:
    """`onset_alignment` of a range of bars."""
    bar = piece.bar_of(piece.onsets[:, 1])
    here = (bar >= bars[0]) & (bar < bars[1])
    voices, onsets = piece.onsets[here].T
    pairs = np.unique(np.stack([bar[here], voices]), axis=1)  # (2, n)
    shared = np.bincount(pairs[0], minlength=piece.n_bars)[bar[here]] > 1
    voices, onsets = voices[shared], onsets[shared]
    _, place, count = np.unique(onsets, return_inverse=True, return_counts=True)
    together = count[place] > 1
    shares = [together[voices == voice].mean() for voice in np.unique(voices)]
    return float(np.mean(shares)) if shares else None


def onset_alignment(piece: Piece) -> float | None:
    """Share of a voice's onsets at which another voice begins a note too; mean over voices, 0 to 1.

    Drums are a voice here. Only bars in which at least two voices begin notes count; None if there
    are none.
    """
    return _alignment(piece, (0, piece.n_bars))


def alignment_drift(piece: Piece) -> float | None:
    """`onset_alignment` of the first half minus that of the second, -1 to 1.

    Above 0 if voices drift apart (a failure seen in study A); None if it is undefined in a half.
    """
    first, second = (_alignment(piece, half) for half in _halves(piece))
    return None if first is None or second is None else first - second


def _voice_halves(piece: Piece) -> list[tuple[np.ndarray, np.ndarray]]:
    """The notes of both halves of each voice with at least MIN_NOTES in both: (n, 4), (m, 4)."""
    found = []
    for voice in np.unique(piece.notes[:, VOICE]):
        own, bars = piece.notes[:, VOICE] == voice, piece.note_bars
        first, second = (piece.notes[own & (bars >= a) & (bars < b)] for a, b in _halves(piece))
        if min(len(first), len(second)) >= MIN_NOTES:
            found.append((first, second))
    return found


def register_shift(piece: Piece) -> float | None:
    """How far the pitches of a voice move from the first half to the second, in semitones.

    The earth mover's distance between both histograms, mean over voices with at least 8 notes in
    each half; None if there are none. Large if voices change role (a failure seen in study A).
    """
    halves = _voice_halves(piece)
    moves = [wasserstein_distance(a[:, PITCH], b[:, PITCH]) for a, b in halves]
    return float(np.mean(moves)) if moves else None


def rhythm_shift(piece: Piece) -> float | None:
    """How far the note lengths of a voice change from the first half to the second, 0 to 1.

    Total variation distance between both histograms of lengths; voices as in `register_shift`.
    """
    changes = []
    for halves in _voice_halves(piece):
        lengths = [half[:, END] - half[:, ONSET] for half in halves]
        _, place = np.unique(np.concatenate(lengths), return_inverse=True)
        parts = np.split(place, [len(lengths[0])])
        first, second = (np.bincount(p, minlength=place.max() + 1) / len(p) for p in parts)
        changes.append(np.abs(first - second).sum() / 2)
    return float(np.mean(changes)) if changes else None


def role_swap_rate(piece: Piece) -> float | None:
    """Share of voice pairs whose order by mean pitch is swapped from one half to the other.

    Voices as in `register_shift`; None if there are fewer than two.
    """
    means = [[half[:, PITCH].mean() for half in halves] for halves in _voice_halves(piece)]
    swaps = [(a[0] - b[0]) * (a[1] - b[1]) < 0 for a, b in combinations(means, 2)]
    return float(np.mean(swaps)) if swaps else None


def first_meter_share(piece: Piece) -> float | None:
    """Share of bars in the meter of the first bar; None without bars."""
    if not piece.n_bars:
        return None
    changes = sorted(bar for bar in piece.tune.meters if bar < piece.n_bars)
    lengths = np.diff([*changes, piece.n_bars])
    first = [piece.tune.meters[bar] == piece.tune.meters[0] for bar in changes]
    return float(lengths[first].sum() / piece.n_bars)


def estimate_key(notes: np.ndarray) -> tuple[int, str] | None:
    """Tonic (0 is C) and mode of notes (N, 4); None if all pitch classes have equal weight.

    The key whose profile correlates best with the total duration of each pitch class.
    Source: Krumhansl 1990, chapter 4, with the profiles of Krumhansl and Kessler 1982.
    """
    weights = pitch_classes(notes, notes[:, END] - notes[:, ONSET])
    if not np.ptp(weights):
        return None
    fits = {
        (tonic, mode): np.corrcoef(np.roll(profile, tonic), weights)[0, 1]
        for mode, profile in (("major", MAJOR_PROFILE), ("minor", MINOR_PROFILE))
        for tonic in range(12)
    }
    return max(fits, key=fits.__getitem__)


def key_kept(piece: Piece) -> float | None:
    """1 if `estimate_key` gives the same key for the first and last third of the bars, else 0.

    None if a third has fewer than 8 notes. Real pieces modulate, and the relative key is a common
    error of the estimate: compare it with held-out pieces.
    """
    third, bars = piece.n_bars // 3, piece.note_bars
    ends = [piece.notes[bars < third], piece.notes[bars >= piece.n_bars - third]]
    if min(map(len, ends)) < MIN_NOTES:
        return None
    first, last = map(estimate_key, ends)
    return None if first is None or last is None else float(first == last)


OF_FORM: tuple[Statistic, ...] = (
    *(onset_alignment, alignment_drift, register_shift, rhythm_shift, role_swap_rate),
    *(first_meter_share, key_kept),
)
