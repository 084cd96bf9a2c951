"""Share of ABC tunes that are music to be played: length, notes, whole bars, ties.

evaluate.load("evaluation/evaluate_modules/abc_playability").compute(predictions=tunes)
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from evaluation.judges import judge_all
from evaluation.metrics import judged_scores, validity

DESCRIPTION = "Whether ABC tunes are music of a sensible length in whole bars; see evaluation."
INPUTS = "predictions: ABC texts, one tune each, best with one block per voice."
NAMES = ("playable", "bar_perfect", "bar_accuracy", "tie_ok", "own_reader")


class AbcPlayability(evaluate.Metric):
    """Those verdicts of the judges that are of the music, not of a reader's messages."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(self, predictions: list[str]) -> dict[str, Any]:
        verdicts = [
            {name: verdict[name] for name in NAMES if name in verdict}
            for verdict in judge_all(predictions)
        ]
        return {"rates": validity(verdicts), "means": judged_scores(verdicts)}
