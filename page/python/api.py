"""What the page asks of the project's Python: strings, numbers and JSON in and out."""

import json
from dataclasses import dataclass

from data_prep.dialect.tune import print_tune
from modeling.header_abc import INSTRUMENTS
from modeling.notation_abc import KEYS

from .showing import show
from .tokenizer import PageTokenizer
from .writing import Writer, Writing

MOST_LEFT = 100_000  # tokens that may follow where there is no limit
MOST_BYTES = 2_000_000  # of a text that is shown or dropped in


@dataclass
class Task:
    """A tune under way, for the loop in the worker; ids go as text with commas."""

    writing: Writing

    def begin(self) -> str:
        """Returns the ids that the model reads first."""
        writing = self.writing
        return _joined([writing.tokenizer.end_id, *writing.ids, *writing.forced()])

    def accept(self, token: int) -> bool:
        """Appends a token unless it is illegal."""
        return self.writing.accept(token)

    def legal(self) -> str:
        """Returns the tokens that may come next."""
        return _joined(self.writing.legal())

    def forced(self) -> str:
        """Appends and returns the tokens up to the next choice."""
        return _joined(self.writing.forced())

    def is_over(self) -> bool:
        """Returns whether nothing more is to be written."""
        return self.writing.is_over

    def tune(self) -> str:
        """Returns the whole tune so far."""
        return self.writing.tune


class Page:
    """One model's texts.

    Args:
        tokenizer: The text of its tokenizer.json.
        trained_length: Number of tokens that it was trained to read at once.
    """

    def __init__(self, tokenizer: str, trained_length: int) -> None:
        self.writer = Writer(PageTokenizer(tokenizer), trained_length)

    def facts(self) -> str:
        """Returns JSON: what the page offers."""
        texts = self.writer.tokenizer.texts
        facts = {"keys": list(KEYS), "instruments": INSTRUMENTS, "tokens": texts}
        return json.dumps(facts | {"canFill": self.writer.can_fill})

    def begin(self, request: str) -> Task:
        """Begins a tune.

        Args:
            request: JSON with `kind` (write, fill or accompany), `mostTokens`, and for `write`:
                `conditions`, `prompt`, `hasGrammar`; for `fill`: `tune`, `first`, `last`; for
                `accompany`: `tune`, `instruments`.

        Raises:
            ValueError: If the model cannot do it; see `Writer`.
        """
        asked = json.loads(request)
        writer, most = self.writer, asked["mostTokens"]
        match asked["kind"]:
            case "fill":
                return Task(writer.begin_fill(asked["tune"], asked["first"], asked["last"], most))
            case "accompany":
                return Task(writer.begin_accompaniment(asked["tune"], asked["instruments"], most))
        return Task(writer.begin(asked["conditions"], asked["prompt"], most, asked["hasGrammar"]))

    def show(self, abc: str, width: int) -> str:
        """Returns JSON of a tune as it is drawn and played; see `showing`.

        Raises:
            ValueError: If it is too long, or has no bar that can be read.
        """
        _check_size(abc)
        return json.dumps(show(abc, width))

    def next(self, text: str) -> str:
        """Returns JSON of what may follow a text: `ids` to read, and the `legal` tokens.

        Where the text is not in the dialect, `legal` is null and `error` says why.
        """
        writer = self.writer
        found = {"ids": [writer.tokenizer.end_id, *writer.tokenizer.encode(text)]}
        try:
            state = writer.grammar.read_prompt(text)
        except ValueError as error:
            return json.dumps(found | {"legal": None, "error": str(error)})
        return json.dumps(found | {"legal": writer.grammar.legal(state, MOST_LEFT)})

    def open(self, content: bytes) -> str:
        """Returns JSON of the first tune of a file of ABC: `abc`, `title`, `warnings`.

        Raises:
            ValueError: If it cannot be read.
        """
        from data_prep.importers.foreign_abc import read_book  # half of all code, seldom needed

        _check_size(content)
        found = next(read_book(bytes(content)))  # the page gives an array of JavaScript
        if found.tune is None:
            raise found.error
        warnings = [str(warning) for warning in found.warnings]
        abc = print_tune(found.tune)
        return json.dumps({"abc": abc, "title": found.title, "warnings": warnings})


def _check_size(text: str | bytes) -> None:
    if len(text) > MOST_BYTES:
        raise ValueError(f"a text of {len(text):,} bytes, expected at most {MOST_BYTES:,}")


def _joined(ids: list[int]) -> str:
    return ",".join(map(str, ids))
