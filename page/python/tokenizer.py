"""The model's tokenizer.json, read with the standard library: text to ids.

Knows what data_prep/tokens/tokenizers.py makes: byte-pair merges, or none, after an optional split.
"""

import json
import re
from functools import lru_cache
from itertools import pairwise
from typing import Any

from modeling.grammar_abc_tokens import UNKNOWN


class PageTokenizer:
    """A tokenizer.

    Args:
        file: The text of tokenizer.json.

    Attributes:
        texts: The text of each token, "" for special ones, `UNKNOWN` for the unknown one: (V,).
        end_id: The token that starts and ends a tune.

    Raises:
        ValueError: If it is of a kind that this project does not make.
    """

    def __init__(self, file: str) -> None:
        described = json.loads(file)
        model = described["model"]
        if model["type"] != "BPE" or described["normalizer"]:
            raise ValueError(f"a tokenizer of type {model['type']}, expected byte pairs")
        self.ids: dict[str, int] = model["vocab"]
        special = {token["content"]: token["id"] for token in described["added_tokens"]}
        self.ids = self.ids | special
        self.unknown_id, self.end_id = special[model["unk_token"]], special["<|endoftext|>"]
        self.texts = [""] * (max(self.ids.values()) + 1)
        for text, token in self.ids.items():
            self.texts[token] = "" if text in special else text
        self.texts[self.unknown_id] = UNKNOWN
        self._units = _splitter(described["pre_tokenizer"])
        self._keeps_units = model["ignore_merges"]
        pairs = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
        self._ranks = {tuple(pair): rank for rank, pair in enumerate(pairs)}
        self._encoded = lru_cache(4096)(self._unit_ids)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without start and end."""
        units = self._units.findall(text) if self._units else [text]
        return [token for unit in units for token in self._encoded(unit)]

    def n_tokens(self, text: str) -> int:
        """Returns the number of its tokens."""
        return len(self.encode(text))

    def can_encode(self, text: str) -> bool:
        """Returns whether there are tokens for all that a text is made of."""
        return self.unknown_id not in self.encode(text)

    def _unit_ids(self, unit: str) -> tuple[int, ...]:
        if self._keeps_units and unit in self.ids:
            return (self.ids[unit],)
        parts = list(unit)
        while self._ranks and len(parts) > 1:
            ranks = [self._ranks.get(pair, len(self._ranks)) for pair in pairwise(parts)]
            best = min(ranks)
            if best == len(self._ranks):
                break
            place = ranks.index(best)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
        return tuple(self.ids.get(part, self.unknown_id) for part in parts)


def _splitter(described: dict[str, Any] | None) -> re.Pattern | None:
    """Returns a pattern of the units that are encoded by themselves; None if the text is one."""
    if described is None:
        return None
    pattern = described["pattern"].get("Regex")
    if described["type"] != "Split" or pattern is None:
        raise ValueError(f"a tokenizer with the split {described}, expected one by a pattern")
    if described["behavior"] == "MergedWithPrevious":
        return re.compile(rf"(?s:.*?)(?:{pattern})|(?s:.+)")
    return re.compile(pattern)
