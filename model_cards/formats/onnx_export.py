"""A stock model -> onnx/: full precision and int8, in the layout that transformers.js loads.

`onnx/model.onnx` reads T new tokens after S - T tokens of a cache of keys and values:

    input_ids, position_ids    (B, T) int64
    attention_mask             (B, S) int64, 0 at padding
    past_key_values.<layer>.key, .value     (B, H, S - T, D) float32; empty at the start
    -> logits (B, T, V), present.<layer>.key, .value (B, H, S, D)

Letters in shapes: B batch, T new tokens, S all tokens, H heads of keys, D head width, V vocabulary.
"""

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from .compare import check_close, check_same
from .reference import Reference

FOLDER = "onnx"
FULL, INT8 = f"{FOLDER}/model.onnx", f"{FOLDER}/model_quantized.onnx"
OPSET = 20
KEPT = "attn.c_proj.weight"  # the end of the names of weights that are not quantized
BATCH = "batch_size"  # transformers.js makes the empty cache by this name


def write_onnx(reference: Reference, folder: Path) -> dict[str, str]:
    """Writes both files into a published folder and checks them in ONNX Runtime.

    Returns:
        File -> what the check found.

    Raises:
        ValueError: If ONNX Runtime computes something else.
    """
    (folder / FOLDER).mkdir()
    export(reference.model, folder / FULL)
    found = check_same(OnnxEngine(folder / FULL), reference)
    quantize(folder / FULL, folder / INT8)
    cost = check_close(OnnxEngine(folder / INT8), reference, INT8)
    return {
        FULL: f"float32: {found}",
        INT8: f"int8: {cost:+.4f} nats per token",
    }


class _WithCache(nn.Module):
    """A model whose cache is a flat list of tensors, and whose mask is computed in plain steps."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Returns logits, then key and value of each layer; shapes as in the module docstring."""
        pairs = [(past[i], past[i + 1]) for i in range(0, len(past), 2)]
        cache = DynamicCache(pairs)
        new = past[0].shape[2] + torch.arange(input_ids.shape[1])  # (T,)
        is_seen = torch.arange(attention_mask.shape[1]) <= new[:, None]  # (T, S)
        is_seen = is_seen[None, None] & attention_mask.bool()[:, None, None]  # (B, 1, T, S)
        # Finite, since a padded row sees nothing, and the softmax of nothing but -inf is NaN.
        mask = torch.where(is_seen, 0.0, torch.finfo(torch.float32).min)
        out = self.model(
            input_ids,
            attention_mask=mask,
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        )
        state = [part for layer in cache.layers for part in (layer.keys, layer.values)]
        return (out.logits, *state)


def export(model: PreTrainedModel, file: Path) -> None:
    """Writes a model in float32 as one ONNX file."""
    config = model.config
    n_layers = config.num_hidden_layers
    n_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    width = getattr(config, "head_dim", config.hidden_size // config.num_attention_heads)
    kinds = [f"{i}.{kind}" for i in range(n_layers) for kind in ("key", "value")]
    n_rows, n_past, n_new = 2, 3, 4  # an example; none of them 1, which would become a constant
    example = {
        "input_ids": torch.zeros(n_rows, n_new, dtype=torch.long),
        "attention_mask": torch.ones(n_rows, n_past + n_new, dtype=torch.long),
        "position_ids": torch.arange(n_past, n_past + n_new).repeat(n_rows, 1),
        "past": [torch.zeros(n_rows, n_heads, n_past, width) for _ in kinds],
    }
    new, every = {0: BATCH, 1: "sequence_length"}, {0: BATCH, 1: "total_sequence_length"}
    # of the exporter: about its own internals, and operators of torchvision
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _WithCache(model),
            kwargs=example,
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=["input_ids", "attention_mask", "position_ids"]
            + [f"past_key_values.{kind}" for kind in kinds],
            output_names=["logits", *(f"present.{kind}" for kind in kinds)],
            dynamic_shapes={
                "input_ids": new,
                "attention_mask": every,
                "position_ids": new,
                "past": [{0: BATCH, 2: "past_sequence_length"} for _ in kinds],
            },
        )
        program.save(file, external_data=False)


def quantize(source: Path, target: Path) -> None:
    """Writes a file with int8 weights, one scale per column.

    The projections after a GPT-2's attention stay in float32: their inputs have few large values,
    and make up a third of what int8 costs (.009 to .006 nats per token at width 128), at 14 % of
    the size.
    """
    nodes = onnx.load(source, load_external_data=False).graph.node
    kept = [node.name for node in nodes if any(name.endswith(KEPT) for name in node.input)]
    quantize_dynamic(
        source,
        target,
        weight_type=QuantType.QInt8,
        per_channel=True,
        nodes_to_exclude=[f"{name}_MatMul" for name in kept],  # as a Gemm is called inside
        extra_options={"DefaultTensorType": 1},
    )


class OnnxEngine:
    """ONNX Runtime with one file, on the CPU."""

    name = "ONNX Runtime"

    def __init__(self, file: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors
        self.session = onnxruntime.InferenceSession(
            file, options, providers=["CPUExecutionProvider"]
        )
        inputs = {each.name: each.shape for each in self.session.get_inputs()}
        self.cache_shapes = {k: v for k, v in inputs.items() if k.startswith("past_key_values.")}

    def run(
        self, ids: np.ndarray, mask: np.ndarray, cache: dict[str, np.ndarray] | None
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Reads tokens after a cache.

        Args:
            ids: (B, T) int64 new tokens.
            mask: (B, S) int64, 0 at padding.
            cache: From the last call; None at the start.

        Returns:
            Logits (B, T, V) and the cache.
        """
        if cache is None:
            cache = {
                name: np.zeros((len(ids), shape[1], 0, shape[3]), np.float32)
                for name, shape in self.cache_shapes.items()
            }
        positions = (mask.cumsum(1) - 1).clip(0)[:, -ids.shape[1] :]  # (B, T)
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits, *state = self.session.run(None, given | cache)
        return logits, dict(zip(cache, state, strict=True))

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """See `Engine`."""
        row = np.array([ids], np.int64)
        return self.run(row, np.ones_like(row), None)[0][0]

    def greedy(self, start: int, n_tokens: int) -> list[int]:
        """See `Engine`."""
        ids, cache = [start], None
        for _ in range(n_tokens):
            row = np.array([ids[-1:]], np.int64)
            logits, cache = self.run(row, np.ones((1, len(ids)), np.int64), cache)
            ids.append(int(logits[0, -1].argmax()))
        return ids[1:]
