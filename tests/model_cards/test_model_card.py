import hashlib
import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, metadata_load
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from strangers import run_stranger
from tiny_models import FAMILIES
from transformers import AutoConfig, AutoModelForCausalLM

import modeling
from data_prep.dialect.notation import ALPHABET
from data_prep.tokens.tokenizers import TokenSettings, train_tokenizer
from model_cards.publish import check_files, main, publish
from modeling.grammar_abc_tune import TuneGrammar
from modeling.lark_abc import LARK_FILE, NOT_COVERED, lark_grammar, lark_limits
from scaling.reporting.tables import laws_table, notes_list, sizes_table
from scaling.writing.markdown import fill
from training.run.checkpoints import write_manifest

TUNE = (
    "X:1\nM:3/4\nL:1/16\nQ:1/4=90\n%%MIDI chordattack 0\nK:G\nV:1\n%%MIDI program 0\n[V:1]G12|]\n"
)
WEIGHTS_AND_TEXT = {
    "README.md",
    "config.json",
    "generation_config.json",
    "grammar.lark",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}
MODELING = Path(modeling.__file__).parent
PIPELINE = {
    *("pipeline_abc_music.py", "header_abc.py", "export_abc.py", "notation_abc.py"),
    *("arrange_abc.py", "plan_abc.py", "writing_abc.py"),
    *(path.name for path in MODELING.glob("grammar_abc_*.py")),
    # what it gives to `generate` for a stock Llama
    *(f"decoding_abc{part}.py" for part in ("", "_cache", "_gpt", "_llama", "_loop")),
    "arguments_abc.py",
}


def record(model_type: str = "abc_gpt") -> dict:
    return {
        "name": f"{model_type}_tiny",
        "model_type": model_type,
        "dataset": "fiddle",
        "preset": "char",
        "n_params_total": 828_544,
        "n_params_non_embedding": 787_584,
        "n_tokens_seen": 1_000_000,
        "epochs": 0.5,
        "context_length": 256,
        "learning_rate": 0.002,
        "global_batch_tokens": 16_384,
        "max_steps": 61,
        "flops_train": 6.3e12,
        "commit": "abc",
        "data_digest": "0" * 64,
        "loss_nats_per_token": {"train": 1.0, "validation": 0.9},
        "validation": {"nll_nats": 900.0, "n_songs": 3, "n_chars": 1000, "n_notes": 250},
    }


def metrics(run) -> dict:
    rate = {"rate": 0.5, "interval_95": [0.21522, 0.78478], "successes": 4, "n": 8}
    weights = run / "checkpoint" / "model.safetensors"
    validity = {"own_reader": rate, "midi_success_music21": rate}
    return {
        "model": str(run / "checkpoint"),
        "weights_sha256": weights.exists() and hashlib.sha256(weights.read_bytes()).hexdigest(),
        "seed": 1,
        "sets": {
            "free": {"n": 8, "sampling": {"max_new_tokens": 99}, "validity": validity},
            "real": {"n": 3, "validity": {"own_reader": rate}},
        },
        "test": {
            "n_songs": 2,
            "loss_nats_per_token": 0.95,
            "bits_per_char": 1.37,
            "bits_per_note": 5.48,
        },
    }


def make_run(folder, model_type="abc_gpt", **changes):
    """A finished run with random weights, as training leaves it, and a pickle of the Trainer."""
    tokenizer = train_tokenizer([TUNE, *ALPHABET], TokenSettings("char"), 256)
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id")}
    ids["pad_token_id"] = tokenizer.pad_token_id
    shape = {"vocab_size": len(tokenizer), **FAMILIES.get(model_type, {}), **ids, **changes}
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **shape)).eval()
    with torch.no_grad():  # away from the initial values, among which are equal ones
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight), alpha=0.1)
    run = folder / model_type
    music = modeling.AbcMusicPipeline(model, tokenizer, device="cpu")
    music.save_pretrained(run / "checkpoint")
    (run / "checkpoint" / "training_args.bin").write_bytes(pickle.dumps({}))
    (run / "record.json").write_text(json.dumps(record(model_type)))
    return run


def add_checkpoint(run, step):
    """A checkpoint of the Trainer: other weights, a manifest, and pickles."""
    checkpoint = run / "checkpoints" / f"checkpoint-{step}"
    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    with torch.no_grad():
        model.get_input_embeddings().weight.fill_(step)
    model.save_pretrained(checkpoint)
    (checkpoint / "optimizer.pt").write_bytes(pickle.dumps({}))
    (checkpoint / "trainer_state.json").write_text("{}")
    write_manifest(checkpoint, train_seconds=1.0)
    return checkpoint


