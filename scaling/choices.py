"""What a choice of training is worth at equal effort: its best loss over a sweep of learning rates.

    python -m scaling.choices runs/ladder_batch/runs.csv --by batch_tokens --reference 4096
        --out results/batch.json
    python -m scaling.choices runs/ladder_muon/runs.csv runs/ladder_sweep/runs.csv --by optim
        --reference adamw_torch_fused --out results/muon.json

Runs are grouped by family, size and the column of the choice. Each value of the choice answers with
the lowest loss of its learning rates (means over seeds), in nats per token, and the difference from
the reference value's. If that is at the first or last of three or more rates, it is marked at_edge:
a better rate may be outside the sweep. Values are compared only at one token count. Sizes with one
value only are left out.
"""

import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from .families import in_order
from .runs_table import TableError
from .writing.commands import command, parser_of
from .writing.files import read_csv, write_json

CHOICES = ("batch_tokens", "optim")
NEEDED = ("arch", "n_params", "n_tokens", "learning_rate", "loss")
SAME_TOKENS = 0.01  # whole batches: counts of equal budgets differ by less
LEAST_RATES = 3  # to say that the best one is inside


Sweep = dict[str, dict[float, float]]  # value of the choice -> learning rate -> loss


def read_sweeps(paths: Sequence[Path], by: str) -> dict[tuple[str, int], Sweep]:
    """The sweeps of each family and size with several values; losses are means over seeds.

    Raises:
        TableError: If a column is missing, no size has several values, or token counts differ.
    """
    found: dict[tuple[str, int], dict[tuple[str, float], list[float]]] = {}
    tokens: dict[tuple[str, int], list[float]] = defaultdict(list)
    for path in paths:
        try:
            for row in read_csv(path):
                size = row["arch"], int(row["n_params"])
                of_size = found.setdefault(size, defaultdict(list))
                of_size[row[by], float(row["learning_rate"])].append(float(row["loss"]))
                tokens[size].append(float(row["n_tokens"]))
        except (KeyError, ValueError) as err:
            needed = ", ".join([*NEEDED, by])
            raise TableError(f"{path}: {err}; expected runs.csv with the columns {needed}") from err
    found = {size: own for size, own in found.items() if len({value for value, _ in own}) > 1}
    names = ", ".join(map(str, paths))
    if not found:
        raise TableError(f"{names}: no size was trained with several values of {by}")
    counts = [count for size in found for count in tokens[size]]
    if max(counts) > (1 + SAME_TOKENS) * min(counts):
        raise TableError(
            f"{names}: runs of {min(counts):,.0f} to {max(counts):,.0f} tokens, expected one "
            "count: losses would not compare"
        )
    sweeps: dict[tuple[str, int], Sweep] = {}
    for size, losses in found.items():
        of_size = sweeps.setdefault(size, {})
        for (value, rate), of_seeds in sorted(losses.items()):
            of_size.setdefault(value, {})[rate] = fmean(of_seeds)
    return sweeps


def compare_values(sweep: Sweep, reference: str) -> list[dict]:
    """One row per value of the choice, the reference first.

    Raises:
        TableError: If there is no run of the reference.
    """
    if reference not in sweep:
        raise TableError(f"no run of {reference}, found {', '.join(sorted(sweep))}")
    rows = []
    for value in sorted(sweep, key=lambda value: (value != reference, len(value), value)):
        rates, losses = list(sweep[value]), list(sweep[value].values())
        best = losses.index(min(losses))
        rows.append(
            {
                "value": value,
                "loss": losses[best],
                "difference": losses[best] - (rows[0]["loss"] if rows else losses[best]),
                "learning_rate": rates[best],
                "at_edge": len(rates) >= LEAST_RATES and best in (0, len(rates) - 1),
                "rates": rates,
                "losses": losses,
            }
        )
    return rows


@command(TableError, OSError)
def main(argv: Sequence[str] | None = None) -> None:
    """Writes the comparison; 2 on an error the user can fix."""
    parser = parser_of("scaling.choices", __doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="runs.csv of the sweeps")
    parser.add_argument("--by", choices=CHOICES, required=True, help="column of the choice")
    parser.add_argument("--reference", required=True, help="value the others are compared with")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(argv)
    sweeps = read_sweeps(arguments.runs, arguments.by)
    sizes = [
        {"arch": arch, "n_params": n, "values": compare_values(sweep, arguments.reference)}
        for family in in_order(arch for arch, _ in sweeps)
        for (arch, n), sweep in sorted(sweeps.items())
        if arch == family
    ]
    write_json(arguments.out, {"by": arguments.by, "sizes": sizes})
    for size in sizes:
        for row in size["values"]:
            edge = ", at the edge of its sweep" if row["at_edge"] else ""
            print(
                f"{size['arch']} {size['n_params']:,}, {arguments.by} {row['value']}: "
                f"{row['loss']:.4f} ({row['difference']:+.4f}) at {row['learning_rate']:g}{edge}"
            )
    print(f"-> {arguments.out}")


if __name__ == "__main__":
    sys.exit(main())
