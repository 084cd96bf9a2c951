"""runs.csv of a ladder that obeys a known law."""

import csv

import numpy as np

from scaling.laws.law import Points
from scaling.laws.registry import LAWS

TRUTH = {"E": 0.6, "A": 18.0, "B": 60.0, "alpha": 0.36, "beta": 0.35}
SIZES = np.geomspace(3_000, 3_000_000, 7).round()
TOKENS = np.geomspace(1.5e6, 1.2e7, 4).round()


def ladder(folder, noise=0.0, sizes=SIZES, tokens=TOKENS):
    """runs.csv of one family that obeys a known law; embeddings add a tenth to the parameters."""
    law, rng = LAWS["chinchilla"], np.random.default_rng(1)
    n, d = (each.ravel() for each in np.meshgrid(sizes, tokens, indexing="ij"))
    loss = np.exp(law.log_loss(law.theta(TRUTH), Points.once(np.log(n), np.log(d))))
    path = folder / "runs.csv"
    folder.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        header = ("arch", "run", "trunk", "n_params", "n_params_total", "n_tokens", "loss", "flops")
        writer.writerow(header)
        measured = loss * np.exp(noise * rng.normal(size=len(n)))
        for size, budget, value in zip(n, d, measured, strict=True):
            name = f"{size:.0f}"
            flops = 6 * size * budget
            writer.writerow(
                ["gpt", f"{name}_{budget:.0f}", name, size, 1.1 * size, budget, value, flops]
            )
    return path
