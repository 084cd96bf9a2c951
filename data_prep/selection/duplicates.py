"""Near-duplicate clusters: a song, its other arrangements and its edits are one cluster.

What two MIDI files of a song share are melodic figures: runs of `figure_notes` notes, identified by
their intervals, so that key, tempo, quantization, instruments and drums do not matter. They are
taken from the top line of each voice, and from the top line of the whole tune, since one file may
have in one track what another has in many. Figures with few different pitches (repeated notes,
trills) and figures that occur in many tunes (scales, accompaniment patterns) do not distinguish
songs and are left out. A tune is joined to any tune that has a given share of its figures: this
finds an excerpt, or a song in a medley, which the Jaccard index would miss.

Only figures whose hash is below a threshold are kept, the same ones in every tune (FracMinHash:
Irber et al. 2022): the sketch grows with the tune, so that shares can also be estimated for a short
tune in a long one, where signatures of fixed length (datasketch, rensa) have next to nothing to
compare. All pairs that share figures come from one sparse matrix product, so no LSH bands are
needed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

from ..dialect.abc_to_midi import Performance

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, for the polynomial over a figure's intervals
_PITCHES = 128
_FIGURES = 2**31  # range of a figure's number; the lowest bit of a sketch's entry is its place
_ROWS_AT_ONCE = 512
_VALUES_AT_ONCE = 2**20
_RANGES = 64  # ranges of figures, sorted one at a time


@dataclass(frozen=True)
class DuplicateSettings:
    """When two tunes are the same song.

    Attributes:
        figure_notes: Notes per melodic figure.
        min_pitches: Figures with fewer different pitches are left out.
        sample: One in this many figures is kept.
        max_songs: Figures that occur in more tunes are left out.
        min_shared: Minimum number of sampled figures that two joined tunes share.
        threshold: Minimum share of the sampled figures of one tune that the other has, in (0, 1].
        max_cluster: In larger clusters, chained together by chance, only closer tunes stay joined.
    """

    figure_notes: int = 16
    min_pitches: int = 4
    sample: int = 2
    max_songs: int = 100
    min_shared: int = 8
    threshold: float = 0.4
    max_cluster: int = 300

    def __post_init__(self) -> None:
        least = {"figure_notes": 3, "min_pitches": 1, "sample": 1, "max_songs": 2}
        least |= {"min_shared": 1, "max_cluster": 2}
        wrong = [name for name, value in least.items() if getattr(self, name) < value]
        if wrong or not 0 < self.threshold <= 1:
            raise ValueError(f"{self}: expected at least {least}, and a threshold in (0, 1]")


# ---------------------------------------------------------------- one tune


def signature(performance: Performance, settings: DuplicateSettings) -> np.ndarray:
    """Returns the sketch of a tune: its sampled figures.

    Returns:
        (S,) uint32, ascending, one entry per different figure: twice its number, plus one if it
        occurs only in the top line of the whole tune. Empty if there is no figure.
    """
    return sketch(top_lines(performance), settings)


def top_lines(performance: Performance) -> list[np.ndarray]:
    """Returns the highest note of each onset, without drums.

    Returns:
        Pitches (n,), int64, in order of time: first of the whole tune, then of each voice.
    """
    voices = []
    for voice, chords in zip(performance.tune.voices, performance.voices, strict=True):
        if not voice.is_drums and chords:
            # One number for onset and pitch: sorted, the highest pitch of an onset comes first.
            keys = [onset * _PITCHES + _PITCHES - 1 - pitches[-1] for onset, _, pitches in chords]
            voices.append(np.array(keys, np.int64))
    if not voices:
        return []
    return [_top_pitches(np.sort(keys)) for keys in (np.concatenate(voices), *voices)]


def _top_pitches(keys: np.ndarray) -> np.ndarray:
    """Returns the pitch of the first key of each onset; `keys`: (n,) ascending."""
    first = np.diff(keys // _PITCHES, prepend=-1) > 0
    return _PITCHES - 1 - keys[first] % _PITCHES


def sketch(lines: Sequence[np.ndarray], settings: DuplicateSettings) -> np.ndarray:
    """Returns the sampled figures of a tune's top lines; see `top_lines` and `signature`."""
    if not lines:
        return np.empty(0, np.uint32)
    tune = _figures(lines[:1], settings)
    voices = _figures(lines[1:], settings)
    tune = np.setdiff1d(tune, voices, assume_unique=True)
    return np.sort(np.concatenate([2 * voices, 2 * tune + 1]).astype(np.uint32))


