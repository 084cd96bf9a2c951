"""Near-duplicate clusters compared with labeled groups, and leakage of splits without them.

    python benchmarks/duplicates.py FOLDER_OR_ZIP [...] --index index.csv [--files 500] [--sweep]

The index gives, for each file (`archive`, `member`), its `near_duplicate_group` (empty: none) and
its `original_path`. Pairs are pairs of songs in one cluster, except exact copies.

    recall        marked pairs that are in one cluster     songs   marked songs with a song of
    precision     pairs in clusters that are marked                their group in their cluster
    same title    unmarked pairs whose file names, ignoring text in brackets, share a word of
                  at least four letters that occurs in at most 2 % of the names

Leakage: the validation songs with an exact copy, a song of their cluster, or a song of their marked
group in train. Files are split three ways: individually at random; by fingerprint, which keeps
exact copies together; by cluster.

Converted music is cached in runs/duplicates/, so that a second run only clusters.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import re
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pebble import ProcessExpired

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.collections.sources import Source, open_source
from data_prep.dialect.abc_to_midi import perform
from data_prep.dialect.tune_parser import parse_tune
from data_prep.midi.limits import MidiError
from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.selection.clean import clean_abc, fingerprint
from data_prep.selection.duplicates import DuplicateSettings, Sketches, clusters, sketch, top_lines
from data_prep.selection.split import SplitSettings, split_of
from data_prep.storage.code_identity import code_digest
from data_prep.storage.stages import worker_pool

CACHE = Path("runs/duplicates")
TIMEOUT_SECONDS = 60
SWEEP_NOTES = (8, 10, 12, 14, 16, 20)
SWEEP_THRESHOLDS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6)


@dataclass(frozen=True)
class Song:
    """A converted file.

    Attributes:
        name: Archive and member, as in the index.
        fingerprint: Equal for exact copies.
        lines: Its top lines; see `duplicates.top_lines`.
        group: Its marked group of near duplicates; "" if there is none.
        title: Its original path.
    """

    name: tuple[str, str]
    fingerprint: str
    lines: list[np.ndarray]
    group: str = ""
    title: str = ""


# ---------------------------------------------------------------- reading


def convert(midi: bytes) -> tuple[str, list[np.ndarray]] | None:
    """Returns the fingerprint and the top lines of a file; None if it cannot be converted."""
    try:
        abc = clean_abc(midi_to_abc(midi))
    except MidiError:
        return None
    if not abc:
        return None
    performance = perform(parse_tune(abc))
    return fingerprint(performance), top_lines(performance)


def read_songs(source: Source, workers: int) -> list[Song]:
    """Returns the songs of a source, from the cache if they are in it."""
    code = code_digest(midi_to_abc, clean_abc, parse_tune, perform, fingerprint, top_lines)
    path = CACHE / f"{source.name}-{code}.npz"
    if not path.exists():
        write_songs(path, list(_convert_all(source, workers)))
    with np.load(path) as cache:
        names, keys, n_lines = cache["names"], cache["fingerprints"], cache["n_lines"]
        lines = np.split(cache["pitches"].astype(np.int64), np.cumsum(cache["lengths"])[:-1])
    ends = np.cumsum(n_lines)
    archive = source.path.name
    return [
        Song((archive, str(name)), str(key), lines[end - count : end])
        for name, key, count, end in zip(names, keys, n_lines, ends, strict=True)
    ]


def _convert_all(source: Source, workers: int) -> Iterator[Song]:
    files = [pair for pair in source.read(source.members()) if isinstance(pair[1], bytes)]
    with worker_pool(workers) as pool:
        results = pool.map(convert, [midi for _, midi in files], timeout=TIMEOUT_SECONDS).result()
        for member, _ in files:
            try:
                music = next(results)
            except (FutureTimeoutError, ProcessExpired) as error:
                print(f"{member.name}: {error}", file=sys.stderr)
                continue
            if music:
                yield Song((source.path.name, member.name), *music)


def write_songs(path: Path, songs: Sequence[Song]) -> None:
    """Writes songs as plain arrays."""
    lines = [line for song in songs for line in song.lines]
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        names=np.array([song.name[1] for song in songs], dtype=str),
        fingerprints=np.array([song.fingerprint for song in songs], dtype=str),
        n_lines=np.array([len(song.lines) for song in songs]),
        lengths=np.array([len(line) for line in lines], dtype=np.int64),
        pitches=np.concatenate([np.empty(0, np.int8), *lines]).astype(np.int8),
    )


def with_index(songs: Sequence[Song], index: Path) -> list[Song]:
    """Returns the songs with their groups and titles."""
    with index.open(encoding="utf-8", newline="") as file:
        rows = {(row["archive"], row["member"]): row for row in csv.DictReader(file)}
    nothing = {"near_duplicate_group": "", "original_path": ""}
    found = [(song, rows.get(song.name, nothing)) for song in songs]
    return [
        replace(song, group=row["near_duplicate_group"], title=row["original_path"])
        for song, row in found
    ]


# ---------------------------------------------------------------- figures


def members(labels: Sequence[str]) -> list[list[int]]:
    """Returns the positions of each label that occurs more than once; "" is not a label."""
    places = defaultdict(list)
    for place, label in enumerate(labels):
        if label:
            places[label].append(place)
    return [found for found in places.values() if len(found) > 1]


def agreement(songs: Sequence[Song], cluster_ids: Sequence[str]) -> dict[str, float]:
    """Compares clusters with the marked groups; see the module docstring."""
    pairs = near_pairs(songs, cluster_ids)
    marked = [pair for pair in pairs if same_group(songs, pair)]
    total = found = in_groups = with_mate = 0
    for places in members([song.group for song in songs]):
        together = Counter(cluster_ids[place] for place in places)
        total += len(places) * (len(places) - 1) // 2
        found += sum(n * (n - 1) // 2 for n in together.values())
        in_groups += len(places)
        with_mate += sum(n for n in together.values() if n > 1)
    sizes = sorted(map(len, members(cluster_ids)), reverse=True)
    return {
        "marked_pairs": total,
        "recall": found / max(1, total),
        "songs": with_mate / max(1, in_groups),
        "pairs": len(pairs),
        "precision": len(marked) / max(1, len(pairs)),
        "clusters": len(sizes),
        "songs_in_clusters": sum(sizes),
        "largest": sizes[0] if sizes else 0,
    }


def near_pairs(songs: Sequence[Song], cluster_ids: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the pairs of songs in one cluster that are not exact copies."""
    pairs = (pair for places in members(cluster_ids) for pair in combinations(places, 2))
    return [(a, b) for a, b in pairs if songs[a].fingerprint != songs[b].fingerprint]


