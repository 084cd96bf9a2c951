"""Runs the stages 1 to 6: music -> blocks of token ids, under data/<dataset>/<preset>/.

    python -m data_prep.pipeline SOURCE [SOURCE ...] --config configs/data/char.yaml

Each stage is saved with its counts in stage.json.
"""

import argparse
import json
import logging
import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .collections.members import SourceError
from .collections.passed_over import told
from .collections.sources import RESERVED, Source, open_source
from .convert import Conversion, convert_collection, recorded_paths, write_summary
from .selection.split import SPLITS
from .storage.claims import lock
from .storage.drop_reasons import counted, reasons_help
from .storage.explain import command
from .storage.stages import measure_resources, read_stage, write_json

if TYPE_CHECKING:
    from .settings import DataSettings

logger = logging.getLogger(__name__)


def run_pipeline(
    sources: list[Source], settings: "DataSettings", folder: Path, workers: int | None = None
) -> dict[str, Any]:
    """Runs all stages; skips those that are done and unchanged.

    Args:
        sources: The music.
        settings: The data preset.
        folder: `data/<dataset>/<preset>`.
        workers: Number of processes; all cores if None.

    Returns:
        Stage name -> content of its stage.json.

    Raises:
        ValueError: If a stage has nothing left to work on, or another process is writing to the
            folder: its unfinished files would be taken for those of a killed one.
    """
    # imported here: datasets and transformers take seconds, and each worker imports this file
    import datasets

    from .corpus import CorpusStages

    datasets.disable_caching()
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder):
        _link_shards(folder)
        converted = convert_collection(sources, folder / "1_abc", workers=workers)
        summary = write_summary(folder / "1_abc", converted, Conversion.layout)
        corpus = CorpusStages(settings, folder, converted.shards, summary, workers)
        if converted.n_files:
            corpus.measured["1_abc"] = measure_resources(converted.seconds, workers)
        stages = corpus.run()
        if corpus.measured:  # a separate file: it describes the machine, stage.json the data
            file = folder / "measured.json"
            before = json.loads(file.read_text("utf-8")) if file.exists() else {}
            write_json(file, before | corpus.measured)
    return stages


def _link_shards(folder: Path) -> None:
    """Links the shards of other presets of the dataset: presets share conversions.

    A shard's name contains a digest of its input; the conversion deletes those it does not need, as
    always.
    """
    ours = folder / "1_abc"
    if ours.exists():
        return
    for shard in sorted(folder.parent.glob("*/1_abc/part-*.parquet")):
        ours.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # the link exists, or the disk has no links: convert it
            os.link(shard, ours / shard.name)


# ---------------------------------------------------------------- command line


@command(ValueError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="data_prep.pipeline",
        description=__doc__,
        epilog=reasons_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="as in data_prep.convert: folder, .zip, hf://datasets/...",
    )
    parser.add_argument("--config", type=Path, default=Path("configs/data/char.yaml"))
    parser.add_argument("--dataset", help="folder under data/; default: the sources' names")
    parser.add_argument(
        "--keep-latest", action="store_true", help="do not make it the default dataset of configs"
    )
    parser.add_argument(
        "--folder", action="store_true", help="print only the folder; the counts go to stderr"
    )
    parser.add_argument("--model", help="for a preset with `tokenizer: model`: folder or Hub name")
    parser.add_argument("--data-root", type=Path, default=Path("data"))
    parser.add_argument("--workers", type=int)
    options = parser.parse_args(arguments)
    # imported here, as in run_pipeline: slow, and not needed to parse the command line
    from .model_tokens import take_from_model, unknown_tokens
    from .settings import load_settings

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    preset = options.config.stem.removeprefix("data_")
    settings = take_from_model(load_settings(options.config), options.model)
    sources, dataset = open_sources(options.sources, options.data_root, options.dataset)
    folder = options.data_root / dataset / preset
    _warn_of_other_sources(sources, folder)
    stages = run_pipeline(sources, settings, folder, options.workers)
    if not (options.keep_latest and (options.data_root / "latest").exists()):
        _point_latest(options.data_root, dataset)
    if options.model and (warning := unknown_tokens(stages["5_tokens"]["splits"].values())):
        logger.warning(warning)
    print(summary(stages, folder), file=sys.stderr if options.folder else sys.stdout)
    if options.folder:
        print(folder)
    return 0


def open_sources(
    names: list[str], data_root: Path, dataset: str | None
) -> tuple[list[Source], str]:
    """Opens sources by path or name, see `sources.open_source`.

    Args:
        names: Of one or more sources.
        data_root: The folder `data/`.
        dataset: Name of the dataset; by default those of the sources.

    Returns:
        The sources, and the name of the dataset that they make.

    Raises:
        SourceError: If one does not exist, or the name is reserved.
    """
    if len(names) == 1:
        source = open_source(names[0], data_root, dataset)
        return [source], source.name
    if dataset in RESERVED:
        raise SourceError(f"--dataset {dataset} is a reserved name; give another one")
    # each keeps its own name, which orders its rows: the dataset may be called anything
    sources = [open_source(name, data_root) for name in names]
    return sources, dataset or "+".join(source.name for source in sources)


def _warn_of_other_sources(sources: list[Source], folder: Path) -> None:
    before, now = (read_stage(folder / "1_abc") or {}).get("sources"), recorded_paths(sources)
    if before and before != now:
        logger.warning(
            '%s was made from %s and is now remade from %s; to keep both: ARGS="--dataset <name>"',
            folder,
            ", ".join(before),
            ", ".join(now),
        )


def _point_latest(root: Path, dataset: str) -> None:
    """Points `data/latest` at the dataset made last: configs train on it by default."""
    fresh = root / ".latest"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(dataset, target_is_directory=True)
    fresh.replace(root / "latest")


def summary(stages: dict[str, dict[str, Any]], folder: Path) -> str:
    """Returns the counts of all stages in a few lines."""
    kept, blocks = stages["3_filtered"], stages["6_blocks"]
    dropped: Counter[str] = Counter()
    for name in ("1_abc", "2_clean", "3_filtered"):
        dropped.update(stages[name]["dropped"])
    lines = [
        f"{folder}",
        f"  {stages['1_abc']['rows_in']:,} files -> {kept['rows_out']:,} tunes; "
        f"dropped: {counted(dropped)}",
    ]
    if passed_over := told(stages["1_abc"]["passed_over"]):
        lines.append(f"  {passed_over}")
    for split in SPLITS:
        counts = stages["5_tokens"]["splits"][split]
        lines.append(
            f"  {split}: {counts['n_songs']:,} tunes, {counts['n_tokens']:,} tokens, "
            f"{counts['n_notes']:,} notes, {counts['n_seconds'] / 3600:,.1f} hours"
        )
    lines.append(
        f"  {blocks['n_blocks']:,} blocks of {blocks['block_length']} tokens, "
        f"vocabulary {blocks['vocab_size']}"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
