"""The model families: everything the project knows about each one is defined here, and only here.

Counts, colors, labels, checks of configs and records, and the way context is read derive from
`FAMILIES`. There is one other list, and a test keeps it in sync: `modeling/__init__.py`
registers the classes of our own families with transformers. Standard library only, because packages
that must not import each other read this file.

A class that ships with transformers becomes a family by an entry here and a size file in configs/:

    Family("neox", "GPT-NeoX", "gpt_neox", "attention",
           dropout_keys=("hidden_dropout", "attention_dropout"),
           settings=lambda model: {"intermediate_size": 4 * model["hidden_size"]})

One of our own also needs its files in modeling/. Letters: C width, L layers, I width of the MLP.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

OWN_PREFIX = "abc_"  # of model types whose code is in modeling/
LSTM_GATES = 4
LLAMA_ROUNDED_FROM = 96
WAYS = {"attention": "stride", "state": "carried"}


@dataclass(frozen=True)
class Look:
    """How a family is drawn; light and dark are the ends of its color map over the sizes."""

    colour: str
    marker: str
    line: str
    fill: str
    light: str
    dark: str


@dataclass(frozen=True)
class Family:
    """One model family.

    Attributes:
        name: In tables and files: the column arch, the prefix of its size files.
        label: In figures and prose.
        model_type: Of its config class in transformers.
        context: How past tokens are used: "attention" over a window of max_position_embeddings,
            whose cost grows with the window, or a "state" of fixed size.
        learns_positions: Whether each position has a row of trained parameters.
        layer_parameters: (C, L, I) -> weights in matrix products and weights in vectors, without
            embeddings, positions and head; None if they are counted from the built model.
        settings: Section model of a config -> what all sizes of the family share or derive from
            it, as keywords of the config class; keys of the section override it.
        dropout_keys: Names of the base config's `dropout` in the config class; empty if it has
            none.
        gpu_shares: (at least this C, at least this context, share of a GPU's bf16 peak that
            training reaches); the last row that matches is used; estimates, not measured.
        look: None uses the next free color.
    """

    name: str
    label: str
    model_type: str
    context: Literal["attention", "state"]
    learns_positions: bool = False
    layer_parameters: Callable[[int, int, int], tuple[int, int]] | None = None
    settings: Callable[[Mapping[str, Any]], dict[str, Any]] = lambda model: {}
    dropout_keys: tuple[str, ...] = ("dropout",)
    gpu_shares: tuple[tuple[int, int, float], ...] = ((1, 1, 0.25),)
    look: Look | None = None

    @property
    def way(self) -> str:
        """How evaluation.loss.context_use reads a song from start to end."""
        return WAYS[self.context]

    @property
    def is_stock(self) -> bool:
        """Whether its code ships with transformers."""
        return not self.model_type.startswith(OWN_PREFIX)

    def config_keys(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """The section model of a config as keywords of the family's config class.

        Raises:
            ValueError: If it asks for dropout and the class has none.
        """
        keys = {**self.settings(model), **model}
        if "dropout" in keys:
            rate = keys.pop("dropout")
            if rate and not self.dropout_keys:
                raise ValueError(f"model.dropout is {rate}, but {self.label} has none; set it to 0")
            keys = {**dict.fromkeys(self.dropout_keys, rate), **keys}
        return keys


def _gpt_parameters(width: int, layers: int, mlp_width: int) -> tuple[int, int]:
    """No bias anywhere; two LayerNorms per block and one at the end."""
    return layers * (4 * width * width + 2 * width * mlp_width), (2 * layers + 1) * width


def _llama_parameters(width: int, layers: int, mlp_width: int) -> tuple[int, int]:
    """As many key and value heads as query heads, a gated MLP, no bias; RMSNorm as in the GPT."""
    return layers * (4 * width * width + 3 * width * mlp_width), (2 * layers + 1) * width


def _llama_settings(model: Mapping[str, Any]) -> dict[str, Any]:
    """The stock class at the GPT's N: a gated MLP of three matrices is 2/3 as wide as one of two.

    MLP widths are multiples of 8, which kernels prefer, where that changes N only slightly.
    """
    width = model["hidden_size"]
    step = 8 if width >= LLAMA_ROUNDED_FROM else 1
    return {
        "intermediate_size": step * round(8 * width / (3 * step)),
        "num_key_value_heads": model.get("num_attention_heads"),
        "initializer_range": 0.5 / math.sqrt(width),  # equals the default, 0.02, at width 625
        "rms_norm_eps": 1.0e-5,
        "tie_word_embeddings": True,
    }


def _lstm_parameters(width: int, layers: int, mlp_width: int) -> tuple[int, int]:
    """Input and recurrent matrices, and PyTorch's two bias vectors; it has no MLP."""
    return layers * LSTM_GATES * width * (width + width), layers * 2 * LSTM_GATES * width


FAMILIES: dict[str, Family] = {}  # by name, in the order used by tables


def register(family: Family) -> None:
    """Adds a family.

    Raises:
        ValueError: If its name or its model type is already used.
    """
    for known in FAMILIES.values():
        if family.name == known.name or family.model_type == known.model_type:
            raise ValueError(
                f"family {family.name!r} of model type {family.model_type}: there is "
                f"{known.name!r} of {known.model_type} already; choose another name, and one "
                "family per model type"
            )
    FAMILIES[family.name] = family


register(
    Family(
        *("gpt", "GPT", "abc_gpt", "attention"),
        learns_positions=True,
        layer_parameters=_gpt_parameters,
        # a wide GPT fills a GPU if its context is long enough for large matrix products
        gpu_shares=(
            *((1, 1, 0.08), (256, 1, 0.14), (384, 1, 0.20), (512, 1, 0.25)),
            (768, 1024, 0.40),
        ),
        look=Look("#0072B2", "o", "-", "#0072B2", "#8CC4E6", "#00263D"),
    )
)
register(
    Family(
        *("lstm", "LSTM", "abc_lstm", "state"),
        layer_parameters=_lstm_parameters,
        gpu_shares=((1, 1, 0.08), (512, 1, 0.12)),
        look=Look("#D55E00", "s", "--", "white", "#F5B78A", "#4D1F00"),
    )
)
register(
    Family(
        *("llama", "Llama", "llama", "attention"),
        layer_parameters=_llama_parameters,
        settings=_llama_settings,
        dropout_keys=("attention_dropout",),
        gpu_shares=(
            *((1, 1, 0.08), (256, 1, 0.14), (384, 1, 0.20), (512, 1, 0.25)),
            (768, 1024, 0.40),
        ),
        look=Look("#009E73", "^", "-.", "#009E73", "#8FD9C3", "#003326"),
    )
)


def family_of(model_type: object) -> Family:
    """The family of a model type.

    Raises:
        ValueError: If there is none; names the known ones.
    """
    for family in FAMILIES.values():
        if family.model_type == model_type:
            return family
    known = ", ".join(family.model_type for family in FAMILIES.values())
    raise ValueError(f"model_type is {model_type!r}, expected one of {known}")


def name_of(model_type: str) -> str:
    """The name of a model type's family; one that is not ours keeps its own name."""
    names = {family.model_type: family.name for family in FAMILIES.values()}
    return names.get(model_type, model_type)


def label_of(name: str) -> str:
    """The family's name in prose; one that is not ours keeps its own name."""
    return FAMILIES[name].label if name in FAMILIES else name


def in_order(names: Iterable[str]) -> list[str]:
    """Unique names of families: ours in the order of the registry, then the others."""
    found = set(names)
    return [name for name in FAMILIES if name in found] + sorted(found - FAMILIES.keys())
