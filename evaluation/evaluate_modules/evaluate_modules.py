"""The metrics of this project for the `evaluate` library, loaded by path and offline.

    metric = evaluate.load("evaluation/evaluate_modules", "music_distance")
    metric.compute(predictions=tunes, real_tunes=held_out)

`predictions` are ABC texts, one tune each. The config name selects the metric:

    abc_validity     verdicts of independent readers, best with one block per voice; see `judges`
    abc_playability  the verdicts about the music itself: length, notes, whole bars, ties
    music_stats      pitches, textures, repetition, form; see `music_statistics`
    music_distance   distance of their statistics to those of `real_tunes`, as many held-out ones
                     as available, along with the distance of real to real; see `distance`
    memorization     how much of them is found in `train_tunes`, in the same or another key,
                     compared with held-out `control_tunes`; see `memorisation`
"""

from typing import Any

import datasets
import evaluate

from evaluation.judging.judges import judge_all
from evaluation.metrics import judged_scores, summarise, validity
from evaluation.music.distance import compare_sets
from evaluation.music.memorisation import TrainingIndex, memorisation
from evaluation.music.music_statistics import describe_tunes

OF_THE_MUSIC = ("playable", "bar_perfect", "bar_accuracy", "tie_ok", "own_reader")


def abc_validity(tunes: list[str]) -> dict[str, Any]:
    """Rates of all boolean verdicts and means of all numeric ones, each with an interval."""
    verdicts = judge_all(tunes)
    return {"rates": validity(verdicts), "means": judged_scores(verdicts)}


def abc_playability(tunes: list[str]) -> dict[str, Any]:
    """The same for the verdicts about the music itself, not a reader's messages."""
    verdicts = [{name: verdict[name] for name in OF_THE_MUSIC} for verdict in judge_all(tunes)]
    return {"rates": validity(verdicts), "means": judged_scores(verdicts)}


def music_stats(tunes: list[str]) -> dict[str, Any]:
    """Mean and 95 % interval of each statistic over the readable tunes."""
    rows, n_unreadable = describe_tunes(tunes)
    return {"n_unreadable": n_unreadable, "statistics": summarise(rows)}


def music_distance(tunes: list[str], real_tunes: list[str]) -> dict[str, Any]:
    """Overlapping area, divergence and Frechet distance of features, each with its floor."""
    generated, n_unreadable = describe_tunes(tunes)
    real, _ = describe_tunes(real_tunes)
    return {"n_unreadable": n_unreadable} | compare_sets(generated, real)


def memorization(
    tunes: list[str], train_tunes: list[str], control_tunes: list[str]
) -> dict[str, Any]:
    """Shares of windows and longest matches, compared with those of held-out tunes."""
    return memorisation(tunes, control_tunes, TrainingIndex(train_tunes))


METRICS = {
    metric.__name__: metric
    for metric in (abc_validity, abc_playability, music_stats, music_distance, memorization)
}


class AbcMusic(evaluate.Metric):
    """One of METRICS, named by `config_name`."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in METRICS:
            raise ValueError(
                f"metric {self.config_name!r}, expected one of {', '.join(METRICS)}: "
                f'evaluate.load("evaluation/evaluate_modules", "{min(METRICS)}")'
            )
        return evaluate.MetricInfo(
            description=METRICS[self.config_name].__doc__,
            citation="",
            inputs_description=__doc__,
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(self, predictions: list[str], **more: list[str]) -> dict[str, Any]:
        return METRICS[self.config_name](predictions, **more)
