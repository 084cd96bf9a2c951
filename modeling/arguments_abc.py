"""Keyword arguments of `forward`, whatever names the installed release of transformers gives them.

The library renames its arguments: `generate` passes the cache as `cache` from 5.24 on, and as
`past_key_values` before. A model that ignores a name it does not know reads each token without
those before it and writes noise, with no warning. So both names are accepted; unknown names are
rejected.
"""

from typing import Any

import transformers
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast
from transformers.utils import TransformersKwargs

# Lowest and newest release with which both families pass their tests: `make test-lowest`,
# `make test-newest`. The lowest is also the minimum in pyproject.toml.
TRIED_TRANSFORMERS = ("5.20.0", "5.24.0")
# The name of the cache in the inputs and outputs of the installed release.
CACHE = "cache" if "cache" in BaseModelOutputWithPast.__dataclass_fields__ else "past_key_values"
# Attention arguments of `generate_batch`, and those of flex attention.
ATTENTION_ARGUMENTS = {"block_table", "logits_indices", "logits_processor_args"}
ATTENTION_ARGUMENTS |= {"read_index", "write_index", "kernel_options"}
KNOWN_ARGUMENTS = ATTENTION_ARGUMENTS | TransformersKwargs.__annotations__.keys()


def sort_arguments(
    model_name: str, past_key_values: Any, cache: Any, others: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Returns the cache and the arguments to pass on to the layers.

    Args:
        model_name: For the error message.
        past_key_values: The cache under its name before 5.24, or None.
        cache: The cache under its name from 5.24 on, or None.
        others: All arguments that `forward` does not name.

    Returns:
        The cache or None, and those of `others` that are not None.

    Raises:
        ValueError: If both caches are given, or one of `others` is unknown. Arguments that are
            None are dropped.
    """
    if past_key_values is not None and cache is not None:
        raise ValueError(
            "past_key_values and cache are two names of one argument, and both are given; pass one"
        )
    others = {name: value for name, value in others.items() if value is not None}
    unknown = sorted(others.keys() - KNOWN_ARGUMENTS)
    if unknown:
        raise ValueError(
            f"{model_name} got {', '.join(unknown)}, which it does not know; transformers "
            f"{transformers.__version__} is installed, {' to '.join(TRIED_TRANSFORMERS)} were "
            "tried with this model: leave the argument out, or install one of these"
        )
    if CACHE != "cache" and cache is not None and not isinstance(cache, Cache):
        # Before 5.24 the attention of `generate_batch` fills its cache itself.
        return None, {**others, "cache": cache}
    return (cache if past_key_values is None else past_key_values), others
