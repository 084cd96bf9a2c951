"""Fast sampling and greedy decoding in `generate` for an LSTM.

nn.LSTM sets itself up for a sequence at each call, which takes longer than the one step needed.
Here a step is computed directly from the weights, and the tokens are the same as from the library's
loop (the logits up to rounding, since the order of summation differs). Anything else (an adapter, a
hook, returned scores, a user-supplied state) falls back to that loop automatically, see
`AbcLSTMForCausalLM`; to force it: `model.generate(..., custom_generate=GenerationMixin._sample)`.

Letters in shapes: B batch, T time (tokens so far), N new tokens, C width,
V vocabulary.
"""

import torch
from transformers import PreTrainedModel

from .arguments_abc import CACHE
from .decoding_abc_cache import laid_out


class AbcLSTMDecoder:
    """Reads rows of tokens and returns the logits of the next ones, from the current weights.

    Args:
        model: A plain one, see `is_plain_model`, in float32 on the CPU.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.embedding, self.head = model.model.embed_tokens.weight, laid_out(model.lm_head.weight)
        self.layers = [
            (
                laid_out(layer.lstm.weight_ih_l0),
                laid_out(layer.lstm.weight_hh_l0),
                layer.lstm.bias_ih_l0 + layer.lstm.bias_hh_l0,
            )
            for layer in model.model.layers
        ]
        # What each token adds to the first layer's gates, unless that exceeds the weights in size.
        self.table = None
        if self.embedding.shape[0] <= self.embedding.shape[1]:
            weight, _, bias = self.layers[0]
            self.table = torch.addmm(bias, self.embedding, weight)  # (V, 4 * C)

    def read(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None) -> torch.Tensor:
        """Read rows (B, T) from the start, by the modules; return logits (B, V)."""
        output = self.model(input_ids, attention_mask, use_cache=True, logits_to_keep=1)
        self.states = [(layer.keys, layer.values) for layer in getattr(output, CACHE).layers]
        return output.logits[:, -1]

    def step(self, input_ids: torch.Tensor, n_new: int = 1) -> torch.Tensor:
        """Read the last N tokens of rows (B, T), after the others; return logits (B, V)."""
        n_rows = len(input_ids)
        tokens = input_ids[:, -n_new:].t().flatten()  # (N * B,)
        table = self.embedding if self.table is None else self.table
        outputs = torch.embedding(table, tokens)
        for number, (input_weight, hidden_weight, bias) in enumerate(self.layers):
            is_table = number == 0 and self.table is not None
            gates = outputs if is_table else torch.addmm(bias, outputs, input_weight)
            outputs = [
                self._next(number, inputs, hidden_weight) for inputs in gates.split(n_rows)
            ]  # N of (B, C)
            outputs = outputs[0] if n_new == 1 else torch.cat(outputs)
        return torch.mm(outputs[-n_rows:], self.head)

    def _next(self, number: int, inputs: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Advance a layer by one token, given its inputs' part of the gates (B, 4 * C): (B, C)."""
        hidden, cell = self.states[number]
        gates = torch.addmm(inputs, hidden, weight)
        take, keep, _, show = gates.sigmoid().chunk(4, dim=1)
        new = gates.chunk(4, dim=1)[2].tanh()
        cell = torch.addcmul(take * new, keep, cell)
        hidden = show * cell.tanh()
        self.states[number] = hidden, cell
        return hidden
