"""llguidance: whether it reads the folder's grammar.lark for the folder's tokenizer."""

from pathlib import Path

import llguidance
import llguidance.hf
from report import report
from transformers import AutoTokenizer


def check(folder: str, trust: bool, context: int) -> str:
    """Makes a matcher of the grammar and asks it for its first mask."""
    file = Path(folder, "grammar.lark")
    if not file.is_file():
        raise FileNotFoundError("the folder has no grammar.lark")
    tokenizer = llguidance.hf.from_tokenizer(AutoTokenizer.from_pretrained(folder))
    grammar = llguidance.LLMatcher.grammar_from_lark(file.read_text("utf-8"))
    matcher = llguidance.LLMatcher(tokenizer, grammar)
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    return f"a mask of {len(matcher.compute_bitmask())} bytes"


report(check)