def names(folder):
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("model_type", FAMILIES)
def test_published_folder_holds_weights_code_and_card_and_no_pickle(model_type, tmp_path, capsys):
    run = make_run(tmp_path, model_type)
    assert main([str(run), "someone/tiny", "--dry-run"]) == 0
    code = {f"{kind}_{model_type}.py" for kind in ("configuration", "decoding", "modeling")}
    code |= {"saving_abc.py", *(["layer_abc_lstm.py"] if model_type == "abc_lstm" else [])}
    assert names(run / "publish") == WEIGHTS_AND_TEXT | PIPELINE | code
    assert capsys.readouterr().out.startswith(f"{run / 'publish'}: README.md, arguments_abc.py")
    config = json.loads((run / "publish/generation_config.json").read_text())
    sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
    assert config.items() >= sampling.items()
    assert config["eos_token_id"] == config["bos_token_id"] != config["pad_token_id"]
    assert (run / "publish" / LARK_FILE).read_text() == lark_grammar(config["eos_token_id"])
    card = (run / "publish" / "README.md").read_text()
    assert all(gap.about in " ".join(card.split()) for gap in NOT_COVERED)
    tokenizer = json.loads((run / "publish" / "tokenizer.json").read_text())
    assert tokenizer["decoder"]["type"] == "Sequence"  # which other engines can read
    assert names(run) == {"checkpoint", "publish", "record.json"}


def test_card_has_the_results_of_the_runs_files(tmp_path):
    run = make_run(tmp_path)
    (run / "metrics.json").write_text(json.dumps(metrics(run)))
    (folder,) = publish(run, "someone/tiny", False, False, True)
    head = metadata_load(folder / "README.md")
    assert (head["license"], head["pipeline_tag"]) == ("apache-2.0", "text-generation")
    card = ModelCard.load(folder / "README.md")
    found = {
        (result.dataset_split, result.metric_type, result.metric_name): result.metric_value
        for result in card.data.eval_results
    }
    rate = "share of tunes; 95 % interval 0.2152 to 0.7848"
    assert found == {
        ("validation", "loss", "nats per token, song by song"): 0.9,
        ("validation", "bits_per_char", "bits per char"): 1.2984,  # 900 / ln 2 / 1000
        ("validation", "bits_per_note", "bits per note"): 5.1937,
        ("test", "loss", "nats per token, song by song"): 0.95,
        ("test", "bits_per_char", "bits per char"): 1.37,
        ("test", "bits_per_note", "bits per note"): 5.48,
        ("sampled_free", "valid_rate", f"own_reader, {rate}"): 0.5,
        ("sampled_free", "valid_rate", f"midi_success_music21, {rate}"): 0.5,
    }
    assert "GPT with 828,544 parameters" in card.text
    assert "| `free` | 8 | `own_reader` | 50.0 % | 21.5 to 78.5 % |" in card.text
    assert 'pipeline("abc-music", model="someone/tiny", trust_remote_code=True)' in card.text
    assert "temperature 1, no top-k" in card.text
    assert "Tested with transformers 5.20 to 5.24" in " ".join(card.text.split())
    generation = json.loads((folder / "generation_config.json").read_text())
    assert (generation["temperature"], generation["top_k"]) == (1.0, 0)


@pytest.mark.parametrize("start", ["someone/gpt_base", "a/long/way/to/gpt_base"])
def test_card_of_a_fine_tuned_run_names_its_start_but_no_folder(start, tmp_path):
    run = make_run(tmp_path)
    origin = {"pretrained": start, "weights_sha256": "f" * 64}
    origin["loss_nats_per_token"] = {"validation": 1.25}
    (run / "record.json").write_text(json.dumps({**record(), "finetuned_from": origin}))
    (folder,) = publish(run, "someone/tiny", False, False, True)
    card = ModelCard.load(folder / "README.md")
    is_on_hub = start == "someone/gpt_base"
    assert card.data.get("base_model") == (start if is_on_hub else None)
    assert f"fine-tuned from `{start if is_on_hub else 'gpt_base'}`" in card.text
    assert "validation split was 1.2500 nats per token" in card.text
    assert "long/way" not in card.content


