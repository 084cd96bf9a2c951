"""Configuration of the LSTM family."""

from typing import Any, ClassVar

from transformers import PreTrainedConfig


class AbcLSTMConfig(PreTrainedConfig):
    """Shape of a stack of LSTM layers whose embedding is as wide as its state, with a tied head.

    Args:
        vocab_size: Number of tokens, V.
        hidden_size: Width of the embedding and of every layer's state, C.
        num_hidden_layers: Number of LSTM layers.
        dropout: Rate in [0, 1) between layers, not after the last one.
        initializer_range: Initial standard deviation of the embedding (and of an untied head);
            `None` means 5 / sqrt(`hidden_size`), token vectors of norm 5. With the usual 0.02 an
            LSTM barely learns (no norm layer restores the scale of its input), and one constant for
            all widths would favor some of them: the best was 1.0 at width 24, 0.3 at width 304.
        use_cache: Whether `forward` returns the recurrent state by default.
        tie_word_embeddings: Whether the head is the transposed token embedding.
        pad_token_id: Id of the padding token.
        bos_token_id: Id of the token that opens a song.
        eos_token_id: Id of the token that ends a song.
    """

    model_type = "abc_lstm"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values", "cache"]

    vocab_size: int = 64
    hidden_size: int = 256
    num_hidden_layers: int = 2
    dropout: float | int = 0.0
    initializer_range: float | None = None
    use_cache: bool = True
    tie_word_embeddings: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        """Derive the default scale of the embedding from the width."""
        if self.initializer_range is None:
            self.initializer_range = 5 / self.hidden_size**0.5
        super().__post_init__(**kwargs)
