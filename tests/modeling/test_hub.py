import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from strangers import run_stranger
from tiny_models import CHARS, FAMILIES, build, char_tokenizer
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    Trainer,
    TrainingArguments,
    pipeline,
)
from transformers.dynamic_module_utils import get_relative_import_files

import modeling

NEEDS_COMPILER = pytest.mark.skipif(
    not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="inductor needs a C++ compiler"
)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_auto_classes_know_the_family(model_type):
    stem = {"abc_gpt": "AbcGPT", "abc_lstm": "AbcLSTM"}[model_type]
    config = AutoConfig.for_model(model_type)
    assert type(config) is getattr(modeling, f"{stem}Config")
    with torch.device("meta"):
        assert type(AutoModel.from_config(config)) is getattr(modeling, f"{stem}Model")
        causal_lm = AutoModelForCausalLM.from_config(config)
    assert type(causal_lm) is getattr(modeling, f"{stem}ForCausalLM")


@pytest.mark.parametrize("model_type", FAMILIES)
def test_building_and_running_a_model_prints_nothing(model_type, capfd):
    model = build(model_type)
    model(torch.tensor([[2, 3, 4]]), labels=torch.tensor([[2, 3, 4]])).loss.backward()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("model_type", FAMILIES)
def test_saved_model_loads_with_the_same_logits(model_type, tied, tmp_path):
    model = build(model_type, tie_word_embeddings=tied)
    with torch.no_grad():  # away from the initial values, which loading must not bring back
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    model.save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", "pt") as weights:
        names = set(weights.keys())
    assert "model.embed_tokens.weight" in names
    assert ("lm_head.weight" in names) is (not tied)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    shares_storage = loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert shares_storage is tied
    ids = torch.tensor([[2, 3, 4, 5]])
    assert torch.equal(loaded(ids).logits, model(ids).logits)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_new_tokens_keep_the_head_tied(model_type):
    model, ids = build(model_type), torch.tensor([[2, 3]])
    before = model(ids).logits
    model.resize_token_embeddings(len(CHARS) + 4)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    after = model(ids).logits
    assert after.shape == (1, 2, len(CHARS) + 4)
    torch.testing.assert_close(after[..., : len(CHARS)], before)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_bfloat16_model_loads_predicts_and_generates(model_type, tmp_path):
    model, ids = build(model_type), torch.tensor([[2, 3, 4, 5], [0, 2, 6, 7]])
    model.save_pretrained(tmp_path)
    half = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    mask = (ids != 0).long()
    logits = half(ids, attention_mask=mask).logits
    assert logits.dtype == torch.bfloat16
    expected = model(ids, attention_mask=mask).logits
    torch.testing.assert_close(logits[mask.bool()].float(), expected[mask.bool()], atol=0.1, rtol=0)
    greedy = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    cached = half.generate(ids, attention_mask=mask, **greedy)
    assert cached.shape == (2, 10)
    half.train()(ids, labels=ids).loss.backward()
    assert all(weight.grad.isfinite().all() for weight in half.parameters())


