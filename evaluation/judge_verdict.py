"""The readers' answers to a text -> one verdict; what its fields mean stands in `judges`."""

from __future__ import annotations

from typing import Any

from .judge_measures import OwnVerdict, agreement, is_playable, without_continued
from .judge_process import Answer

PAIRS = {  # of readers -> the agreement that valid3 asks for; music21 takes accidentals differently
    ("abc2midi", "abcjs"): 0.98,
    ("music21", "abc2midi"): 0.85,
    ("music21", "abcjs"): 0.85,
}

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
        **rates_of_music21(answers["music21"]),
        **_grades("abc2midi", answers["abc2midi"]),
        **_grades("abcjs", answers["abcjs"]),
        "playable": bool(there) and all(is_playable(a, own.only_drums) for a in there.values()),
        "agreement": agreements(answers, own),
    }
    verdict["valid3"] = _is_valid(verdict)
    verdict["messages"] = _messages(own, there)
    return verdict


def rates_of_music21(answer: Answer | None, prefix: str = "") -> Verdict:
    """Returns the studies' two rates."""
    return {
        prefix + name: None if answer is None else bool(answer.get(said))
        for name, said in (("validity_music21", "parse"), ("midi_success_music21", "midi"))
    }


def _grades(reader: str, answer: Answer | None) -> Verdict:
    if answer is None:
        grades: Verdict = dict.fromkeys(("ok", "clean", "errors", "warnings"))
    else:
        one_tune = reader != "abcjs" or answer.get("tunes") == 1
        errors, warnings = answer.get("errors", 0), answer.get("warnings", 0)
        ok = bool(answer.get("midi")) and one_tune and not errors
        grades = {"ok": ok, "clean": ok and not warnings, "errors": errors, "warnings": warnings}
    if reader == "abcjs":
        del grades["errors"]  # it knows warnings only
    return {f"{reader}_{name}": value for name, value in grades.items()}


def agreements(answers: dict[str, Answer | None], own: OwnVerdict) -> dict[str, float | None]:
    """Returns F1 of each two readers, None where one is missing.

    abcjs writes no changes of tempo but stretches the notes after them, so that beside it all
    onsets are taken in quarters of the first tempo. Chords that music21 strikes again in spite of
    a tie are merged, see `without_continued`.
    """
    notes = {name: (answer or {}).get("notes", []) for name, answer in answers.items()}
    notes["music21"] = without_continued(notes["music21"], own.chord_ties)
    played = [(onset, pitch) for onset, pitch in (answers["abcjs"] or {}).get("played", [])]
    out: dict[str, float | None] = {}
    for left, right in PAIRS:
        if answers[left] is None or answers[right] is None:
            f1 = None
        elif right == "abcjs":
            f1 = agreement([(onset, pitch) for _, onset, pitch in notes[left]], played)
        else:
            f1 = agreement(*([(onset, p) for onset, _, p in notes[name]] for name in (left, right)))
        out[f"{left}_{right}"] = f1
    return out


def _is_valid(verdict: Verdict) -> bool | None:
    """Whether all conditions hold; None where a reader is missing."""
    needed = (
        *("validity_music21", "midi_success_music21", "abc2midi_clean", "abcjs_clean"),
        *("playable", "bar_perfect"),
    )
    if None in (*(verdict[name] for name in needed), *verdict["agreement"].values()):
        return None
    return all(verdict[name] for name in needed) and all(
        verdict["agreement"][f"{left}_{right}"] >= least for (left, right), least in PAIRS.items()
    )


def _messages(own: OwnVerdict, answers: dict[str, Answer]) -> list[str]:
    messages = [f"own: {own.message}"] if own.message else []
    for name, answer in answers.items():
        said = [str(answer[kind]) for kind in ("failure", "error") if answer.get(kind)]
        messages += [f"{name}: {text}" for text in said + answer.get("messages", [])]
    return messages
