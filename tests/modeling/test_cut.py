"""Top-k, top-p and min-p of the legal tokens, decided without the whole mask."""

import itertools
import math

import torch
from transformers import MinPLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from modeling.grammar_abc_cut import Cut, Head

SETTINGS = [
    Cut(top_k, top_p, min_p)
    for top_k, top_p, min_p in itertools.product((0, 1, 4), (1.0, 0.9, 0.4), (0.0, 0.1))
]


def kept_by_the_library(cut, scores, legal):
    masked = scores.masked_fill(~legal, -math.inf)[None]
    if cut.top_k:
        masked = TopKLogitsWarper(cut.top_k)(None, masked)
    if cut.top_p < 1.0:
        masked = TopPLogitsWarper(cut.top_p)(None, masked)
    if cut.min_p:
        masked = MinPLogitsWarper(cut.min_p)(None, masked)
    return masked[0] > -math.inf


def head_of(scores, legal, asked, n_tokens):
    chances, tokens = scores.softmax(-1).topk(n_tokens)
    rest = max(0.0, 1.0 - float(chances.sum()))

    def is_legal(token):
        asked.append(token)
        return bool(legal[token])

    return Head(tokens.tolist(), chances.tolist(), rest, is_legal)


def test_a_token_is_kept_as_by_the_library_or_the_whole_mask_must_tell():
    generator, n_unsure, n_all = torch.Generator().manual_seed(0), 0, 0
    for _ in range(40):
        scores = 2 * torch.randn(30, generator=generator)
        legal = torch.rand(30, generator=generator) < 0.6
        for cut in SETTINGS:
            kept = kept_by_the_library(cut, scores, legal)
            for n_tokens in (30, 12):
                head = head_of(scores, legal, [], n_tokens)
                for token in legal.nonzero()[:, 0].tolist():
                    decision = cut.keeps(token, head)
                    assert decision in (None, bool(kept[token])), (cut, token)
                    is_sure = n_tokens == 30 or token in head.tokens
                    n_unsure += decision is None and n_tokens == 30
                    n_all += is_sure
    assert n_unsure < n_all / 100


def test_equal_probabilities_are_left_to_the_whole_mask():
    scores = torch.tensor([1.0, 1.0, 0.0])
    head = head_of(scores, torch.ones(3, dtype=torch.bool), [], 3)
    assert Cut(top_k=1).keeps(0, head) is Cut(top_k=1).keeps(1, head) is None


def test_a_likely_token_is_kept_without_asking_the_grammar():
    scores, asked = torch.arange(30.0).flip(0), []
    head = head_of(scores, torch.ones(30, dtype=torch.bool), asked, 30)
    assert Cut(top_k=4).keeps(2, head)
    assert asked == []