def test_head_of_the_card_has_the_hubs_prompts_and_the_training_data(tmp_path, capsys):
    run = make_run(tmp_path)
    arguments = [str(run), "someone/tiny", "--dry-run", "--datasets"]
    assert main([*arguments, "someone/songs"]) == 0
    card = ModelCard.load(run / "publish" / "README.md")
    assert card.data.datasets == ["someone/songs"]
    assert {result.dataset_type for result in card.data.eval_results} == {"someone/songs"}
    grammar = TuneGrammar(lark_limits())
    for example in card.data.widget:
        grammar.read(example["text"])  # raises ValueError unless a tune begins so
    assert main([*arguments, "no/hub/name"]) == 2
    assert "no/hub/name" in capsys.readouterr().err


@pytest.mark.parametrize("model_type", FAMILIES)
def test_lora_by_the_cards_example_adapts_the_layers(model_type, tmp_path):
    run = make_run(tmp_path, model_type)
    (folder,) = publish(run, "someone/tiny", False, False, True)
    model = AutoModelForCausalLM.from_pretrained(folder)
    (call,) = re.findall(r"LoraConfig\((.*)\)\)", (folder / "README.md").read_text())
    assert call == 'task_type="CAUSAL_LM", **model.lora_targets()'
    settings = LoraConfig(task_type="CAUSAL_LM", **model.lora_targets())
    adapted = get_peft_model(model, settings)
    held = {
        name.partition(".lora_")[0] for name, _ in adapted.named_parameters() if "lora_" in name
    }
    assert held
    assert not any("embed" in name or "head" in name for name in held)


def test_metrics_of_a_study_are_those_of_the_run_they_name(tmp_path):
    run = make_run(tmp_path)
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(run)))
    (folder,) = publish(run, "someone/tiny", False, False, True)
    assert "own_reader" in (folder / "README.md").read_text()
    (tmp_path / "metrics.json").write_text(json.dumps(metrics(tmp_path / "another")))
    (folder,) = publish(run, "someone/tiny", False, False, True)
    assert "own_reader" not in (folder / "README.md").read_text()


def test_metrics_of_other_weights_are_refused(tmp_path):
    run = make_run(tmp_path)
    (run / "metrics.json").write_text(json.dumps(metrics(run)))
    publish(run, "someone/tiny", False, False, True)
    (run / "metrics.json").write_text(json.dumps(metrics(run) | {"weights_sha256": "0" * 64}))
    with pytest.raises(ValueError, match=r"is for other weights .* make evaluate"):
        publish(run, "someone/tiny", False, False, True)


def test_run_without_the_pipelines_code_is_published_with_a_note(tmp_path, capsys):
    run = make_run(tmp_path)
    for name in PIPELINE:
        (run / "checkpoint" / name).unlink()
    assert main([str(run), "someone/tiny", "--dry-run"]) == 0
    assert "without pipeline_abc_music.py" in capsys.readouterr().out
    assert "abc-music" not in (run / "publish/README.md").read_text()


