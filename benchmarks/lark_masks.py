"""Masks of `grammar.lark` in llguidance vs. those of our automaton, at many beginnings of tunes.

    python benchmarks/lark_masks.py --data data/music21/demo --samples <samples.jsonl> ...

Both are asked which tokens may follow the same beginnings of tunes: of real ones (the MIDI files of
tests/data and the dataset), of samples of models without grammar, and of random walks in the
automaton; with a tokenizer of characters and one of byte pairs. The automaton has the limits that
the grammar can hold. A beginning differs if one token does; each difference is traced, at the first
character on which they differ, to a rule of `NOT_COVERED`. Limits of llguidance's parser are raised
for byte pairs; the table says how often it gives up with those that engines allow.

Exit status 1 if a difference is not explained, or the grammar forbids what the automaton allows.
"""

import argparse
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import llguidance
import numpy as np
import pyarrow.parquet as pq
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from data_prep.midi_to_abc.converter import midi_to_abc
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from evaluation.samples.lark_gaps import UNEXPLAINED, gap_at
from evaluation.samples.lark_sampling import LARGE_MASKS, llguidance_tokenizer
from modeling.grammar_abc_decoding import TokenGrammar
from modeling.grammar_abc_tune import TuneGrammar
from modeling.lark_abc import NOT_COVERED, lark_grammar, lark_limits

MIDI = Path(__file__).resolve().parent.parent / "tests" / "data"
MOST_CHARACTERS = 6_000  # of a text
FAR = 10**9  # tokens that may follow: no budget
CONTEXT = 1024


# -- texts -----------------------------------------------------------------------------------------


def real_tunes(data: Path) -> list[str]:
    """Returns tunes of the dialect: those of tests/data, and those of a dataset."""
    files = [*sorted((MIDI / "tunes").glob("*.mid")), MIDI / "bach_bwv269.mid"]
    midi = [midi_to_abc(file.read_bytes()) for file in files]
    files = sorted((data / "3_filtered").glob("*.parquet"))
    return midi + [t for f in files for t in pq.read_table(f, columns=["abc"])["abc"].to_pylist()]


def random_walk(grammar: TuneGrammar, rng: random.Random) -> str:
    """Returns a random beginning of a tune; bar lines and further lines are preferred."""
    state, out = grammar.start(), []
    for _ in range(rng.choice((200, 500, 1_500))):
        follow = sorted(grammar.follow(state))
        if not follow:
            break
        if "|" in follow and rng.random() < 0.3:
            character = "|"
        else:
            weights = [0.2 if c in ",'_^=/(]" else 1.0 for c in follow]
            character = rng.choices(follow, weights)[0]
        out.append(character)
        state = grammar.step(state, character)
    return "".join(out)


def legal_part(grammar: TuneGrammar, text: str) -> str:
    """Returns the beginning of a text up to where it leaves the limits."""
    state = grammar.start()
    for place, character in enumerate(text[:MOST_CHARACTERS]):
        following = grammar.step(state, character)
        if following is None:
            return text[:place]
        state = following
    return text[:MOST_CHARACTERS]


# -- masks -----------------------------------------------------------------------------------------


class Pair:
    """The automaton and the grammar for one tokenizer.

    Args:
        tokenizer: The tokenizer.
        grammar: The text of `grammar.lark`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, grammar: str) -> None:
        self.tokenizer = tokenizer
        self.ours = TokenGrammar.of(tokenizer, lark_limits())
        reader = llguidance_tokenizer(tokenizer)
        source = llguidance.LLMatcher.grammar_from_lark(grammar)
        self.lark = llguidance.LLMatcher(reader, source, limits=LARGE_MASKS)
        self._default = llguidance.LLMatcher(reader, source, log_level=0)
        if self.lark.is_error():
            raise ValueError(self.lark.get_error())

    def compare(self, ids: Sequence[int], places: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yields what the two say at some places of a text, in rising order."""
        matcher, default = self.lark.deep_copy(), self._default.deep_copy()
        state, done, n_tokens = self.ours.grammar.start(), 0, len(self.tokenizer)
        for place in places:
            new, done = list(ids[done:place]), place
            if not matcher.consume_tokens(new):
                raise ValueError(f"the grammar rejects a legal tune: {matcher.get_error()[:500]}")
            for token in new:
                state = self.ours.advance(state, token, FAR)
            bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
            default.consume_tokens(new)
            default.compute_bitmask()
            gives_up = default.is_error()
            if gives_up:
                default = self._default.deep_copy()
                default.consume_tokens(list(ids[:place]))
            legal = set(self.ours.legal(state, FAR))
            found = np.flatnonzero(np.unpackbits(bits, bitorder="little")[:n_tokens]).tolist()
            yield {
                "missing": len(legal - set(found)),
                "causes": sorted({self._cause(state, token) for token in set(found) - legal}),
                "gives_up": gives_up,
            }

    def _cause(self, state: Any, token: int) -> str:
        for character in self.ours.texts[token]:
            following = self.ours.grammar.step(state, character)
            if following is None:
                return gap_at(state, character)
            state = following
        return UNEXPLAINED