def same_group(songs: Sequence[Song], pair: tuple[int, int]) -> bool:
    """Whether both songs are in the same marked group."""
    return songs[pair[0]].group != "" and songs[pair[0]].group == songs[pair[1]].group


def audit(songs: Sequence[Song], cluster_ids: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """Returns the unmarked pairs of the clusters in random order, with evidence to judge them."""
    words = [_words(song.title) for song in songs]
    often = Counter(word for found in words for word in found)
    allowed = max(2, 0.02 * len(songs))
    rare = [{word for word in found if often[word] <= allowed} for found in words]
    pairs = [pair for pair in near_pairs(songs, cluster_ids) if not same_group(songs, pair)]
    random.Random(seed).shuffle(pairs)
    whole = DuplicateSettings(sample=1)
    return [
        {
            "titles": [songs[a].title, songs[b].title],
            "same_title": bool(rare[a] & rare[b]),
            "share": figure_share(songs[a], songs[b], whole),
        }
        for a, b in pairs
    ]


def _words(path: str) -> set[str]:
    stem = re.sub(r"\(.*?\)", "", Path(path).stem)  # brackets often name the game or film
    stem = re.sub(r"([a-z])([A-Z])", r"\1 \2", stem)
    return set(re.findall(r"[^\W\d_]{4,}", stem.lower()))


def figure_share(left: Song, right: Song, settings: DuplicateSettings) -> float:
    """Returns the larger of the shares of each song's figures that are in the other song."""
    one, other = sketch(left.lines, settings), sketch(right.lines, settings)
    shares = [
        np.isin(mine[mine % 2 == 0] >> 1, theirs >> 1).mean()
        for mine, theirs in ((one, other), (other, one))
        if (mine % 2 == 0).any()
    ]
    return float(max(shares, default=0.0))


def leakage(songs: Sequence[Song], cluster_ids: Sequence[str], seed: int) -> dict[str, Any]:
    """Returns, for each way to split, the number of validation songs with a duplicate in train."""
    shares = SplitSettings()
    draw = random.Random(seed)
    random_keys = [str(draw.random()) for _ in songs]
    fingerprints = [song.fingerprint for song in songs]
    labels = {
        "exact": fingerprints,
        "near": cluster_ids,
        "marked": [song.group for song in songs],
    }
    ways = {"file": random_keys, "fingerprint": fingerprints, "cluster": cluster_ids}
    table = {}
    for way, keys in ways.items():
        where = [split_of(key, shares) for key in keys]
        row = {"validation_songs": where.count("validation")}
        for name, label in labels.items():
            train = {one for one, split in zip(label, where, strict=True) if split == "train"}
            row[name] = sum(
                split == "validation" and one != "" and one in train
                for one, split in zip(label, where, strict=True)
            )
        table[way] = row
    return table


# ---------------------------------------------------------------- the run


def cluster(songs: Sequence[Song], settings: DuplicateSettings) -> tuple[list[str], dict]:
    """Returns the clusters, the seconds for sketches and clusters, and the figures per song."""
    start = time.perf_counter()
    sketches = [sketch(song.lines, settings) for song in songs]
    sketched = time.perf_counter()
    ids = clusters(Sketches.of(sketches), [song.fingerprint for song in songs], settings)
    figures = sum(map(len, sketches)) / max(1, len(songs))
    seconds = {"sketches": sketched - start, "clusters": time.perf_counter() - sketched}
    return ids, {"seconds": seconds, "figures_a_song": figures}


def sweep(songs: Sequence[Song]) -> list[dict[str, Any]]:
    """Returns the agreement for several figure lengths and thresholds."""
    rows = []
    for notes in SWEEP_NOTES:
        for threshold in SWEEP_THRESHOLDS:
            settings = DuplicateSettings(figure_notes=notes, threshold=threshold)
            ids, _ = cluster(songs, settings)
            row = {"figure_notes": notes, "threshold": threshold, **agreement(songs, ids)}
            rows.append(row)
            print("  ".join(f"{name} {_short(value)}" for name, value in row.items()))
    return rows


def _short(value: float) -> str:
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}"


