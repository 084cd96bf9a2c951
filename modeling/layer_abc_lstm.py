"""One layer of the LSTM, and its state in the form that `generate` passes around.

Letters in shapes: B batch, T time (new tokens), C width.
"""

import torch
from torch import nn
from torch.nn.utils.rnn import (
    pack_padded_sequence,
    pack_sequence,
    pad_packed_sequence,
    unpack_sequence,
)
from transformers.cache_utils import Cache, DynamicLayer
from transformers.modeling_layers import GradientCheckpointingLayer

from .configuration_abc_lstm import AbcLSTMConfig


class AbcLSTMCacheLayer(DynamicLayer):
    """State of one layer: `keys` is its output h, `values` its cell c, both (B, C).

    Batch comes first, so the library's code for beams and repeated prompts works unchanged.
    """

    is_croppable = False

    def __init__(self) -> None:
        super().__init__()
        self.cumulative_length = 0

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, n_new: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Replace the state with the one after `n_new` more tokens."""
        self.keys, self.values = key_states, value_states
        self.dtype, self.device, self.is_initialized = key_states.dtype, key_states.device, True
        self.cumulative_length += n_new
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of tokens seen so far, including padding."""
        return self.cumulative_length

    def crop(self, tokens_to_remove: int) -> None:
        """Raise ValueError unless it is 0: the state before the last tokens is gone."""
        if tokens_to_remove:
            raise ValueError(f"crop({tokens_to_remove}) on a recurrent state; run the prompt again")


class AbcLSTMCache(Cache):
    """The recurrent state of all layers, in the form that `generate` passes around."""

    def __init__(self, config: AbcLSTMConfig) -> None:
        super().__init__(layers=[AbcLSTMCacheLayer() for _ in range(config.num_hidden_layers)])


class AbcLSTMLayer(GradientCheckpointingLayer):
    """One nn.LSTM that reads its state from the cache and writes it back."""

    def __init__(self, config: AbcLSTMConfig, layer_idx: int) -> None:
        super().__init__()
        self.layer_idx = layer_idx
        self.lstm = nn.LSTM(config.hidden_size, config.hidden_size, batch_first=True)

    def forward(
        self,
        hidden_states: torch.Tensor,
        past_key_values: AbcLSTMCache | None = None,
        is_token: torch.Tensor | None = None,
        is_start: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map (B, T, C) to (B, T, C).

        Args:
            hidden_states: (B, T, C).
            past_key_values: State before these T tokens; updated in place to the state after them.
            is_token: (B, T) bool, false at padding; `None` if nothing is padded.
            is_start: (B, T) bool, true where a text starts; `None` if each row is one text.

        Returns:
            (B, T, C), zero at padding.
        """
        state = None
        if past_key_values is not None and past_key_values.layers[self.layer_idx].is_initialized:
            layer = past_key_values.layers[self.layer_idx]
            state = (layer.keys[None], layer.values[None])  # (1, B, C) each
        if is_start is not None:
            output, state = self._run_packed(hidden_states, is_start)
        elif is_token is None:
            output, state = self.lstm(hidden_states, state)  # (B, T, C)
        else:
            output, state = self._run_padded(hidden_states, state, is_token)
        if past_key_values is not None:
            h, c = state
            past_key_values.update(h[0], c[0], self.layer_idx, hidden_states.shape[1])
        return output

    def _run_padded(
        self,
        hidden_states: torch.Tensor,
        state: tuple[torch.Tensor, torch.Tensor] | None,
        is_token: torch.Tensor,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run each row as if it had no padding, whichever side it is on.

        Zeroing the padded inputs is not enough: the biases would still change the state.
        """
        lengths = is_token.sum(1)  # (B,)
        order = (~is_token).to(torch.uint8).argsort(dim=1, stable=True)  # (B, T), tokens first
        index = order[..., None].expand_as(hidden_states)  # (B, T, C)
        packed = pack_padded_sequence(
            hidden_states.gather(1, index),
            lengths.clamp(min=1).cpu(),  # a row without tokens must still take a step
            batch_first=True,
            enforce_sorted=False,
        )
        packed, moved = self.lstm(packed, state)
        compact, _ = pad_packed_sequence(
            packed, batch_first=True, total_length=hidden_states.shape[1]
        )
        output = torch.zeros_like(compact).scatter(1, index, compact)  # (B, T, C)
        if state is None:
            state = (torch.zeros_like(moved[0]), torch.zeros_like(moved[1]))
        has_tokens = (lengths > 0)[None, :, None]  # ... but that step must not count
        h, c = (torch.where(has_tokens, *pair) for pair in zip(moved, state, strict=True))
        return output.masked_fill(~is_token[..., None], 0.0), (h, c)

    def _run_packed(
        self, hidden_states: torch.Tensor, is_start: torch.Tensor
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Run each text from an empty state; the new state is that of the last text of each row."""
        starts = is_start.flatten().nonzero().flatten()  # (number of texts,)
        n_tokens = torch.diff(starts, append=starts.new_tensor([is_start.numel()]))
        texts = hidden_states.flatten(0, 1).split(n_tokens.tolist())
        packed, state = self.lstm(pack_sequence(texts, enforce_sorted=False))
        output = torch.cat(unpack_sequence(packed)).view_as(hidden_states)
        last = is_start.sum(1).cumsum(0) - 1  # (B,)
        return output, (state[0][:, last], state[1][:, last])