def measure(pair: Pair, texts: Sequence[str], n: int, rng: random.Random) -> dict[str, Any]:
    """Compares the masks at `n` random places of some texts.

    Raises:
        ValueError: If the texts have fewer places.
    """
    rows = [pair.tokenizer.encode(text, add_special_tokens=False) for text in texts]
    places = [(i, place) for i, ids in enumerate(rows) for place in range(len(ids) + 1)]
    if len(places) < n:
        raise ValueError(f"{len(texts)} texts have {len(places):,} places, expected {n:,} or more")
    of_text: dict[int, list[int]] = {}
    for i, place in sorted(rng.sample(places, n)):
        of_text.setdefault(i, []).append(place)
    counts: Counter[str] = Counter()
    found: list[dict[str, Any]] = []
    for i, own in tqdm(of_text.items(), "texts", leave=False):
        found += pair.compare(rows[i], own)
    for row in found:
        counts.update(row["causes"])
    return {
        "texts": len(of_text),
        "prefixes": len(found),
        "missing": sum(row["missing"] > 0 for row in found),
        "differing": sum(bool(row["missing"] or row["causes"]) for row in found),
        "causes": dict(counts.most_common()),
        "gives_up_with_default_limits": sum(row["gives_up"] for row in found),
    }


# -- the command -----------------------------------------------------------------------------------


def sources_of(
    tunes: list[str], samples: list[Path], n_texts: int, rng: random.Random
) -> dict[str, list[str]]:
    """Returns texts of each source, up to where they leave the limits."""
    grammar = TuneGrammar(lark_limits())
    written = [json.loads(line)["abc"] for file in samples for line in file.open(encoding="utf-8")]
    texts = {
        "real tunes": rng.sample(tunes, n_texts),
        "samples": rng.sample(written, min(n_texts, len(written))),
        "random walks": [random_walk(grammar, rng) for _ in range(n_texts)],
    }
    return {name: [legal_part(grammar, text) for text in own] for name, own in texts.items()}


def main(arguments: list[str] | None = None) -> int:
    """Print a table and write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="data/<dataset>/<preset>")
    parser.add_argument("--samples", type=Path, nargs="+", required=True, help="samples.jsonl")
    parser.add_argument("--char", type=int, default=9_000, help="beginnings, by characters")
    parser.add_argument("--bpe", type=int, default=1_000, help="beginnings, by byte pairs")
    parser.add_argument("--texts", type=int, default=100, help="of each source")
    parser.add_argument("--vocab-size", type=int, default=4096, help="of the byte pairs")
    parser.add_argument("--out", type=Path, default=Path("results/lark_masks.json"))
    options = parser.parse_args(arguments)
    rng, rows = random.Random(0), []
    tunes = real_tunes(options.data)
    sources = sources_of(tunes, options.samples, options.texts, rng)
    kinds = {"char": TokenSettings("char"), "bpe": TokenSettings("bpe", options.vocab_size)}
    for name, settings in kinds.items():
        tokenizer = train_tokenizer(tunes, settings, CONTEXT)
        pair = Pair(tokenizer, lark_grammar(tokenizer.eos_token_id))
        for place, (source, texts) in enumerate(sources.items()):
            # the first sources get one more where the number cannot be divided
            n = (getattr(options, name) + len(sources) - 1 - place) // len(sources)
            about = {"tokenizer": name, "vocab_size": len(tokenizer), "source": source}
            rows.append(about | measure(pair, texts, n, rng))
            print(json.dumps(rows[-1]), flush=True)
    n_prefixes, n_differing = (sum(row[name] for row in rows) for name in ("prefixes", "differing"))
    content = {
        "data": str(options.data),
        "llguidance": llguidance.__version__,
        "not_covered": [gap._asdict() for gap in NOT_COVERED],
        "prefixes": n_prefixes,
        "differing": n_differing,
        "masks": rows,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
    print(f"{n_differing:,} of {n_prefixes:,} masks differ -> {options.out}")
    return int(any(row["missing"] or UNEXPLAINED in row["causes"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
