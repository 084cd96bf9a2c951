"""One tune that the model writes, token by token: which may come next, and which need no choice.

The rules are those of modeling/writing_abc.py and modeling/pipeline_abc_music.py: the lines of the
header first, then all the rest, within the grammar unless told otherwise.
"""

from dataclasses import dataclass, field
from typing import Any

from modeling.arrange_abc import Arrangement, arrange_accompaniment, arrange_fill
from modeling.export_abc import check_beginning, cut_after_end
from modeling.grammar_abc_plan import PLANNED
from modeling.grammar_abc_tokens import UNKNOWN, TokenGrammar
from modeling.grammar_abc_tune_rules import State
from modeling.header_abc import Line, header_lines
from modeling.notation_abc import CHORD_ATTACK_LINE, FILL_IN_TOKENS, FIRST_LINE, plain_text

from .tokenizer import PageTokenizer

MAX_HEADER_LINE_TOKENS = 32


@dataclass
class Writing:
    """A tune under way.

    Attributes:
        tokenizer: The model's.
        tokens: Its grammar; None to let the model write anything.
        lines: Lines of the header still to come.
        ids: What the model reads first, without the start token.
        left: Number of tokens that the model may still choose.
        text: What is written so far; of an arrangement, without the tune around it.
        state: Of the grammar after `text`.
        arrangement: The tune around it, if bars are filled in or voices added.
        has_ended: Whether it is complete.
    """

    tokenizer: PageTokenizer
    tokens: TokenGrammar | None
    lines: list[Line]
    ids: list[int]
    left: int
    text: str = ""
    state: State | None = None
    arrangement: Arrangement | None = None
    has_ended: bool = False
    _rest: str = ""  # what the current line must still start with
    _n_in_line: int = 0
    _is_at_line: bool = field(default=True)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is to be written."""
        return self.has_ended or self.left <= 0

    @property
    def tune(self) -> str:
        """The whole tune so far, up to its end."""
        around = self.arrangement
        text = around.before + self.text + around.after if around else self.text
        return cut_after_end(text)[0]

    def accept(self, token: int) -> bool:
        """Appends a token of the model's choice; returns false, and changes nothing, if illegal."""
        if token not in self._fitting([token]):
            return False
        if self.tokens:
            following = self.tokens.advance(self.state, token, self.left - 1)
            if following is None:
                return False
            self.state = following
        self.left -= 1
        self._append(token)
        return True

    def legal(self) -> list[int]:
        """Returns the tokens that may come next."""
        if self.tokens:
            return self._fitting(sorted(self.tokens.legal(self.state, self.left - 1)))
        return self._fitting(range(len(self.tokenizer.texts)))

    def forced(self) -> list[int]:
        """Appends and returns all tokens up to the next choice."""
        found: list[int] = []
        while not self.is_over:
            if self._is_at_line and self.lines:
                found += self._next_line()
                continue
            only = self._only_token()
            if only is None:
                break
            self.accept(only)
            found.append(only)
        return found

    def _next_line(self) -> list[int]:
        line = self.lines.pop(0)
        if line.text is None:
            self._rest, self._is_at_line, self._n_in_line = line.start, False, 0
            return []
        ids = self.tokenizer.encode(line.text + "\n")
        self.text += line.text + "\n"
        if self.tokens:
            self.state = self.tokens.read_prompt(self.text)
        return ids

    def _only_token(self) -> int | None:
        if not self.tokens:
            is_too_long = self.lines and self._n_in_line >= MAX_HEADER_LINE_TOKENS
            legal = (
                self.tokenizer.encode("\n") if is_too_long else self.legal() if self._rest else []
            )
            return legal[0] if len(legal) == 1 else None
        if len(self.tokens.grammar.follow(self.state)) > 1 and not self._rest:
            return None
        legal = self.legal()
        return legal[0] if len(legal) == 1 else None

    def _fitting(self, tokens: list[int] | range) -> list[int]:
        """Returns those tokens that the lines still to come allow."""
        texts, rest = self.tokenizer.texts, self._rest
        is_header = bool(rest or self.lines)
        found = []
        for token in tokens:
            text = texts[token]
            if not text or text == UNKNOWN:
                if token == self.tokenizer.end_id and not is_header:
                    found.append(token)
            elif text.startswith(rest) or rest.startswith(text):
                found.append(token)
        return found

    def _append(self, token: int) -> None:
        if token == self.tokenizer.end_id:
            self.has_ended = True
            return
        text = self.tokenizer.texts[token]
        self.text += text
        self._n_in_line += 1
        self._rest = self._rest[len(text) :]
        self._is_at_line = "\n" in text


