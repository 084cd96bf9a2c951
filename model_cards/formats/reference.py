"""What a published model computes in transformers: the reference for the files of other engines.

The texts are the model's own, so nothing but the folder is needed, and they are like those that it
will be used on.

Letters in shapes: T time (tokens of a text), V vocabulary.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.trainer_utils import set_seed

N_TEXTS = 8
N_GREEDY = 300  # tokens of the greedy tune, or as many as the positions allow


@dataclass(frozen=True)
class Text:
    """A text and what the model says of it.

    Attributes:
        text: Without the start token.
        ids: (T,) the start token and the text's tokens.
        logits: (T, V) float32, of the token after each of `ids`.
        exact: (T, V) the same, computed in float64.
    """

    text: str
    ids: list[int]
    logits: np.ndarray
    exact: np.ndarray

    @property
    def loss(self) -> float:
        """Nats of all tokens after the first."""
        return loss_of(self.logits, self.ids)


class Reference:
    """A stock model in float32 in transformers, its tokenizer, and texts of its own.

    Args:
        folder: A folder that transformers loads without remote code.
        gelu: What a GPT-2 computes instead of its own GELU; None for its own.
    """

    def __init__(self, folder: Path, gelu: nn.Module | None = None) -> None:
        self.folder = folder
        self.model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=False, dtype=torch.float32, attn_implementation="sdpa"
        ).eval()
        if gelu:
            for block in self.model.transformer.h:
                block.mlp.act = gelu
        self._exact = _in_float64(self.model)
        self.tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        self.start = self.tokenizer.bos_token_id
        self.context = self.model.config.max_position_embeddings

    @property
    def model_type(self) -> str:
        """`model_type` of config.json."""
        return self.model.config.model_type

    @cached_property
    def texts(self) -> list[Text]:
        """Texts sampled from the model, up to its context."""
        rows = sample_texts(self.model, self.tokenizer, self.context)
        texts = [self.tokenizer.decode(row[1:], skip_special_tokens=True) for row in rows]
        return [self.read(text) for text in texts if text]

    @torch.inference_mode()
    def read(self, text: str) -> Text:
        """Returns a text with its logits, cut to the context."""
        ids = self.encode(text)
        ids = [self.start, *ids][: self.context]
        row = torch.tensor([ids])
        # without a mask, the library warns of a padding token in a text
        given = {"input_ids": row, "attention_mask": torch.ones_like(row)}
        logits, exact = (model(**given).logits[0].numpy() for model in (self.model, self._exact))
        return Text(text, ids, logits, exact)

    @cached_property
    def rounding(self) -> float:
        """The largest error of a logit in transformers itself, which computes in float32."""
        return max(float(np.abs(text.logits - text.exact).max()) for text in self.texts)

    def encode(self, text: str) -> list[int]:
        """Returns the tokens of a text, without the start token."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    @cached_property
    @torch.inference_mode()
    def greedy(self) -> tuple[list[int], np.ndarray]:
        """The greedy tune after the start token, (T,), which goes on after an end token.

        With it, by how much each of its tokens led: (T,) differences of the two largest logits.
        """
        # a table of positions ends, the rotation of a Llama does not
        has_table = self.model_type == "gpt2"
        n_tokens = min(N_GREEDY, self.context - 1) if has_table else N_GREEDY
        ids, cache, leads = [self.start], None, []
        for _ in range(n_tokens):
            new, mask = torch.tensor([ids[-1:]]), torch.ones(1, len(ids), dtype=torch.long)
            out = self.model(new, attention_mask=mask, past_key_values=cache, use_cache=True)
            cache, best = out.past_key_values, out.logits[0, -1].topk(2)
            ids.append(int(best.indices[0]))
            leads.append(float(best.values[0] - best.values[1]))
        return ids[1:], np.array(leads)


class _ExactRotation(nn.Module):
    """The rotation of a Llama in float64; the library computes its angles in float32.

    Their rounding grows with the position: at 1,000 tokens, it is most of what the logits of a
    Llama differ by, in transformers as in other engines.
    """

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        halves = torch.arange(0, config.head_dim, 2, dtype=torch.float64)
        self.frequencies = config.rope_parameters["rope_theta"] ** -(halves / config.head_dim)

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Returns cosine and sine of the angles (B, T, D) at positions (B, T)."""
        angles = position_ids[..., None].double() * self.frequencies
        angles = torch.cat((angles, angles), -1)
        return angles.cos(), angles.sin()


def _in_float64(model: PreTrainedModel) -> PreTrainedModel:
    """Returns a copy of a model that computes in float64 throughout."""
    exact = copy.deepcopy(model).double()
    if model.config.model_type == "llama":
        exact.model.rotary_emb = _ExactRotation(model.config)
    return exact


def sample_texts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    n_tokens: int,
    goes_on: bool = False,
) -> torch.Tensor:
    """Returns texts that a model samples, the same each time: (`N_TEXTS`, up to `n_tokens`).

    Each begins with the start token.

    Args:
        model: Of any family.
        tokenizer: The model's.
        n_tokens: Of a text, at most.
        goes_on: Whether no text ends before it has as many.
    """
    kept_out = [tokenizer.pad_token_id, tokenizer.unk_token_id]
    torch_state = torch.get_rng_state()
    set_seed(1)
    start = torch.full((N_TEXTS, 1), tokenizer.bos_token_id)
    texts = model.generate(
        start,
        attention_mask=torch.ones_like(start),
        do_sample=True,
        max_length=n_tokens,
        max_new_tokens=None,
        suppress_tokens=kept_out + [tokenizer.eos_token_id] * goes_on,
    )
    torch.set_rng_state(torch_state)
    return texts


def loss_of(logits: np.ndarray, ids: Sequence[int]) -> float:
    """Returns the nats of all tokens after the first, given logits (T, V) after each of (T,)."""
    logits = logits[:-1].astype(np.float64)
    largest = logits.max(axis=1)
    total = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(logits)), list(ids[1:])]).sum())
