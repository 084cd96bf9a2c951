"""Our GPT -> GPT2LMHeadModel, a class that ships with transformers: needs no remote code.

Both compute the same: pre-norm blocks, learned positions, exact GELU, attention scaled by
1 / sqrt(D), a final norm. Ours has no biases, so GPT-2's are zero, and GPT-2's blocks store their
matrices transposed. Callers of `forward` must handle two things that `generate` does automatically:
with left padding, GPT-2 needs `position_ids`, and it cannot go beyond its context.

Letters in shapes: B batch, T time, V vocabulary.
"""

import json
import shutil
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files

import modeling

LARGEST_DIFFERENCE = 1e-5
NAMES = {
    "model.embed_tokens": "transformer.wte",
    "model.embed_positions": "transformer.wpe",
    "model.norm": "transformer.ln_f",
    "model.layers": "transformer.h",
    "input_layernorm": "ln_1",
    "attention.qkv_proj": "attn.c_attn",
    "attention.o_proj": "attn.c_proj",
    "post_attention_layernorm": "ln_2",
    "up_proj": "c_fc",
    "down_proj": "c_proj",
}
# GPT-2 computes x W where a Linear computes x W^T
TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def export_stock(source: Path, folder: Path) -> float:
    """Writes config and weights of a GPT as GPT-2, and the code of its pipeline if it has one.

    Args:
        source: Config, weights and code of the GPT, as `save_pretrained` writes them.
        folder: Where to write config.json and model.safetensors, without a tokenizer.

    Returns:
        The largest absolute difference between the two models' logits, in float32.

    Raises:
        ValueError: If the model is not a GPT, or the difference exceeds `LARGEST_DIFFERENCE`.
    """
    model_type = json.loads((source / "config.json").read_text("utf-8"))["model_type"]
    if model_type != modeling.AbcGPTConfig.model_type:
        raise ValueError(
            f"a model of type {model_type}, expected abc_gpt, the only type with a stock export; "
            "publish it without the stock export"
        )
    ours = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=False)
    gpt2 = _to_gpt2(ours)
    folder.mkdir(parents=True, exist_ok=True)
    # The project's pipeline works with any model class, so its code is included.
    gpt2.config.custom_pipelines = getattr(ours.config, "custom_pipelines", None) or {}
    for pipeline in gpt2.config.custom_pipelines.values():
        code = source / f"{pipeline['impl'].partition('.')[0]}.py"
        for file in (code, *get_relative_import_files(code)):
            shutil.copy(file, folder)
    gpt2.save_pretrained(folder)
    stock = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=False, dtype=torch.float32
    )
    difference = largest_difference(ours.float(), stock)
    if not difference <= LARGEST_DIFFERENCE:  # also true for NaN
        raise ValueError(
            f"logits of the stock export differ by {difference:.2g}, expected at most "
            f"{LARGEST_DIFFERENCE:g}; publish it without the stock export"
        )
    return difference


@torch.inference_mode()
def largest_difference(ours: PreTrainedModel, stock: PreTrainedModel) -> float:
    """Returns the largest logit difference on random inputs: long, short and padded."""
    ours, stock = ours.eval(), stock.eval()
    context, generator = ours.config.max_position_embeddings, torch.Generator().manual_seed(0)
    ids = torch.randint(ours.config.vocab_size, (3, context), generator=generator)  # (B, T)
    whole = torch.ones_like(ids)
    padded = whole.clone()
    for row, n_padding in enumerate((0, 1, context // 2)):
        padded[row, : min(n_padding, context - 1)] = 0
    differences = []
    for mask in (whole[:1], whole[:, : max(context // 3, 1)], padded):
        n_rows, length = mask.shape
        inputs = {"input_ids": ids[:n_rows, :length], "attention_mask": mask}
        positions = (mask.cumsum(-1) - 1).clamp(min=0)  # (B, T), counted as in `generate`
        logits = ours(**inputs).logits  # (B, T, V)
        difference = (stock(**inputs, position_ids=positions).logits - logits).abs()
        differences.append(difference[mask.bool()].max())
    return torch.stack(differences).max().item()


def _to_gpt2(ours: PreTrainedModel) -> GPT2LMHeadModel:
    """Returns the same model as a GPT-2."""
    config = ours.config
    same = (
        *("vocab_size", "layer_norm_epsilon", "initializer_range", "tie_word_embeddings"),
        *("pad_token_id", "bos_token_id", "eos_token_id"),
    )
    gpt2_config = GPT2Config(
        **{name: getattr(config, name) for name in same},
        n_positions=config.max_position_embeddings,
        n_embd=config.hidden_size,
        n_layer=config.num_hidden_layers,
        n_head=config.num_attention_heads,
        n_inner=config.intermediate_size,
        activation_function="gelu",  # the exact one; GPT-2's default is an approximation
        **dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), config.dropout),
    )
    gpt2 = GPT2LMHeadModel(gpt2_config).to(ours.dtype)
    weights = {name: torch.zeros_like(weight) for name, weight in gpt2.state_dict().items()}
    for name, weight in ours.state_dict().items():
        for own, of_gpt2 in NAMES.items():
            name = name.replace(own, of_gpt2)
        weights[name] = weight.T.contiguous() if name.endswith(TRANSPOSED) else weight
    gpt2.load_state_dict(weights)
    return gpt2
