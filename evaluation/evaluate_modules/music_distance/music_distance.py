"""How far the statistics of ABC tunes lie from those of real ones, and real ones from real.

metric = evaluate.load("evaluation/evaluate_modules/music_distance")
metric.compute(predictions=tunes, real_tunes=held_out)
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from evaluation.distance import compare_sets
from evaluation.music_statistics import describe_tunes

DESCRIPTION = "Distances of sets of ABC tunes by musical statistics; see evaluation/distance.py."
INPUTS = (
    "predictions: ABC texts in the dialect of this project. real_tunes: held-out ones, as many as "
    "there are; no pairs, so they are no references."
)


class MusicDistance(evaluate.Metric):
    """Overlapping area, divergence and Frechet distance of features, each with its floor."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions: list[str], real_tunes: list[str]) -> dict[str, Any]:
        generated, n_unreadable = describe_tunes(predictions)
        real, _ = describe_tunes(real_tunes)
        return {"n_unreadable": n_unreadable} | compare_sets(generated, real)
