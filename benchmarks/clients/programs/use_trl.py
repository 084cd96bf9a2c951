"""TRL's trainers with their defaults, but for `max_length`: SFT, DPO and GRPO, two steps each.

SFT reads the published songs.
"""

import os
import tempfile

from datasets import Dataset, load_dataset
from report import report
from transformers import AutoTokenizer
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

N_SONGS = 16
HEADER = "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\n"


def check(folder: str, trust: bool, context: int) -> str:
    """Trains by all three; each row of SFT must begin with the start token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    options = {"max_steps": 2, "per_device_train_batch_size": 2, "use_cpu": True}
    options |= {"report_to": [], "save_strategy": "no", "bf16": False}
    load = {"model_init_kwargs": {"trust_remote_code": trust, "dtype": "float32"}}
    songs = load_dataset(os.environ["SONGS"], split="validation").select(range(N_SONGS))
    pairs = Dataset.from_dict(
        {"prompt": [HEADER] * 8, "chosen": ["V:1\n"] * 8, "rejected": ["K:C\n"] * 8}
    )
    losses = []
    with tempfile.TemporaryDirectory() as place:
        own = {"output_dir": place, **options, **load}
        settings = SFTConfig(max_length=context, dataset_text_field="abc", **own)
        sft = SFTTrainer(folder, settings, train_dataset=songs)
        for ids in sft.train_dataset["input_ids"]:
            if ids[:2].count(tokenizer.bos_token_id) != 1:
                raise ValueError(f"a row of SFT begins with the tokens {ids[:3]}")
        losses.append(sft.train().training_loss)
        dpo = DPOTrainer(folder, args=DPOConfig(max_length=context, **own), train_dataset=pairs)
        losses.append(dpo.train().training_loss)
        settings = GRPOConfig(max_completion_length=16, num_generations=2, **own)
        grpo = GRPOTrainer(
            folder, _variety, args=settings, train_dataset=pairs.select_columns(["prompt"])
        )
        losses.append(grpo.train().training_loss)
    return "losses of SFT, DPO, GRPO " + ", ".join(f"{loss:.3f}" for loss in losses)


def _variety(completions: list[str], **_: object) -> list[float]:
    return [float(len(set(text))) for text in completions]


report(check)
