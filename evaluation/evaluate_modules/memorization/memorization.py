"""How much of ABC tunes stands in the training text, as it is or in another key.

metric = evaluate.load("evaluation/evaluate_modules/memorization")
metric.compute(predictions=tunes, train_tunes=train, control_tunes=held_out)
"""

from __future__ import annotations

from typing import Any

import datasets
import evaluate

from evaluation.memorisation import TrainingIndex, memorisation

DESCRIPTION = "Passages of ABC tunes that a training set holds; see evaluation/memorisation.py."
INPUTS = (
    "predictions: ABC texts in the layout of the training text. train_tunes: all of that. "
    "control_tunes: held-out ones, which say how much of a tune that is no copy is found."
)


class Memorization(evaluate.Metric):
    """Shares of windows and longest matches, beside those of held-out tunes."""

    def _info(self) -> evaluate.MetricInfo:
        features = datasets.Features({"predictions": datasets.Value("string")})
        return evaluate.MetricInfo(
            description=DESCRIPTION, citation="", inputs_description=INPUTS, features=features
        )

    def _compute(
        self, predictions: list[str], train_tunes: list[str], control_tunes: list[str]
    ) -> dict[str, Any]:
        return memorisation(predictions, control_tunes, TrainingIndex.of(train_tunes))