@pytest.mark.parametrize(
    "backend",
    [
        "aot_eager",  # captures graphs, forwards and backwards, and runs them without a compiler
        pytest.param("inductor", marks=[pytest.mark.slow, NEEDS_COMPILER]),
    ],
)
@pytest.mark.parametrize("model_type", FAMILIES)
def test_compiled_model_has_the_same_loss_and_gradients(model_type, backend, tmp_path, monkeypatch):
    # A compilation that was interrupted elsewhere would leave a damaged cache.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    model, ids = build(model_type).train(), torch.tensor([[2, 3, 4, 5], [2, 5, 6, 7]])
    torch.compiler.reset()
    losses, gradients = [], []
    for forward in (model, torch.compile(model, backend=backend)):
        loss = forward(input_ids=ids, labels=ids, use_cache=False).loss
        loss.backward()
        losses.append(loss.detach())
        gradients.append([weight.grad for weight in model.parameters()])
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_accumulated_batches_of_uneven_labels_train_as_one_batch(model_type, tmp_path):
    generator = torch.Generator().manual_seed(0)
    songs = []
    for n_labels in (9, 1, 5, 2):  # a mean of means would weigh the few labels too much
        ids = torch.randint(2, len(CHARS), (10,), generator=generator)
        labels = torch.where(torch.arange(10) <= n_labels, ids, -100)
        songs.append({"input_ids": ids, "labels": labels})
    trained = []
    for batch, steps in ((4, 1), (1, 4)):
        arguments = TrainingArguments(
            output_dir=tmp_path,
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=steps,
            max_steps=2,
            learning_rate=0.1,
            optim="sgd",
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
        )
        model = build(model_type)
        start = [weight.detach().clone() for weight in model.parameters()]
        Trainer(model=model, args=arguments, train_dataset=songs).train()
        trained.append([w.detach() - s for w, s in zip(model.parameters(), start, strict=True)])
    assert max(change.abs().max() for change in trained[0]) > 1e-3
    torch.testing.assert_close(*trained, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_padded_and_single_prompts_give_the_same_pipeline_text(model_type):
    tokenizer = char_tokenizer()
    write = pipeline("text-generation", model=build(model_type), tokenizer=tokenizer)
    prompts = ["X:1\nM:4/4\n", "X:1\n"]
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    alone = [write(prompt, **options)[0]["generated_text"] for prompt in prompts]
    batch = [texts[0]["generated_text"] for texts in write(prompts, batch_size=2, **options)]
    assert batch == alone
    assert all(text.startswith(p) for text, p in zip(batch, prompts, strict=True))


def test_pipeline_is_saved_with_all_files_that_it_imports():
    folder = Path(modeling.__file__).parent
    copied = {Path(f).name for f in get_relative_import_files(folder / "pipeline_abc_music.py")}
    grammar = {path.name for path in folder.glob("grammar_abc_*.py")}
    decoding = {f"decoding_abc{part}.py" for part in ("", "_cache", "_gpt", "_loop")}
    assert copied - {"arguments_abc.py"} == grammar | decoding | {
        *(
            "header_abc.py",
            "export_abc.py",
            "notation_abc.py",
            "decoding_abc_llama.py",
            "arrange_abc.py",
            "plan_abc.py",
            "writing_abc.py",
        )
    }


STRANGER = """
import json, sys
sys.modules["modeling"] = None  # as on a machine without this project: importing it fails
import torch
from transformers import AutoModel, AutoModelForCausalLM, pipeline
report = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True).eval()
    base = AutoModel.from_pretrained(folder, trust_remote_code=True).eval()
    ids = torch.tensor([[2, 3, 4, 5]])
    write = pipeline("text-generation", model=folder, trust_remote_code=True)
    torch.manual_seed(0)
    texts = write(["X:1", "X:1 M:4/4"], batch_size=2, do_sample=True, max_new_tokens=12)
    model.save_pretrained(folder + "_again")
    report[folder] = {
        "module": type(model).__module__.split(".")[0],
        "logits": model(ids).logits[0, -1].tolist(),
        "width": base(ids).last_hidden_state.shape[-1],
        "texts": [text[0]["generated_text"] for text in texts],
    }
print(json.dumps(report))
"""


def test_saved_models_load_and_sample_where_this_project_is_absent(tmp_path):
    for model_type in FAMILIES:
        build(model_type).save_pretrained(tmp_path / model_type)
        char_tokenizer().save_pretrained(tmp_path / model_type)
    report = json.loads(run_stranger(STRANGER, tmp_path, *FAMILIES).splitlines()[-1])
    for model_type, seen in report.items():
        expected = build(model_type)(torch.tensor([[2, 3, 4, 5]])).logits[0, -1]
        torch.testing.assert_close(torch.tensor(seen["logits"]), expected)
        assert seen["module"] == "transformers_modules"
        assert seen["width"] == FAMILIES[model_type]["hidden_size"]
        assert [text[:3] for text in seen["texts"]] == ["X:1", "X:1"]
        for kind in ("configuration", "modeling", "decoding"):
            assert (tmp_path / f"{model_type}_again" / f"{kind}_{model_type}.py").is_file()


@pytest.mark.parametrize("model_type", FAMILIES)
def test_models_are_saved_with_the_arguments_of_the_library_by_position(model_type, tmp_path):
    model = build(model_type)
    model.save_pretrained(tmp_path / "other_process", False)
    assert not list(tmp_path.glob("other_process/*.py"))
    weights = {name: weight + 1 for name, weight in model.state_dict().items()}
    model.save_pretrained(tmp_path / "saved", True, weights)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert torch.equal(loaded.lm_head.weight, model.lm_head.weight + 1)
