"""A stock model -> GGUF files for llama.cpp, Ollama and their like, with the tokenizer inside.

llama.cpp's own converter accepts only tokenizers that it knows by name, so the file is written with
the package `gguf`. One tensor type per file: F32 for the check of the logits, F16 and Q8_0 to
publish. As in llama.cpp, vectors and learned positions stay F32, and in a Q8_0 file a matrix whose
rows are no multiple of the type's blocks is F16.

Letters in shapes: T time, V vocabulary.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType
from torch import nn
from transformers import PreTrainedModel

from .compare import check_close, check_same, count_same, largest_difference
from .gguf_tokenizer import add_tokenizer
from .llama_cpp_engine import LlamaCppEngine
from .reference import Reference

# Beside a GPT-2 with llama.cpp's own GELU: its table turns tiny differences into steps of a half.
LARGEST_WITH_TABLE = 5e-3
TABLE_END = 10.0  # beyond it, GELU is 0 or its argument
PUBLISHED = {Type.F16: LlamaFileType.MOSTLY_F16, Type.Q8_0: LlamaFileType.MOSTLY_Q8_0}
FILE_TYPES = {Type.F32: LlamaFileType.ALL_F32, **PUBLISHED}
ARCHITECTURES = {"gpt2": gguf.MODEL_ARCH.GPT2, "llama": gguf.MODEL_ARCH.LLAMA}


def write_gguf(reference: Reference, folder: Path, name: str) -> dict[str, str]:
    """Writes `<name>-F16.gguf` and `<name>-Q8_0.gguf` and checks them in llama.cpp.

    Args:
        reference: The published model.
        folder: Where to write.
        name: The name of the model.

    Returns:
        File -> what the check found.

    Raises:
        ValueError: If llama.cpp reads texts as other tokens, or computes something else.
    """
    found = {}
    n_positions = max(reference.context, 1 + len(reference.greedy[0]))
    with TemporaryDirectory(dir=folder) as temporary:
        file = Path(temporary) / f"{name}-F32.gguf"
        export(reference, file, Type.F32, name)
        engine = LlamaCppEngine(file, n_positions)
        check_tokens(engine, reference)
        full = _check_full(engine, reference)
    for kind in PUBLISHED:
        file = folder / f"{name}-{kind.name}.gguf"
        export(reference, file, kind, name)
        cost = check_close(LlamaCppEngine(file, n_positions), reference, file.name)
        found[file.name] = f"{kind.name}: {cost:+.4f} nats per token"
        if kind is Type.F16:
            found[file.name] += f"; the same in F32: {full}"
    return found


class TableGelu(nn.Module):
    """The GELU of llama.cpp on CPUs: the tanh approximation, from a table in half precision."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the values of x, of any shape."""
        rounded = x.half().float()  # the place in the table
        values = nn.functional.gelu(rounded, approximate="tanh").half().to(x.dtype)
        return torch.where(x <= -TABLE_END, 0, torch.where(x >= TABLE_END, x, values))


def _check_full(engine: LlamaCppEngine, reference: Reference) -> str:
    """Checks a file in full precision; a GPT-2 beside one with llama.cpp's GELU.

    Returns:
        What was found.

    Raises:
        ValueError: If llama.cpp computes something else.
    """
    if reference.model_type != "gpt2":
        return check_same(engine, reference)
    with_table = Reference(reference.folder, TableGelu())
    with_table.texts = [with_table.read(text.text) for text in reference.texts]
    found = check_same(engine, with_table, LARGEST_WITH_TABLE)
    difference, n_same = largest_difference(engine, reference.texts), count_same(engine, reference)
    return (
        f"with llama.cpp's GELU, {found}; with the exact GELU, logits within {difference:.1e}, and "
        f"the tune equal for {n_same:,} tokens"
    )


def export(reference: Reference, file: Path, kind: Type, name: str) -> None:
    """Writes one file.

    Args:
        reference: The published model.
        file: Where to write.
        kind: The type of the matrices.
        name: The name of the model in the file.
    """
    model = reference.model
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[ARCHITECTURES[reference.model_type]])
    writer.add_name(name)
    writer.add_file_type(FILE_TYPES[kind])
    _add_shape(writer, model.config)
    add_tokenizer(writer, reference.tokenizer)
    for tensor, values in tensors(model).items():
        own = _type_of(tensor, values, kind)
        writer.add_tensor(tensor, gguf.quants.quantize(values, own), raw_dtype=own)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Returns the weights under llama.cpp's names and in its layout, in float32."""
    config = model.config
    names = gguf.get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    # A GPT-2 stores the transposes of its matrices.
    transposed = ("c_attn.weight", "c_fc.weight", "c_proj.weight")
    found = {}
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        values = weight.float().numpy()
        if config.model_type == "gpt2" and name.endswith(transposed):
            values = values.T
        if name.endswith("q_proj.weight"):
            values = _rotated(values, config.num_attention_heads)
        elif name.endswith("k_proj.weight"):
            values = _rotated(values, config.num_key_value_heads)
        found[names.get_name(name, try_suffixes=(".weight", ".bias"))] = np.ascontiguousarray(
            values
        )
    return found


def _rotated(values: np.ndarray, n_heads: int) -> np.ndarray:
    """Reorders rows: llama.cpp rotates neighbors, transformers the halves of a head."""
    halves = values.reshape(n_heads, 2, -1, values.shape[1])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _type_of(name: str, values: np.ndarray, kind: Type) -> Type:
    if values.ndim == 1 or name.startswith("position_embd"):
        return Type.F32
    block = gguf.GGML_QUANT_SIZES[kind][0]
    return kind if values.shape[-1] % block == 0 else Type.F16


def _add_shape(writer: gguf.GGUFWriter, config: object) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def check_tokens(engine: LlamaCppEngine, reference: Reference) -> None:
    """Checks that llama.cpp reads texts as the same tokens.

    Raises:
        ValueError: If it does not.
    """
    for text in reference.texts:
        if engine.encode(text.text) != reference.encode(text.text):
            raise ValueError(
                f"llama.cpp reads the text {text.text[:40]!r}... as other tokens: it has no way to "
                "split text like this model's tokenizer; publish without this format"
            )