class Writer:
    """Begins tunes for one model.

    Args:
        tokenizer: The model's.
        trained_length: Number of tokens that it was trained to read at once.
    """

    def __init__(self, tokenizer: PageTokenizer, trained_length: int) -> None:
        self.tokenizer, self.trained_length = tokenizer, trained_length
        self.grammar = TokenGrammar(tokenizer.texts, tokenizer.end_id)
        self.planned_grammar = TokenGrammar(tokenizer.texts, tokenizer.end_id, PLANNED)

    @property
    def can_fill(self) -> bool:
        """Whether the model was trained to fill in."""
        return set(FILL_IN_TOKENS) <= self.tokenizer.ids.keys()

    def begin(
        self, conditions: dict[str, Any], prompt: str, most_tokens: int, has_grammar: bool
    ) -> Writing:
        """Begins a tune with conditions, as in `header_lines`, or with a prompt.

        Raises:
            ValueError: If the model cannot write a condition, or the prompt begins no tune.
        """
        tokens = self.grammar if has_grammar else None
        if prompt:
            return self._continued(prompt, tokens, most_tokens)
        lines = []
        for line in header_lines(**conditions):
            if self.tokenizer.can_encode(line.text or line.start):
                lines.append(line)
            elif line.text not in (None, FIRST_LINE, CHORD_ATTACK_LINE):
                raise ValueError(f"this model cannot write {line.text!r}: it never saw such a line")
        state = tokens.read_prompt("") if tokens else None
        return Writing(self.tokenizer, tokens, lines, [], most_tokens, state=state)

    def _continued(self, prompt: str, tokens: TokenGrammar | None, most_tokens: int) -> Writing:
        prompt = plain_text(prompt)
        check_beginning(prompt)
        if cut_after_end(prompt)[1]:
            raise ValueError("the tune is complete: take away its end, |], to continue it")
        ids = self.tokenizer.encode(prompt)
        state = tokens.read_prompt(prompt) if tokens else None
        return Writing(self.tokenizer, tokens, [], ids, most_tokens, prompt, state)

    def begin_fill(self, tune: str, first: int, last: int, most_tokens: int) -> Writing:
        """Begins to write bars of a whole tune anew, numbered from 1.

        A model that was trained to fill in reads the bars on both sides; any other reads those
        before, and the grammar alone sees to it that the seam behind is right.

        Raises:
            ValueError: If the tune cannot be read, or has no such bars.
        """
        encode = self.tokenizer.encode
        arrangement = arrange_fill(
            tune, (first, last), self.tokenizer.n_tokens, self.trained_length
        )
        if self.can_fill:
            marks = [self.tokenizer.ids[mark] for mark in FILL_IN_TOKENS]
            parts = zip(marks, map(encode, arrangement.passage), strict=True)
            ids = [token for mark, part in parts for token in (mark, *part)]
        else:
            ids = encode(arrangement.before)
        return self._arranged(arrangement, ids, most_tokens)

    def begin_accompaniment(self, tune: str, instruments: list[str], most_tokens: int) -> Writing:
        """Begins to write further voices beside those of a whole tune.

        Raises:
            ValueError: If the tune cannot be read, or there would be too many voices.
        """
        arrangement = arrange_accompaniment(tune, instruments)
        return self._arranged(arrangement, self.tokenizer.encode(arrangement.before), most_tokens)

    def _arranged(self, arrangement: Arrangement, ids: list[int], most_tokens: int) -> Writing:
        tokens = self.planned_grammar
        state = tokens.planned(arrangement.before, arrangement.plan)
        # the bars are given in number, so what they take at least does not count
        left = most_tokens + tokens.n_closing_tokens(state) + 1
        return Writing(self.tokenizer, tokens, [], ids, left, "", state, arrangement)
