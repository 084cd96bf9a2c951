"""Parameters and FLOPs from a model's dimensions: every convention is named and defined here.

Letters: C width, L layers, T context length, V vocabulary size, I width of the MLP (4 C if not
given).

Parameters. Formulas for a layer are with the family in `families`: GPT has no bias, not even in
LayerNorm; LSTM is PyTorch's layer with its two bias vectors; a family without a formula passes what
was counted from the built model. Embeddings are as wide as the hidden state. A tied head has no
bias and is counted once, as the token embedding. "Non-embedding" excludes token embedding,
positions and head, and includes norms and biases.

FLOPs. One multiply-add is 2 FLOPs; the backward pass costs twice the forward pass. Only matrix
products count: norms, softmax, activations and the LSTM's elementwise gates (about 30 C L) are
left out. A tied head adds no parameters, but its product with V does count. Attention
scores and their weighted sum follow one of two conventions: "full" counts all T keys for each
query, as PaLM does and as a dense kernel computes; "causal_mean" counts T / 2, the mean under a
causal mask, as Kaplan et al. do. Source: Kaplan et al. 2020 table 1; Chowdhery et al. 2022
appendix B.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from .families import Family, family_of

Attention = Literal["full", "causal_mean"]
# Dense bf16 FLOP/s; a board's name comes before the name of its chip. Source: NVIDIA's pages on the
# A100, H100 and H200, whose bf16 TFLOP/s are with sparsity, twice the dense ones: 624 for the A100,
# 1,979 for H100 and H200, 1,513 for the H100 PCIe, 1,671 for both NVL; rounded down.
PEAK_FLOPS = {
    **{"h100 pcie": 756e12, "h100 nvl": 835e12, "h200 nvl": 835e12},
    **{"a100": 312e12, "h100": 989e12, "h200": 989e12},
}


@dataclass(frozen=True)
class ModelShape:
    """The dimensions that determine N and C, named as in the model configs.

    Attributes:
        model_type: Model type of a registered family.
        hidden_size: C, also the width of the embeddings.
        num_hidden_layers: L.
        vocab_size: V.
        max_position_embeddings: T, rows of a table of learned positions, and the context at which
            attention is counted; not needed by a family that carries a state.
        intermediate_size: I of the MLP; None is 4 C.
        layer_parameters: What `Family.layer_parameters` returns, counted from the built model, for
            a family without a formula.

    Raises:
        ValueError: on an unknown model_type, a dimension below 1, attention without
            max_position_embeddings, or a family without a formula and without layer_parameters.
    """

    model_type: str
    hidden_size: int
    num_hidden_layers: int
    vocab_size: int
    max_position_embeddings: int | None = None
    intermediate_size: int | None = None
    layer_parameters: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.family.context == "attention" and self.max_position_embeddings is None:
            raise ValueError(
                f"{self.model_type} needs max_position_embeddings; give the block length"
            )
        if self.family.layer_parameters is None and self.layer_parameters is None:
            raise ValueError(
                f"{self.model_type} has no formula for its parameters; give layer_parameters as "
                "counted from the built model"
            )
        for field, value in vars(self).items():
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{field} is {value}, expected 1 or more")

    @property
    def family(self) -> Family:
        """The family of its model type."""
        return family_of(self.model_type)

    @property
    def weights(self) -> tuple[int, int]:
        """Weights in matrix products and in vectors, without embeddings, positions and head."""
        if self.layer_parameters is not None:
            return self.layer_parameters
        width = self.hidden_size
        mlp_width = self.intermediate_size or 4 * width
        return self.family.layer_parameters(width, self.num_hidden_layers, mlp_width)


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
    rows = shape.max_position_embeddings if shape.family.learns_positions else 0
    return ParameterCounts(
        token_embedding=shape.vocab_size * shape.hidden_size,
        positions=rows * shape.hidden_size,
        non_embedding=sum(shape.weights),
    )


def forward_flops_per_token(shape: ModelShape, attention: Attention = "full") -> int:
    """FLOPs of the forward pass per predicted token, at the full context length.

    Raises:
        ValueError: if attention is not one of the conventions.
    """
    if attention not in get_args(Attention):
        raise ValueError(
            f"attention is {attention!r}, expected one of {', '.join(get_args(Attention))}"
        )
    head = shape.vocab_size * shape.hidden_size
    matrices = 2 * (shape.weights[0] + head)
    if shape.family.context == "state":
        return matrices
    # scores and weighted sum: two products of width C with every counted key
    full = 4 * shape.num_hidden_layers * shape.hidden_size * shape.max_position_embeddings
    return matrices + (full if attention == "full" else full // 2)


def train_flops_per_token(shape: ModelShape, attention: Attention = "full") -> int:
    """FLOPs of forward and backward pass per predicted token; times D, the C of a run."""
    return 3 * forward_flops_per_token(shape, attention)


def flops_6nd(n_params_non_embedding: int, n_tokens: int) -> int:
    """Kaplan's estimate C = 6 N D, without head and attention; kept for comparison."""
    return 6 * n_params_non_embedding * n_tokens


def usual_share(model_type: str, width: int, context: int) -> float:
    """Expected model-FLOPs utilization (MFU) of a GPU in bf16, in (0, 1); estimated, not measured.

    Args:
        model_type: Model type.
        width: C.
        context: Block length T.
    """
    rows = reversed(family_of(model_type).gpu_shares)
    return next(share for least, long, share in rows if width >= least and context >= long)


def peak_flops(device: str) -> float | None:
    """Dense bf16 FLOP/s of a device by name, such as "NVIDIA H100 80GB HBM3"; else None.

    None also for a MIG slice, whose name does not state its share of the GPU.
    """
    device = device.lower()
    if " mig " in device:
        return None
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device), None)
