"""Statistics of ABC tunes: pitches, textures, repetition, form.

evaluate.load("evaluation/evaluate_modules/music_stats").compute(predictions=tunes)
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from evaluation.metrics import summarise
from evaluation.music_statistics import describe_tunes

DESCRIPTION = "Musical statistics of ABC tunes; see evaluation/music_statistics.py."
INPUTS = "predictions: ABC texts in the dialect of this project, in either layout."


class MusicStats(evaluate.Metric):
    """Mean and 95 % interval of each statistic over the tunes that can be read."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions: list[str]) -> dict[str, Any]:
        rows, n_unreadable = describe_tunes(predictions)
        return {"n_unreadable": n_unreadable, "statistics": summarise(rows)}