def test_nothing_but_weights_text_and_code_is_published(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    check_files(tmp_path)
    outside = tmp_path.parent / f"{tmp_path.name}.json"
    outside.write_text("{}")
    for name in ("training_args.bin", "optimizer.pt", "model.safetensors", "config.json", "a.py"):
        odd = tmp_path / "odd"
        odd.mkdir()
        (odd / name).write_bytes(pickle.dumps(["x" * 20]))
        with pytest.raises(ValueError, match=f"{name} is not "):
            check_files(odd)
        (odd / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
        odd.rmdir()
    (tmp_path / "link.json").symlink_to(outside)
    with pytest.raises(ValueError, match=r"link.json is not published: expected plain files"):
        check_files(tmp_path)


def test_checkpoints_become_revisions_with_their_own_weights(tmp_path):
    run = make_run(tmp_path)
    for step in (20, 4):
        add_checkpoint(run, step)
    folders = publish(run, "someone/tiny", False, True, True)
    assert [folder.name for folder in folders] == ["publish", "step-4", "step-20"]
    for folder, step in zip(folders[1:], (4, 20), strict=True):
        assert folder.parent == run / "publish-revisions"
        assert names(folder) == names(folders[0])
        weights = load_file(folder / "model.safetensors")
        assert (weights["model.embed_tokens.weight"] == step).all()
        text = (folder / "README.md").read_text()
        assert f'revision="step-{step}"' in text
        assert "model-index" not in text
    assert "step-4, step-20" in (folders[0] / "README.md").read_text()
    publish(run, "someone/tiny", False, False, True)
    assert not (run / "publish-revisions").exists()


def test_run_without_whole_checkpoints_has_no_revisions(tmp_path, capsys):
    run = make_run(tmp_path)
    arguments = [str(run), "someone/tiny", "--dry-run", "--revisions"]
    assert main(arguments) == 2
    assert "has no checkpoint-<step>: training removes them" in capsys.readouterr().err
    checkpoint = add_checkpoint(run, 4)
    with (checkpoint / "model.safetensors").open("r+b") as file:
        file.truncate(5000)
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "checkpoint-4 is not a complete model (damaged model.safetensors)" in error
    (checkpoint / "manifest.json").unlink()
    assert main(arguments) == 2
    assert "checkpoint-4 is not a complete model (no manifest.json)" in capsys.readouterr().err
    assert not (run / "publish").exists()


def test_unfinished_run_is_not_published(tmp_path, capsys):
    assert main([str(tmp_path), "someone/name", "--dry-run"]) == 2
    assert "record.json not found" in capsys.readouterr().err


@pytest.mark.parametrize("model_type", FAMILIES)
def test_models_saved_again_name_no_pipeline_without_its_code(model_type, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(make_run(tmp_path, model_type) / "checkpoint")
    own = dict(model.config.custom_pipelines)
    model.config.custom_pipelines["elsewhere"] = {"impl": "nowhere.Nothing", "pt": []}
    model.save_pretrained(tmp_path / "again")
    config = json.loads((tmp_path / "again/config.json").read_text())
    assert config["custom_pipelines"].keys() == own.keys() == {"abc-music"}
    assert names(tmp_path / "again") >= PIPELINE
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "again")
    loaded.save_pretrained(tmp_path / "again")
    assert names(tmp_path / "again") >= PIPELINE


STRANGER = """
import json, logging, sys
sys.modules["modeling"] = sys.modules["data_prep"] = None  # importing them fails
from transformers import AutoModelForCausalLM, pipeline, set_seed
report = {}
for folder, trust in (("tiny/gpt", True), ("tiny/lstm", True), ("tiny/stock", False)):
    write = pipeline("text-generation", model=folder, trust_remote_code=trust, device="cpu")
    music = pipeline("abc-music", model=folder, trust_remote_code=True, device="cpu", grammar=False)
    prompts, options = [START, START + "X:1\\nM:6/8\\n"], {"max_new_tokens": 40}
    batches = []
    for prompt in (prompts[1], prompts, prompts):
        set_seed(1)
        batches.append(write(prompt, batch_size=2, **options))
    greedy = {"do_sample": False, "suppress_tokens": write.tokenizer.all_special_ids, **options}
    alone = [write(prompt, **greedy)[0]["generated_text"] for prompt in prompts]
    together = [texts[0]["generated_text"] for texts in write(prompts, batch_size=2, **greedy)]
    tune = music(meter="3/4", key="G", instruments=[0], seed=1, max_new_tokens=9)[0]
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust)
    if folder != "tiny/stock":
        model.save_pretrained(folder + "_again")  # as whoever fine-tunes it
    report[folder] = {
        "module": type(model).__module__.split(".")[0],
        "default": write(START, eos_token_id=None)[0]["generated_text"],
        "single": batches[0][0]["generated_text"],
        "seeded": batches[1] == batches[2],
        "batched": together == alone,
        "greedy": alone[1],
        "tune": tune["abc"],
    }
EXAMPLES
print(json.dumps(report))
"""
# Of the models of `make_run`, in all releases of transformers that were tried.
GPT_TUNE = "X:1\nM:6/8\nDzggrz===hKhDDzk(f4DzKhf4444444444444444"
GREEDY_TUNES = {
    "tiny/gpt": GPT_TUNE,
    "tiny/lstm": "X:1\nM:6/8\n[[[[,,,,,Q,,,QQ,,,,,,,,,,,,,,,,,,F,,,,,,",
    "tiny/stock": GPT_TUNE,
}


def examples(folder, name):
    """The code of a card as it is printed, but for that of LoRA, and what it wrote."""
    blocks = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text("utf-8"), re.S)
    tunes, texts, _ = blocks
    return "\n".join([tunes, texts, f'report["{name}"]["examples"] = tunes, texts'])


def test_published_folders_load_and_sample_offline_where_this_project_is_absent(tmp_path):
    (tmp_path / "tiny").mkdir()
    kinds = (("gpt", "abc_gpt", False), ("lstm", "abc_lstm", False), ("stock", "abc_gpt", True))
    printed = []
    for name, model_type, is_stock in kinds:
        run = make_run(tmp_path / "runs" / name, model_type)
        (folder,) = publish(run, f"tiny/{name}", is_stock, False, True)
        printed.append(examples(folder.rename(tmp_path / "tiny" / name), f"tiny/{name}"))
    code = STRANGER.replace("START", repr(""))
    code = code.replace("EXAMPLES", "\n".join(printed))
    report = json.loads(run_stranger(code, tmp_path).splitlines()[-1])
    assert [seen["module"] for seen in report.values()] == [
        "transformers_modules",
        "transformers_modules",
        "transformers",
    ]
    for seen in report.values():
        assert seen["seeded"]
        assert seen["batched"]
        assert len(seen["default"]) > 120  # to the length that is set, within GPT-2's context
        assert seen["single"].startswith("X:1\nM:6/8\n")
        assert seen["tune"].startswith("X:1\nM:3/4\n")
        tunes, texts = seen["examples"]
        assert [tune["error"] for tune in tunes] == [None] * 4
        assert all("M:3/4\n" in tune["abc"] and "K:G\n" in tune["abc"] for tune in tunes)
        assert len(texts) == 4
    for name in ("gpt", "lstm"):
        assert names(tmp_path / "tiny" / f"{name}_again") >= PIPELINE
    assert report["tiny/stock"]["tune"] == report["tiny/gpt"]["tune"]
    assert {name: seen["greedy"] for name, seen in report.items()} == GREEDY_TUNES


def test_readme_tables_come_from_the_files():
    law = {
        "params": {"C": 1.0, "alpha": 0.0731},
        "interval_95": {"C": [0.9, 1.1], "alpha": [0.06, 0.09]},
        "holdout_error": 0.01,
        "warnings": ["few points"],
    }
    floor = {
        "params": {"a": 1.0, "alpha": 0.3, "c": 0.5},
        "interval_95": {"a": None, "alpha": [0.2, 0.4], "c": None},
        "holdout_error": None,
        "warnings": [],
    }
    refused = {"refused": "5 sizes: too few"}
    fits = {
        "settings": {"laws": ["power", "power_floor"]},
        "laws": {
            "gpt": {"power": law, "power_floor": refused, "chosen": "power"},
            "lstm": {"power": law, "power_floor": floor, "chosen": "power_floor"},
        },
        "crossovers": [
            {
                "archs": ["gpt", "lstm"],
                "at": "equal_params",
                "n_tokens": 2e6,
                "n_params": 25_000.0,
                "interval_95": [22_000.0, 28_000.0],
                "note": "",
            }
        ],
    }
    table = laws_table(fits)
    assert table[2] == "| gpt | **power** | alpha 0.073 [0.060, 0.090] |  | 1.0 % |"
    assert table[4] == (
        "| lstm | **power_floor** | alpha 0.300 [0.200, 0.400] | c 0.500 [not identified] |  |"
    )
    assert notes_list(fits) == [
        "- power_floor not fitted (gpt): 5 sizes",
        "- crossover of gpt and lstm at equal parameters, 2 M tokens: 25,000 parameters "
        "[22,000, 28,000]",
        "- gpt, power: few points",
    ]
    filled = fill("a\n<!-- results:begin -->\nold\n<!-- results:end -->\nb", table, "results")
    assert filled == fill(filled, table, "results")
    assert "old" not in filled


def test_sizes_are_shown_at_their_largest_token_count_over_all_seeds():
    rows = [
        {
            "arch": "gpt",
            "size": "gpt_small",
            "n_params": "1000",
            "n_tokens": str(tokens),
            "loss": str(loss),
            "loss_se": "0.01",
            "bits_per_char": "1.5",
            "bits_per_note": "5.0",
        }
        for tokens, loss in ((1000, 3.0), (2000, 1.0), (2000, 1.2))
    ]
    assert sizes_table(rows)[2:] == [
        "| gpt_small | 1,000 | 2,000 | 2 | 1.1000 ± 0.0100 | 0.1414 | 1.500 | 5.00 |"
    ]
