"""Fast sampling and greedy decoding in `generate` for an LSTM: one token per step.

nn.LSTM sets itself up for a sequence at each call, which takes longer than the one step needed.
Here a step is computed directly from the weights, and the tokens are the same as from the library's
loop (the logits up to rounding, since the order of summation differs). Anything else (an adapter, a
hook, returned scores, a user-supplied state) falls back to that loop automatically, see
`AbcLSTMForCausalLM`; to force it: `model.generate(..., custom_generate=GenerationMixin._sample)`.

Letters in shapes: B batch, T time (tokens so far), C width, V vocabulary.
"""

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from .arguments_abc import CACHE


class AbcLSTMDecoder:
    """Reads rows of tokens and returns the logits of the next ones, from the current weights.

    Args:
        model: A plain one, see `is_plain_model`, in float32 on the CPU.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.embedding, self.head = model.model.embed_tokens.weight, model.lm_head.weight
        names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        self.layers = [
            [getattr(layer.lstm, name) for name in names] for layer in model.model.layers
        ]
        # What each token adds to the first layer's gates, unless that exceeds the weights in size.
        self.table = None
        if self.embedding.shape[0] <= self.embedding.shape[1]:
            weight, _, *biases = self.layers[0]
            self.table = functional.linear(self.embedding, weight, sum(biases))  # (V, 4 * C)

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start, by the modules; return logits (B, V)."""
        output = self.model(input_ids, attention_mask, use_cache=True, logits_to_keep=1)
        self.states = [(layer.keys, layer.values) for layer in getattr(output, CACHE).layers]
        return output.logits[:, -1]

    def step(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Read the last token of rows (B, T), after the others were read; return logits (B, V)."""
        tokens, hidden = input_ids[:, -1], None
        for number, weights in enumerate(self.layers):
            if number == 0 and self.table is not None:
                state = self._look_up(tokens)
            else:
                hidden = functional.embedding(tokens, self.embedding) if number == 0 else hidden
                state = torch.lstm_cell(hidden, self.states[number], *weights)
            self.states[number], hidden = state, state[0]  # (B, C)
        return functional.linear(hidden, self.head)

    def _look_up(self, tokens: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the first layer's state after tokens (B,), by the table: h and c, (B, C) each."""
        hidden, cell = self.states[0]
        inputs = functional.embedding(tokens, self.table)  # (B, 4 * C)
        gates = torch.addmm(inputs, hidden, self.layers[0][1].t())
        take, keep, new, show = gates.chunk(4, dim=1)
        cell = torch.addcmul(take.sigmoid() * new.tanh(), keep.sigmoid(), cell)
        return show.sigmoid() * cell.tanh(), cell