def main() -> None:
    """Print all figures and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="+", metavar="FOLDER_OR_ZIP")
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--files", type=int, default=0, help="number to draw; 0 for all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--sweep", action="store_true", help="try other figures, thresholds")
    parser.add_argument("--show", type=int, default=60, help="number of unmarked pairs to print")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmark_duplicates.json"))
    options = parser.parse_args()
    sources = [open_source(source, Path("data")) for source in options.sources]
    songs = [song for source in sources for song in read_songs(source, options.workers)]
    random.Random(options.seed).shuffle(songs)
    songs = with_index(songs[: options.files or None], options.index)
    settings = DuplicateSettings()
    ids, cost = cluster(songs, settings)
    result: dict[str, Any] = {"n_songs": len(songs), "settings": asdict(settings), **cost}
    result["agreement"] = agreement(songs, ids)
    unmarked = audit(songs, ids, options.seed)
    result["unmarked_pairs"] = {
        "n": len(unmarked),
        "same_title": sum(pair["same_title"] for pair in unmarked),
        "share_at_least_half": sum(pair["share"] >= 0.5 for pair in unmarked),
        "either": sum(pair["same_title"] or pair["share"] >= 0.5 for pair in unmarked),
    }
    result["leakage"] = leakage(songs, ids, options.seed)
    for name, value in result.items():
        print(f"{name}: {json.dumps(value)}")
    for pair in unmarked[: options.show]:
        same = "same title" if pair["same_title"] else ""
        print(f"{pair['share']:.2f} {same:10} {pair['titles'][0]}  |  {pair['titles'][1]}")
    if options.sweep:
        result["sweep"] = sweep(songs)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"-> {options.out}")


if __name__ == "__main__":
    main()