def _figures(lines: Sequence[np.ndarray], settings: DuplicateSettings) -> np.ndarray:
    """Returns the numbers of the distinct sampled figures: (S,) uint64."""
    n = settings.figure_notes
    lines = [line for line in lines if len(line) >= n]
    if not lines:
        return np.empty(0, np.uint64)
    pitches = np.concatenate(lines)  # (P,)
    n_windows = len(pitches) - n + 1
    inside = np.ones(n_windows, bool)
    for end in np.cumsum([len(line) for line in lines])[:-1]:
        inside[end - n + 1 : end] = False  # windows across the end of a line are not figures
    intervals = np.diff(pitches).astype(np.uint64)  # (P - 1,), modulo 2**64
    bits = np.uint64(1) << (pitches % 64).astype(np.uint64)
    hashes = np.zeros(n_windows, np.uint64)
    heard = bits[:n_windows].copy()
    for place in range(n - 1):
        hashes = (hashes + intervals[place : place + n_windows]) * _MULTIPLIER
        heard |= bits[place + 1 : place + 1 + n_windows]
    rich = np.bitwise_count(heard) >= settings.min_pitches
    numbers = _mixed(hashes[inside & rich]) % np.uint64(_FIGURES)
    return np.unique(numbers[numbers < _FIGURES // settings.sample])


def _mixed(values: np.ndarray) -> np.ndarray:
    """Mixes every bit into all others; the finalizer of splitmix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


# ---------------------------------------------------------------- all tunes


@dataclass(frozen=True)
class Sketches:
    """The sketches of T tunes, concatenated.

    Attributes:
        entries: (S,) uint32, as `signature` returns them.
        ends: (T + 1,) int64, from 0: where each tune's entries begin and end.
    """

    entries: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, signatures: Sequence[np.ndarray]) -> "Sketches":
        """Concatenates the sketches of single tunes."""
        entries = np.concatenate([np.empty(0, np.uint32), *signatures])
        return cls(entries, np.cumsum([0, *map(len, signatures)]))

    def __len__(self) -> int:
        return len(self.ends) - 1


def clusters(
    sketches: Sketches, exact_keys: Sequence[str], settings: DuplicateSettings
) -> list[str]:
    """Returns the cluster of each tune: the smallest exact key of its members.

    Tunes of one exact key are always in one cluster. The result does not depend on the order of
    the tunes.

    Args:
        sketches: Sketches of T tunes, made with the same settings.
        exact_keys: T digests of the music, such as `clean.fingerprint`.
        settings: When two tunes are the same song.
    """
    if len(sketches) != len(exact_keys):
        raise ValueError(
            f"{len(sketches)} sketches and {len(exact_keys)} exact keys, expected one each"
        )
    if not len(sketches):
        return []
    keys, key = np.unique(np.array(exact_keys, dtype=str), return_inverse=True)
    links, shares = near_links(sketches, settings)
    component = _components(key[links], shares, len(keys), settings.max_cluster)
    # Keys ascend, so the first key of a component is its smallest.
    _, first = np.unique(component, return_index=True)
    return keys[first[component[key]]].tolist()


def _components(
    links: np.ndarray, shares: np.ndarray, n_nodes: int, max_cluster: int
) -> np.ndarray:
    """Returns the component of each node, numbered from 0; oversized ones lose their weak links.

    Args:
        links: (2, E) nodes.
        shares: (E,) how close they are, in (0, 1].
        n_nodes: Total number of nodes.
        max_cluster: Above this size, the minimum share of links is raised step by step, up to 0.95,
            where a component stays as large as it is.
    """
    bounds = np.zeros(n_nodes)  # minimum share of a node's links
    while True:
        kept = links[:, shares >= bounds[links].max(axis=0)]
        ones = np.ones(kept.shape[1], np.int8)
        graph = coo_array((ones, (kept[0], kept[1])), shape=(n_nodes, n_nodes))
        _, component = connected_components(graph, directed=False)
        large = (np.bincount(component) > max_cluster)[component] & (bounds < 0.95)
        if not large.any():
            return component
        bounds[large] += 0.05


def near_links(sketches: Sketches, settings: DuplicateSettings) -> tuple[np.ndarray, np.ndarray]:
    """Finds, for each tune, the tunes that have enough of the figures of its voices.

    Returns:
        (2, E) the tune and the other tune, and (E,) the share of its figures that the other has.
    """
    everywhere, in_voices, sizes = _figure_tables(sketches, settings.max_songs)
    columns = everywhere.T.tocsr()
    links, shares = [np.empty((2, 0), np.int64)], [np.empty(0)]
    for start in range(0, len(sizes), _ROWS_AT_ONCE):
        shared = (in_voices[start : start + _ROWS_AT_ONCE] @ columns).tocoo()
        tune, other = shared.coords[0].astype(np.int64) + start, shared.coords[1]
        share = shared.data / sizes[tune]
        near = (share >= settings.threshold) & (shared.data >= settings.min_shared)
        near &= tune != other
        links.append(np.stack([tune[near], other[near]]))
        shares.append(share[near])
    return np.concatenate(links, axis=1), np.concatenate(shares)


def _figure_tables(sketches: Sketches, max_songs: int) -> tuple[csr_array, csr_array, np.ndarray]:
    """Returns which of T tunes has which of the F figures that occur in 2 to `max_songs` tunes.

    Most figures occur in only one tune. They are removed one range of figures at a time, so that
    besides the sketches only the remaining ones need memory.

    Returns:
        (T, F) with 1 for each figure of a tune, (T, F) for those of its voices only, and (T,) the
        number of figures of its voices, including those that no other tune has.
    """
    n_tunes = len(sketches)
    sizes = np.zeros(n_tunes, np.int64)
    columns, tunes, in_voices, n_figures = [], [], [], 0
    end = int(sketches.entries.max(initial=0)) + 1
    # even bounds, since a figure has two entries
    bounds = np.linspace(0, end + end % 2, _RANGES + 1).astype(np.uint64) // 2 * 2
    for low, high in itertools.pairwise(bounds):
        places = _places_between(sketches.entries, low, high)
        entries = sketches.entries[places]
        tune = (np.searchsorted(sketches.ends, places, side="right") - 1).astype(np.int32)
        _, figure, counts = np.unique(entries >> 1, return_inverse=True, return_counts=True)
        of_voice = entries % 2 == 0
        sizes += np.bincount(tune[of_voice & (counts <= max_songs)[figure]], minlength=n_tunes)
        is_shared = (counts > 1) & (counts <= max_songs)
        kept = is_shared[figure]
        number = np.cumsum(is_shared) - 1 + n_figures
        columns.append(number[figure[kept]].astype(np.int32))
        tunes.append(tune[kept])
        in_voices.append(of_voice[kept])
        n_figures += int(is_shared.sum())
    shape = (n_tunes, n_figures)
    tune, column, of_voice = map(np.concatenate, (tunes, columns, in_voices))
    everywhere = _table(tune, column, shape)
    return everywhere, _table(tune[of_voice], column[of_voice], shape), sizes


def _places_between(entries: np.ndarray, low: np.uint64, high: np.uint64) -> np.ndarray:
    """Returns the indices of entries in [low, high), (P,) ascending."""
    found = []
    for start in range(0, len(entries), _VALUES_AT_ONCE):  # a part at a time, to save memory
        part = entries[start : start + _VALUES_AT_ONCE]
        found.append(np.flatnonzero((part >= low) & (part < high)) + start)
    return np.concatenate([np.empty(0, np.int64), *found])


def _table(tune: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> csr_array:
    return coo_array((np.ones(len(tune), np.int32), (tune, column)), shape=shape).tocsr()
