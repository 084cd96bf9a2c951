"""The readers' answers to a text -> one verdict; its fields are documented in `judges`."""

from itertools import combinations
from typing import Any

from .judge_measures import (
    SECONDS_TOLERANCE,
    Note,
    OwnVerdict,
    agreement,
    is_playable,
    without_continued,
)
from .judge_table import JUDGES, VALID, Answer, Judge

Verdict = dict[str, Any]


def verdict_of(own: OwnVerdict, answers: dict[str, Answer | None]) -> Verdict:
    """Returns the fields of a verdict.

    Args:
        own: Our own reader's verdict.
        answers: Answer of each reader; None if it is missing (then its fields are None too), {} if
            it was not asked.
    """
    there = {name: answer for name, answer in answers.items() if answer is not None}
    verdict: Verdict = {
        "own_reader": own.reads,
        "bar_perfect": own.bar_perfect,
        "bar_accuracy": own.bar_accuracy,
        "tie_ok": own.tie_ok,
    }
    for name, judge in JUDGES.items():
        verdict |= fields_of(judge, answers[name])
    playable = (is_playable(answer, own.only_drums) for answer in there.values())
    verdict |= {"playable": bool(there) and all(playable), "agreement": agreements(answers, own)}
    verdict["agreement_seconds"] = agreements_in_seconds(answers, own)
    verdict[VALID] = _is_valid(verdict)
    verdict["messages"] = _messages(own, there)
    return verdict


def fields_of(judge: Judge, answer: Answer | None, prefix: str = "") -> Verdict:
    """Returns the verdict fields of a judge's answer; all None if the judge is missing."""
    return {
        prefix + name: None if answer is None else value(answer)
        for name, value in judge.fields.items()
    }


def agreements(answers: dict[str, Answer | None], own: OwnVerdict) -> dict[str, float | None]:
    """Returns F1 of each pair of readers, None if one is missing.

    If one of them does not follow tempo changes, all onsets are in quarters of the first tempo.
    Chords that a reader repeats despite a tie are merged, see `without_continued`.
    """
    out: dict[str, float | None] = {}
    for pair in combinations(JUDGES.values(), 2):
        in_first_tempo = not all(judge.follows_tempo for judge in pair)
        sides = [
            None if (answer := answers[judge.name]) is None
            else _heard(judge, answer, own, in_first_tempo)
            for judge in pair
        ]  # fmt: skip
        out[f"{pair[0].name}_{pair[1].name}"] = None if None in sides else agreement(*sides)
    return out


def agreements_in_seconds(
    answers: dict[str, Answer | None], own: OwnVerdict
) -> dict[str, float | None]:
    """Returns F1 between each reader that keeps time and our own, None if it is missing."""
    return {
        name: None if answers[name] is None
        else agreement(own.timed, _timed(judge, answers[name]), SECONDS_TOLERANCE)
        for name, judge in JUDGES.items()
        if judge.keeps_time
    }  # fmt: skip


def _timed(judge: Judge, answer: Answer) -> list[Note]:
    """Returns the notes that a judge plays, with onsets in seconds according to its MIDI file."""
    quarter = answer.get("quarter", 0.0)
    if not judge.follows_tempo:
        return [(onset * quarter, pitch) for onset, pitch in answer.get("played", [])]
    return [(played * quarter, pitch) for _, played, pitch in answer.get("notes", [])]


def _heard(judge: Judge, answer: Answer, own: OwnVerdict, in_first_tempo: bool) -> list[Note]:
    """Returns the notes that a judge plays, with the onsets used for comparison."""
    if not judge.follows_tempo:
        return [(onset, pitch) for onset, pitch in answer.get("played", [])]
    notes = answer.get("notes", [])
    if not judge.joins_chord_ties:
        notes = without_continued(notes, own.chord_ties)
    return [(played if in_first_tempo else onset, pitch) for onset, played, pitch in notes]


def _is_valid(verdict: Verdict) -> bool | None:
    """Whether all conditions hold; None if a reader is missing."""
    needed = [verdict[name] for judge in JUDGES.values() for name in judge.needed]
    agreed = verdict["agreement"].values()
    if None in (*needed, *agreed):
        return None
    least = [min(pair) for pair in combinations((judge.agreement for judge in JUDGES.values()), 2)]
    in_time = [f1 >= JUDGES[name].agreement for name, f1 in verdict["agreement_seconds"].items()]
    return all((*needed, verdict["playable"], verdict["bar_perfect"], *in_time)) and all(
        f1 >= wanted for f1, wanted in zip(agreed, least, strict=True)
    )


def _messages(own: OwnVerdict, answers: dict[str, Answer]) -> list[str]:
    messages = [f"own: {own.message}"] if own.message else []
    for name, answer in answers.items():
        said = [str(answer[kind]) for kind in ("failure", "error") if answer.get(kind)]
        messages += [f"{name}: {text}" for text in said + answer.get("messages", [])]
    return messages
