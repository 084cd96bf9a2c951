"""lm-evaluation-harness: bits per byte of tunes within the context, beside a plain loss."""

import math

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from report import report, songs
from transformers import AutoModelForCausalLM, AutoTokenizer

LARGEST_SHARE = 1e-3
N_TUNES = 50


def check(folder: str, trust: bool, context: int) -> str:
    """Compares bits per byte."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text for text in songs() if len(tokenizer(text)["input_ids"]) <= context][:N_TUNES]
    # it puts a start token before each text, and would let the tokenizer add another
    options = {"add_bos_token": False, "device": "cpu", "batch_size": 1, "dtype": "float32"}
    evaluated = HFLM(folder, trust_remote_code=trust, **options)
    requests = [
        Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=i)
        for i, text in enumerate(texts)
    ]
    theirs = -sum(evaluated.loglikelihood_rolling(requests, disable_tqdm=True))
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()
    ours = 0.0
    with torch.inference_mode():
        for text in texts:
            ids = tokenizer(text, return_tensors="pt")["input_ids"]  # with the start token
            ours += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    n_bits = math.log(2) * sum(len(text.encode()) for text in texts)
    found = f"{theirs / n_bits:.5f} bits per byte, ours {ours / n_bits:.5f}, {len(texts)} tunes"
    if abs(theirs / ours - 1) > LARGEST_SHARE:
        raise ValueError(found)
    return found


report(check)
