"""Does the automaton accept every tune of a corpus? Checks everything the converter wrote.

    python benchmarks/grammar_corpus.py data/dev/char [--out FILE]

It reads the tunes of 1_abc, as they came from the converter, before cleaning and filtering, with
the limits of the dialect. It also counts those within the limits of generation. Exit status 1 if a
tune of the dialect is rejected, 2 if there are no tunes.
"""

import argparse
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from modeling.grammar_abc_limits import DIALECT, GENERATION
from modeling.grammar_abc_tune import TuneGrammar

SHOWN = 20


def refused(grammar: TuneGrammar, text: str) -> str | None:
    """Why a grammar rejects a whole tune; None if it accepts it."""
    try:
        return None if grammar.read(text).is_end else "no end of a tune"
    except ValueError as error:
        return str(error)


def measure(folder: Path) -> dict[str, Any]:
    """Counts over all tunes of a corpus."""
    dialect, generation = TuneGrammar(DIALECT), TuneGrammar(GENERATION)
    counts: Counter[str] = Counter()
    refusals = []
    files = sorted((folder / "1_abc").glob("*.parquet"))
    start = time.process_time()
    for file in tqdm(files, "corpus", unit="part"):
        for abc in pq.read_table(file, columns=["abc"])["abc"].to_pylist():
            if not abc:
                continue  # a file that was not converted
            counts["tunes"] += 1
            counts["characters"] += len(abc)
            if reason := refused(dialect, abc):
                refusals.append(reason)
            counts["within_limits_of_generation"] += refused(generation, abc) is None
    return {
        "corpus": folder.name,
        **counts,
        "refused": len(refusals),
        "refusals": refusals[:SHOWN],
        "cpu_seconds": time.process_time() - start,
    }


def main(arguments: list[str] | None = None) -> int:
    """Print the counts and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="data/<dataset>/<preset>")
    parser.add_argument("--out", type=Path, default=Path("results/grammar_corpus.json"))
    options = parser.parse_args(arguments)
    content = measure(options.folder)
    if not content.get("tunes"):
        print(
            f"error: no tunes in {options.folder / '1_abc'}; expected a dataset, "
            f"data/<dataset>/<preset>; {options.out} is unchanged",
            file=sys.stderr,
        )
        return 2
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(json.dumps(content, indent=1))
    return 1 if content["refused"] else 0


if __name__ == "__main__":
    sys.exit(main())
