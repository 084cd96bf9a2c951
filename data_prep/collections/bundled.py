"""The music that ships with the music21 package, as MIDI files: a corpus without a download.

Public domain: Ryan's Mammoth Collection (1883), O'Neill's Music of Ireland (1850 tunes), Aird's
Airs (1778-1801) and all Bach chorales, in encodings that their makers gave to music21 (see its
corpus/license.txt). The Essen folk songs are there too, but licensed for non-commercial use: they
are only in the collection `music21_with_essen`.

ABC tunes become MIDI through the abc2midi that ships with symusic, scores through music21's own
MIDI writer. Each file is written atomically, so an interrupted collection resumes.
"""

import logging
import re
import subprocess
import tempfile
import unicodedata
from collections.abc import Callable
from functools import partial
from pathlib import Path

import symusic
from symusic import Score
from symusic.core import ScoreTick
from tqdm import tqdm

from ..storage.stages import worker_pool

ABC_COLLECTIONS = {"ryansMammoth": "ryan", "oneills1850": "oneill", "airdsAirs": "aird"}
ESSEN = {"essenFolksong": "essen"}

logger = logging.getLogger(__name__)


def collect(name: str, data_root: Path, workers: int | None = None) -> Path:
    """Writes the bundled collection as MIDI files and returns its folder.

    Args:
        name: `music21` (public domain) or `music21_with_essen` (non-commercial).
        data_root: The files go to `<data_root>/<name>/0_midi/<collection>/`.
        workers: Number of processes; all cores if None.
    """
    folder = data_root / name / "0_midi"
    done = folder / "complete.txt"
    if done.exists():
        return folder
    collections = ABC_COLLECTIONS | (ESSEN if name == "music21_with_essen" else {})
    jobs = _chorale_jobs(folder) + _abc_jobs(folder, collections)  # the slow ones first
    todo = [job for job in jobs if not job[0].exists()]
    for parent in {target.parent for target, _ in todo}:
        parent.mkdir(parents=True, exist_ok=True)
    failures = []
    with (
        tqdm(desc="collect MIDI", total=len(jobs), initial=len(jobs) - len(todo)) as progress,
        worker_pool(workers) as pool,
    ):
        futures = [pool.schedule(_run, args=[job]) for job in todo]
        for (target, _), future in zip(todo, futures, strict=True):
            if error := future.result():
                failures.append(f"{target.relative_to(folder)}\t{error}")
            progress.update()
    failures.sort()
    (folder / "failures.txt").write_text("".join(line + "\n" for line in failures))
    done.write_text(f"{len(jobs) - len(failures)} files, {len(failures)} failures\n")
    logger.info("collected %d MIDI files, %d failures", len(jobs) - len(failures), len(failures))
    return folder


def _run(job: tuple[Path, Callable[[], bytes]]) -> str | None:
    """Writes one file; returns an error message, or None on success."""
    target, convert = job
    try:
        midi = convert()
    except OSError:  # the disk, not the tune: collecting stops here and resumes later
        raise
    except Exception as error:  # music21 raises all kinds of errors; each is listed
        return f"{type(error).__name__}: {error}".splitlines()[0][:200]
    partial_file = target.with_suffix(".part")
    partial_file.write_bytes(midi)
    partial_file.rename(target)
    return None


# ---------------------------------------------------------------- ABC tunes


def _abc_jobs(folder: Path, collections: dict[str, str]) -> list[tuple[Path, Callable[[], bytes]]]:
    import music21  # here, because it takes a second

    jobs, corpus = [], Path(music21.__file__).parent / "corpus"
    for source, short in collections.items():
        for path in sorted((corpus / source).glob("*.abc")):
            for number, tune in enumerate(split_tunes(path.read_text("utf-8", "replace")), 1):
                target = folder / short / f"{_safe(path.stem)}_{number:03d}.mid"
                jobs.append((target, partial(abc_tune_to_midi, tune)))
    return jobs


def split_tunes(text: str) -> list[str]:
    """Splits an ABC tune book at its X: fields; drops the text before the first."""
    parts = re.split(r"^(?=X:)", text, flags=re.MULTILINE)
    return [part for part in parts if part.startswith("X:")]


def _safe(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9-]+", "_", plain)


def abc_tune_to_midi(tune: str) -> bytes:
    """Converts a foreign ABC tune with abc2midi, and corrects the pickup bar.

    abc2midi starts a tune with its pickup at time 0, which would shift every bar line of the MIDI.
    So the pickup's length is measured first, and silence is inserted before it to fill its bar.

    Raises:
        ValueError: If abc2midi writes no valid MIDI.
    """
    score = _abc2midi(tune)
    head = re.match(r"((?:[A-Za-z]:.*|%.*|\s*)\n)*", tune)[0]
    body = re.sub(r'"[^"\n]*"|![^!\n]*!|\[[A-Za-z]:[^\]\n]*\]', "", tune[len(head) :])
    first_bar = re.match(r"[\s|:\[]*([^|]*)", body)[1]
    if first_bar.strip() and score.time_signatures:
        meter = score.time_signatures[0]
        bar = score.tpq * 4 * meter.numerator // meter.denominator
        start = _abc2midi(f"{head}{first_bar}|\n")
        missing = bar - round(start.end() / score.tpq * 8) * score.tpq // 8
        if 0 < missing < bar:
            for track in score.tracks:  # tempo, meter and key stay where they are
                track.shift_time(missing, inplace=True)
    return score.dumps_midi()


def _abc2midi(tune: str) -> ScoreTick:
    binary = Path(symusic.__file__).parent / "bin" / "abc2midi"
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "tune.abc"), Path(folder, "tune.mid")
        source.write_text(tune, "utf-8")
        # Its exit code is meaningless (0 on garbage): success means that the file exists.
        subprocess.run(
            [binary, source, "-o", target], capture_output=True, timeout=20, check=False, cwd=folder
        )
        if not target.exists():
            raise ValueError("abc2midi wrote no MIDI")
        try:
            return Score.from_midi(target.read_bytes())
        except RuntimeError as error:
            raise ValueError(f"abc2midi wrote broken MIDI: {error}") from error


# ---------------------------------------------------------------- Bach chorales


def _chorale_jobs(folder: Path) -> list[tuple[Path, Callable[[], bytes]]]:
    from music21.corpus import chorales

    names = sorted(set(chorales.Iterator(returnType="filename")))
    return [
        (folder / "bach" / f"{_safe(Path(name).name)}.mid", partial(chorale_to_midi, name))
        for name in names
    ]


def chorale_to_midi(name: str) -> bytes:
    """Writes a score of music21's corpus as MIDI, and corrects the pickup bar.

    Args:
        name: Its name in music21, e.g. `bach/bwv269`.
    """
    from music21 import corpus
    from music21.midi.translate import music21ObjectToMidiFile

    piece = corpus.parse(name, forceSource=True)
    midi = Score.from_midi(music21ObjectToMidiFile(piece).writestr())
    first = piece.parts[0].getElementsByClass("Measure").first()
    missing = first.barDuration.quarterLength - first.duration.quarterLength
    if missing > 0:
        for track in midi.tracks:
            track.shift_time(round(missing * midi.tpq), inplace=True)
    return midi.dumps_midi()
