"""What the library's Trainer and collators do to our families, by their own code."""

import pytest
import torch
from tiny_models import FAMILIES, build, char_tokenizer
from transformers import (
    DataCollatorForLanguageModeling,
    DataCollatorWithFlattening,
    Trainer,
    TrainingArguments,
)

TEXTS = ("X:1\nK:C\nCDEF|", "X:1\nM:4/4\nL:1/8\nK:C\nCDEF GABc|GABc CDEF|")


def loss_alone(model, rows):
    """The mean loss in nats of the tokens of rows that are read one at a time."""
    losses = [(model(row[None], labels=row[None]).loss.item(), len(row) - 1) for row in rows]
    return sum(loss * n for loss, n in losses) / sum(n for _, n in losses)


def rows_of(tokenizer):
    start = [tokenizer.bos_token_id]
    return [torch.tensor(start + tokenizer(text)["input_ids"]) for text in TEXTS]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_loss_of_a_padded_batch_is_that_of_its_rows(model_type, side):
    model, tokenizer = build(model_type), char_tokenizer()
    tokenizer.padding_side = side
    rows = rows_of(tokenizer)
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    batch = collate([{"input_ids": row.tolist()} for row in rows])
    assert (batch["attention_mask"] == 0).any()
    assert model(**batch).loss.item() == pytest.approx(loss_alone(model, rows), abs=1e-6)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_loss_of_packed_rows_is_that_of_the_rows(model_type):
    model, rows = build(model_type), rows_of(char_tokenizer())
    batch = DataCollatorWithFlattening()([{"input_ids": row.tolist()} for row in rows])
    assert batch["input_ids"].shape[0] == 1
    packed = model(**batch, use_cache=False).loss.item()
    assert packed == pytest.approx(loss_alone(model, rows), abs=1e-6)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_label_smoothing_of_the_trainer_is_of_the_next_token(model_type, tmp_path):
    model, tokenizer = build(model_type), char_tokenizer()
    collate = DataCollatorForLanguageModeling(tokenizer, mlm=False)
    batch = collate([{"input_ids": row.tolist()} for row in rows_of(tokenizer)[1:]])
    arguments = TrainingArguments(tmp_path, label_smoothing_factor=1e-6, report_to=[], use_cpu=True)
    trainer = Trainer(model, arguments)
    smoothed = trainer.compute_loss(model, dict(batch)).item()
    assert smoothed == pytest.approx(model(**batch).loss.item(), abs=1e-4)
