"""Configuration of the GPT family."""

import math
from typing import Any, ClassVar

from transformers import PreTrainedConfig


class AbcGPTConfig(PreTrainedConfig):
    """Shape of a pre-norm GPT with learned positions, GELU, no bias anywhere and a tied head.

    Args:
        vocab_size: Number of tokens, V.
        hidden_size: Width of the residual stream, C.
        num_hidden_layers: Number of blocks.
        num_attention_heads: Number of heads, H; divides `hidden_size`.
        intermediate_size: Inner width of the MLP; `None` means 4 * `hidden_size`.
        max_position_embeddings: Longest context in tokens.
        dropout: One rate in [0, 1) for embeddings, attention weights and both residual branches.
        layer_norm_epsilon: Added to the variance in LayerNorm.
        initializer_range: Standard deviation of the initial weights; for the two projections that
            write into the residual stream it is divided by sqrt(2 * `num_hidden_layers`). `None`
            means 0.5 / sqrt(`hidden_size`): about GPT-2's 0.02 at GPT-2's width, and no handicap
            for narrow models (width 64 after 2 million tokens: 1.013 nats per token, against 1.076
            with 0.02).
        use_cache: Whether `forward` returns keys and values by default.
        tie_word_embeddings: Whether the head is the transposed token embedding.
        pad_token_id: Id of the padding token.
        bos_token_id: Id of the token that opens a song.
        eos_token_id: Id of the token that ends a song.

    Raises:
        ValueError: If `num_attention_heads` does not divide `hidden_size`.
    """

    model_type = "abc_gpt"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]

    vocab_size: int = 64
    hidden_size: int = 128
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    intermediate_size: int | None = None
    max_position_embeddings: int = 256
    dropout: float | int = 0.0
    layer_norm_epsilon: float = 1e-5
    initializer_range: float | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive defaults from the width, and check the number of heads."""
        if self.intermediate_size is None:
            self.intermediate_size = 4 * self.hidden_size
        if self.initializer_range is None:
            self.initializer_range = 0.5 / math.sqrt(self.hidden_size)
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} and num_attention_heads "
                f"{self.num_attention_heads}: expected heads that divide the width; change one"
            )
        super().__post_init__(**kwargs)
