"""Share of ABC tunes that music21, abc2midi and abcjs take, for `evaluate.load` with this path.

evaluate.load("evaluation/evaluate_modules/abc_validity").compute(predictions=tunes)
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from evaluation.judges import judge_all
from evaluation.metrics import judged_scores, validity

DESCRIPTION = "What independent readers say of ABC tunes; see evaluation/judges.py."
INPUTS = "predictions: ABC texts, one tune each, best with one block per voice."


class AbcValidity(evaluate.Metric):
    """Rates of all verdicts of the judges, and means of their numbers, each with an interval."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions: list[str]) -> dict[str, Any]:
        verdicts = judge_all(predictions)
        return {"rates": validity(verdicts), "means": judged_scores(verdicts)}
