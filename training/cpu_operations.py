"""Faster training on a CPU: three operations that make fewer passes over memory.

They match the library's own up to rounding, and are used only during training: the saved model is
the stock class. A GPU does not need them, since it compiles a block into few kernels.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import FunctionCtx, once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.models.llama import modeling_llama

ATTENTION = "sdpa_in_fp32"


@contextmanager
def quick_operations(model: PreTrainedModel, is_compiled: bool = False) -> Iterator[None]:
    """Use them for an uncompiled model on a CPU; otherwise do nothing."""
    with ExitStack() as until_trained:
        if model.device.type == "cpu" and not is_compiled:
            for of, name, ours in (
                (modeling_llama.LlamaRMSNorm, "forward", _rms_norm),
                (modeling_llama, "apply_rotary_pos_emb", _rotate),
            ):
                until_trained.enter_context(patch.object(of, name, ours))
            if model.config._attn_implementation == "sdpa":
                model.set_attn_implementation(ATTENTION)
                until_trained.callback(model.set_attn_implementation, "sdpa")
        yield


def attention_in_fp32(
    module: torch.nn.Module, *query_key_value: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, None]:
    """The library's attention in fp32, even under bf16, for which torch's CPU kernel is slower."""
    (query, key, value), rest = query_key_value[:3], query_key_value[3:]
    with torch.autocast("cpu", enabled=False):
        return sdpa_attention_forward(
            module, query.float(), key.float(), value.float(), *rest, **options
        )


AttentionInterface.register(ATTENTION, attention_in_fp32)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


class RMSNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + epsilon) over the last axis; x (..., C), w (C,), in fp32."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: FunctionCtx, x: torch.Tensor, weight: torch.Tensor, epsilon: float
    ) -> torch.Tensor:
        """Save x / sqrt(...) and the inverse root."""
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = size.square_().mul_(1 / x.shape[-1]).add_(epsilon).rsqrt_()
        normed = x * scale
        ctx.save_for_backward(normed, weight, scale)
        return normed * weight

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        """Gradient in x: scale (w dy - n mean(n w dy)), where n = x scale."""
        normed, weight, scale = ctx.saved_tensors
        by_weight = gradient * normed
        along = (by_weight @ weight).unsqueeze(-1)  # sum of n w dy
        by_x = (gradient * weight).addcmul_(normed, along, value=-1 / normed.shape[-1])
        return by_x.mul_(scale), by_weight.flatten(0, -2).sum(0), None


class Rotation(torch.autograd.Function):
    """Rotates each pair x_i, x_{i + D/2} by the angle of cos_i and sin_i; x (..., T, D) fp32."""

    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.float32)
    def forward(
        ctx: FunctionCtx, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> torch.Tensor:
        """cos, sin: (..., T, D / 2)."""
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin)

    @staticmethod
    @once_differentiable
    @custom_bwd(device_type="cpu")
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """Rotate back by the same angle."""
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, -sin), None, None


def _turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    turned = torch.empty_like(x)
    (first, second), half = x.chunk(2, dim=-1), x.shape[-1] // 2
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned[..., half:]).addcmul_(first, sin)
    return turned


def _rms_norm(module: Any, hidden_states: torch.Tensor) -> torch.Tensor:
    """Replacement for LlamaRMSNorm.forward."""
    normed = RMSNorm.apply(hidden_states, module.weight, module.variance_epsilon)
    return normed.to(hidden_states.dtype)


def _rotate(
    q: torch.Tensor,
    k: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    unsqueeze_dim: int = 1,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replacement for apply_rotary_pos_emb, whose cos and sin contain the same half twice."""
    half = cos.shape[-1] // 2
    cos, sin = (each[..., :half].unsqueeze(unsqueeze_dim) for each in (cos, sin))
    in_fp32 = {"dtype": torch.float32, "memory_format": torch.contiguous_format}
    return Rotation.apply(q.to(**in_fp32), cos, sin), Rotation.apply(k.to(**in_fp32), cos, sin)
