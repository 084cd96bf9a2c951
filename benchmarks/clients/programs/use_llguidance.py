"""llguidance: tunes within the folder's grammar.lark, for the folder's tokenizer, in `generate`."""

import math
from pathlib import Path

import llguidance
import llguidance.hf
import numpy as np
import torch
from report import report, songs
from transformers import AutoModelForCausalLM, AutoTokenizer, LogitsProcessor

N_TOKENS = 200


class Within(LogitsProcessor):
    """Restricts one row to a grammar."""

    def __init__(self, matcher: llguidance.LLMatcher) -> None:
        self.matcher = matcher
        self.is_first = True

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Reads the last token and masks the scores (1, V)."""
        if not self.is_first and not self.matcher.consume_token(int(input_ids[0, -1])):
            raise ValueError(self.matcher.get_error())
        self.is_first = False
        bits = np.frombuffer(self.matcher.compute_bitmask(), np.uint8)
        legal = np.unpackbits(bits, bitorder="little")[: scores.shape[1]].astype(bool)
        return scores.masked_fill(~torch.from_numpy(legal), -math.inf)


def check(folder: str, trust: bool, context: int) -> str:
    """Reads a song with the grammar, and samples a tune within it."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    grammar = Path(folder, "grammar.lark").read_text("utf-8")
    matcher = llguidance.LLMatcher(
        llguidance.hf.from_tokenizer(tokenizer), llguidance.LLMatcher.grammar_from_lark(grammar)
    )
    if matcher.is_error():
        raise ValueError(matcher.get_error())
    ids = tokenizer(songs()[0], add_special_tokens=False, verbose=False)["input_ids"]
    n_read = matcher.deep_copy().try_consume_tokens(ids)
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    torch.manual_seed(1)
    out = model.generate(
        torch.tensor([[tokenizer.bos_token_id]]),
        max_new_tokens=N_TOKENS,
        logits_processor=[Within(matcher)],
    )
    text = tokenizer.decode(out[0], skip_special_tokens=True)
    return f"{n_read:,} of a song's {len(ids):,} tokens are legal; wrote {len(text)} characters"


report(check)
