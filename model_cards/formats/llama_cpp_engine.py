"""llama.cpp with one GGUF file, on one thread of the CPU, with a cache in float32.

The package's class `Llama` cannot switch off repacked weights, so its C functions are called here.

Letters in shapes: T time, V vocabulary.
"""

import ctypes
import weakref
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import numpy as np


@llama_cpp.llama_log_callback
def _say_nothing(level: int, text: bytes, data: int) -> None:
    """Drops what llama.cpp logs."""


def _free(model: object, context: object, batch: object) -> None:
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)


class LlamaCppEngine:
    """See `Engine`.

    Args:
        file: A GGUF file.
        n_positions: The largest number of tokens in a text.

    Raises:
        ValueError: If llama.cpp cannot load the file.
    """

    name = "llama.cpp"

    def __init__(self, file: Path, n_positions: int) -> None:
        llama_cpp.llama_log_set(_say_nothing, ctypes.c_void_p())
        options = llama_cpp.llama_model_default_params()
        # On a CPU with AMX, Q8_0 weights that are repacked for it crashed narrow models.
        options.use_extra_bufts = False
        self.model = llama_cpp.llama_model_load_from_file(str(file).encode(), options)
        if not self.model:
            raise ValueError(f"llama.cpp cannot load {file.name}; publish without this format")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(self.vocab)
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = n_positions
        # Several threads wait for each other by spinning, and a small model gains nothing.
        settings.n_threads = settings.n_threads_batch = 1
        settings.type_k = settings.type_v = llama_cpp.GGML_TYPE_F32
        settings.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        self.batch = llama_cpp.llama_batch_init(n_positions, 0, 1)
        weakref.finalize(self, _free, self.model, self.context, self.batch)

    def encode(self, text: str, has_start: bool = False) -> list[int]:
        """Returns the tokens of a text, with what the file says to add if `has_start`."""
        given = text.encode()
        ids = (llama_cpp.llama_token * (len(given) + 2))()
        n_tokens = llama_cpp.llama_tokenize(
            self.vocab, given, len(given), ids, len(ids), has_start, False
        )
        return list(ids[:n_tokens])

    def decode(self, ids: Sequence[int]) -> str:
        """Returns the text of tokens."""
        given = (llama_cpp.llama_token * len(ids))(*ids)
        text = ctypes.create_string_buffer(32 * len(ids) + 32)
        n_bytes = llama_cpp.llama_detokenize(
            self.vocab, given, len(ids), text, len(text), False, False
        )
        return text.raw[:n_bytes].decode()

    def logits(self, ids: Sequence[int]) -> np.ndarray:
        """See `Engine`."""
        self._forget()
        return self._read(ids, 0)

    def greedy(self, start: int, n_tokens: int) -> list[int]:
        """See `Engine`."""
        self._forget()
        ids = [start]
        for i in range(n_tokens):
            ids.append(int(self._read(ids[-1:], i)[0].argmax()))
        return ids[1:]

    def _forget(self) -> None:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def _read(self, ids: Sequence[int], n_past: int) -> np.ndarray:
        """Returns the logits (T, V) after each of T tokens that follow `n_past` others."""
        batch = self.batch
        batch.n_tokens = len(ids)
        for i, token in enumerate(ids):
            batch.token[i], batch.pos[i], batch.logits[i] = token, n_past + i, True
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
        status = llama_cpp.llama_decode(self.context, batch)
        if status:
            raise ValueError(f"llama.cpp could not read {len(ids)} tokens: status {status}")
        found = llama_cpp.llama_get_logits(self.context)
        return np.ctypeslib.as_array(found, (len(ids), self.n_vocab)).copy()
