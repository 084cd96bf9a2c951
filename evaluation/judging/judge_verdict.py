"""The readers' answers to a text -> one verdict; what its fields mean stands in `judges`."""

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
        own: Our own reader's part.
        answers: Of each reader; None where it is missing, and so are then its fields, and {} where
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
    """Returns what a judge's answer says; all None where it is missing."""
    return {
        prefix + name: None if answer is None else value(answer)
        for name, value in judge.fields.items()
    }


def agreements(answers: dict[str, Answer | None], own: OwnVerdict) -> dict[str, float | None]:
    """Returns F1 of each two readers, None where one is missing.

    Where one of two does not follow changes of tempo, all onsets are taken in quarters of the first
    tempo. Chords that a reader strikes again in spite of a tie are merged, see `without_continued`.
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
    """Returns F1 of each reader that keeps the tempo and our own, None where it is missing."""
    return {
        name: None if answers[name] is None
        else agreement(own.timed, _timed(judge, answers[name]), SECONDS_TOLERANCE)
        for name, judge in JUDGES.items()
        if judge.keeps_time
    }  # fmt: skip


def _timed(judge: Judge, answer: Answer) -> list[Note]:
    """Returns the notes that a judge plays, with their onsets in seconds by its MIDI file."""
    quarter = answer.get("quarter", 0.0)
    if not judge.follows_tempo:
        return [(onset * quarter, pitch) for onset, pitch in answer.get("played", [])]
    return [(played * quarter, pitch) for _, played, pitch in answer.get("notes", [])]


def _heard(judge: Judge, answer: Answer, own: OwnVerdict, in_first_tempo: bool) -> list[Note]:
    """Returns the notes that a judge plays, with the onsets that are compared."""
    if not judge.follows_tempo:
        return [(onset, pitch) for onset, pitch in answer.get("played", [])]
    notes = answer.get("notes", [])
    if not judge.joins_chord_ties:
        notes = without_continued(notes, own.chord_ties)
    return [(played if in_first_tempo else onset, pitch) for onset, played, pitch in notes]


def _is_valid(verdict: Verdict) -> bool | None:
    """Whether all conditions hold; None where a reader is missing."""
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
