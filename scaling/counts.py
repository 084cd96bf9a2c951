"""Parameters and FLOPs from a model's dimensions: every convention is named and decided here.

Letters: C width, L layers, T context length, V vocabulary size, I width of the MLP (4 C if not
given).

Parameters. GPT: no bias anywhere, LayerNorm included; learned positions; tied head. LSTM:
PyTorch's layer with its two bias vectors, embeddings as wide as the hidden state; tied head
without bias. A tied head is counted once, as the token embedding. "Non-embedding" leaves out the
token embedding and the positions, and keeps the norms.

FLOPs. One multiply-add is 2 FLOPs; the backward pass costs twice the forward pass. Only matrix
products count: norms, softmax, activations and the LSTM's elementwise gates (about 30 C L) are
left out. A tied head costs no parameters of its own, but its product with V does count. Attention
scores and their weighted sum follow one of two conventions: "full" counts all T keys for each
query, as PaLM does and as a dense kernel computes; "causal_mean" counts T / 2, the mean that a
causal mask leaves, as Kaplan et al. do. Source: Kaplan et al. 2020 table 1; Chowdhery et al. 2022
appendix B.
"""

from dataclasses import dataclass
from typing import Literal, get_args

Attention = Literal["full", "causal_mean"]
MODEL_TYPES = ("abc_gpt", "abc_lstm")
LSTM_GATES = 4
# Dense bf16 FLOPs a second, by the makers' data sheets; a board's own name before that of its chip.
PEAK_FLOPS = {
    **{"h100 pcie": 756e12, "h100 nvl": 835e12, "h200 nvl": 835e12},
    **{"a100": 312e12, "h100": 989e12, "h200": 989e12},
}
# (from this width on, share of the peak that training reaches); estimates, not measured
USUAL_SHARES = {
    "abc_gpt": ((1, 0.08), (256, 0.14), (384, 0.20), (512, 0.25)),
    "abc_lstm": ((1, 0.08), (512, 0.12)),
}
# a wide GPT whose context is long enough for large products
LONG_CONTEXT, WIDE, WIDE_AND_LONG_SHARE = 1024, 768, 0.40


@dataclass(frozen=True)
class ModelShape:
    """The dimensions that decide N and C, under the names of the model configs.

    Attributes:
        model_type: "abc_gpt" or "abc_lstm".
        hidden_size: C, also the width of the embeddings.
        num_hidden_layers: L.
        vocab_size: V.
        max_position_embeddings: T, rows of the GPT's position table and context that attention is
            counted at; the LSTM has neither, so it needs none.
        intermediate_size: I of the GPT; None is 4 C.

    Raises:
        ValueError: on an unknown model_type, a dimension below 1, or a GPT without
            max_position_embeddings.
    """

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    max_position_embeddings: int | None = None
    intermediate_size: int | None = None

    def __post_init__(self) -> None:
        if self.model_type not in MODEL_TYPES:
            raise ValueError(
                f"model_type is {self.model_type!r}, expected one of {', '.join(MODEL_TYPES)}"
            )
        if self.model_type == "abc_gpt" and self.max_position_embeddings is None:
            raise ValueError("an abc_gpt needs max_position_embeddings; give the block length")
        for field in (
            "hidden_size",
            "num_hidden_layers",
            "vocab_size",
            "max_position_embeddings",
            "intermediate_size",
        ):
            value = getattr(self, field)
            if value is not None and value < 1:
                raise ValueError(f"{field} is {value}, expected 1 or more")


@dataclass(frozen=True)
class ParameterCounts:
    """Trained parameters by group; the tied head is the token embedding."""

    token_embedding: int
    positions: int
    non_embedding: int

    @property
    def total(self) -> int:
        """All trained parameters, the tied head counted once."""
        return self.token_embedding + self.positions + self.non_embedding


def count_parameters(shape: ModelShape) -> ParameterCounts:
    """Trained parameters of a model of this shape, by group."""
    width, layers = shape.hidden_size, shape.num_hidden_layers
    if shape.model_type == "abc_gpt":
        norms = (2 * layers + 1) * width
        return ParameterCounts(
            token_embedding=shape.vocab_size * width,
            positions=shape.max_position_embeddings * width,
            non_embedding=_layer_matrix_parameters(shape) + norms,
        )
    biases = layers * 2 * LSTM_GATES * width
    return ParameterCounts(
        token_embedding=shape.vocab_size * width,
        positions=0,
        non_embedding=_layer_matrix_parameters(shape) + biases,
    )


def forward_flops_per_token(shape: ModelShape, attention: Attention = "full") -> int:
    """FLOPs of the forward pass, per predicted token, at the full context length.

    Raises:
        ValueError: if attention is not a named convention.
    """
    if attention not in get_args(Attention):
        raise ValueError(
            f"attention is {attention!r}, expected one of {', '.join(get_args(Attention))}"
        )
    head = shape.vocab_size * shape.hidden_size
    matrices = 2 * (_layer_matrix_parameters(shape) + head)
    if shape.model_type == "abc_lstm":
        return matrices
    # scores and weighted sum: two products of width C with every key that is counted
    full = 4 * shape.num_hidden_layers * shape.hidden_size * shape.max_position_embeddings
    return matrices + (full if attention == "full" else full // 2)


def train_flops_per_token(shape: ModelShape, attention: Attention = "full") -> int:
    """FLOPs of forward and backward pass, per predicted token; times D it is the C of a run."""
    return 3 * forward_flops_per_token(shape, attention)


def flops_6nd(n_params_non_embedding: int, n_tokens: int) -> int:
    """Kaplan's estimate C = 6 N D, without head and attention; kept for comparison."""
    return 6 * n_params_non_embedding * n_tokens


def usual_share(model_type: str, width: int, context: int) -> float:
    """Model-FLOPs utilisation of a GPU to expect in bf16, in (0, 1); an estimate, not measured.

    Args:
        model_type: Of the model.
        width: C.
        context: Block length T.
    """
    if model_type == "abc_gpt" and width >= WIDE and context >= LONG_CONTEXT:
        return WIDE_AND_LONG_SHARE
    return next(share for least, share in reversed(USUAL_SHARES[model_type]) if width >= least)


def peak_flops(device: str) -> float | None:
    """Dense bf16 FLOPs a second of a device by its name, as "NVIDIA H100 80GB HBM3"; or None.

    A slice of a divided GPU has a share of them that its name does not say: None.
    """
    device = device.lower()
    if " mig " in device:
        return None
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device), None)


def _layer_matrix_parameters(shape: ModelShape) -> int:
    """Weights that take part in matrix products, without the head."""
    width, layers = shape.hidden_size, shape.num_hidden_layers
    if shape.model_type == "abc_lstm":
        return layers * LSTM_GATES * width * (width + width)  # input and recurrent matrices
    mlp_width = shape.intermediate_size or 4 * width
    return layers * (4 * width * width + 2 * width * mlp_width)
