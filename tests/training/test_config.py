from pathlib import Path

import pytest
import torch
import yaml
from training_data import CONFIGS
from transformers import AutoConfig, AutoModelForCausalLM

from scaling.counts import ModelShape, count_parameters
from scaling.families import FAMILIES
from training.budget import accumulation_steps, plan_run
from training.config import format_override, load_config, parse_override, resolve_config
from training.config_checks import ConfigError
from training.model import count_layer_parameters, model_shape

SIZE_FILES = sorted(path for family in FAMILIES for path in CONFIGS.glob(f"{family}_*.yaml"))
# study A's table; its BEST counts no positions
STUDY_A_COUNTS = {
    "gpt_tiny": 828_544,
    "gpt_small": 4_803_840,
    "gpt_medium": 21_366_144,
    "gpt_large": 50_512_384,
    "gpt_xl": 113_517_312,
    "lstm_tiny": 1_069_056,
    "lstm_small": 5_062_400,
    "lstm_medium": 19_448_000,
    "lstm_large": 49_140_000,
    "lstm_xl": 100_200_000,
    "gpt_best": 206_603_264,
}
MAY_DIFFER = {
    "model.model_type",
    "model.hidden_size",
    "model.num_hidden_layers",
    "model.num_attention_heads",
    "training.learning_rate",
    "training.per_device_train_batch_size",
}


def write_size(folder: Path, **sections: object) -> Path:
    path = folder / "size.yaml"
    base = {"base": str(CONFIGS / "bases/base.yaml")}
    model = {"model_type": "abc_gpt", "hidden_size": 16, "num_hidden_layers": 1}
    training = {"learning_rate": 0.001, "per_device_train_batch_size": 4}
    path.write_text(yaml.safe_dump({**base, "model": model, "training": training, **sections}))
    return path


def test_override_replaces_size_file_which_replaces_base(tmp_path):
    path = write_size(
        tmp_path,
        model={"dropout": 0.2, "model_type": "abc_gpt", "hidden_size": 16, "num_hidden_layers": 1},
    )
    config = load_config(path, ["training.seed=7", "budget.tokens=1_000_000", "name=mine"])
    assert config["model"]["dropout"] == 0.2
    assert config["training"]["seed"] == 7
    assert config["training"]["adam_beta2"] == 0.99
    assert config["budget"]["tokens"] == 1_000_000
    assert (config["name"], config["study"], config["size"]) == ("mine", "single", "size")


def test_null_takes_a_key_of_the_budget_away():
    size = CONFIGS / "pretrained_llama_small.yaml"
    assert "decay_share" in load_config(size, [])["budget"]
    budget = load_config(size, ["budget.decay_share=null"])["budget"]
    assert "decay_share" not in budget
    assert "spike_factor" in budget


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.hiden_size=3",
            r"model\.hiden_size in override .*did you mean model\.hidden_size\?",
        ),
        ("training.lerning_rate=0.1", r"did you mean training\.learning_rate\?"),
        ("learning_rate=0.1", r"did you mean training\.learning_rate\?"),
        ("budget.token=1", r"did you mean budget\.tokens\?"),
        ("nme=x", r"did you mean name\?"),
        ("training.learning_rate=1e-3", r"'1e-3' \(str\).*write 1\.0e-3"),
        ("budget.tokens=1.0e+6", r"expected int; write 1_000_000"),
        ("budget.tokens=1e6", r"write 1_000_000"),
        ("budget.tokens=0", r"budget\.tokens is 0 .*expected 1 or more"),
        ("model.num_attention_heads=two", r"'two' \(str\).*expected int"),
        ("model.hidden_size=true", r"True \(bool\).*expected int"),
        ("training.eval_strategy=no", r"write it in quotes"),
        ("model.vocab_size=64", r"comes from the tokenizer"),
        ("training.gradient_accumulation_steps=2", r"follows from the section budget"),
        ("model.model_type=gpt2", r"model_type is 'gpt2', expected one of abc_gpt, abc_lstm"),
        ("name=a/b", r"expected a folder name"),
        ("training.seed", r"has no '='"),
        ("training.seed=[1", r"not valid YAML"),
    ],
)
def test_bad_override_is_refused_with_advice(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CONFIGS / "gpt_tiny.yaml", [override])


def test_unknown_key_names_its_file(tmp_path):
    path = write_size(tmp_path, data={"datset": "x"})
    with pytest.raises(ConfigError, match=rf"data\.datset in {path}; did you mean data\.dataset"):
        load_config(path)


def test_lstm_takes_no_heads():
    with pytest.raises(ConfigError, match=r"unknown key model\.num_attention_heads"):
        load_config(CONFIGS / "lstm_tiny.yaml", ["model.num_attention_heads=2"])


def test_base_of_a_base_is_refused(tmp_path):
    (tmp_path / "middle.yaml").write_text(f"base: {CONFIGS / 'bases/base.yaml'}\n")
    path = write_size(tmp_path, base="middle.yaml")
    with pytest.raises(ConfigError, match="one level only"):
        load_config(path)


def test_missing_file_names_a_near_one():
    with pytest.raises(FileNotFoundError, match=r"did you mean .*gpt_tiny\.yaml"):
        load_config(CONFIGS / "gpt_tny.yaml")


def test_missing_key_is_named(tmp_path):
    path = tmp_path / "bare.yaml"
    path.write_text("model: {model_type: abc_gpt, hidden_size: 16}\n")
    with pytest.raises(ConfigError, match=r"model\.num_hidden_layers is missing in .*bare\.yaml"):
        load_config(path)


@pytest.mark.parametrize(
    ("key", "misspelt"),
    [("hidden_size", "hiden_size"), ("model_type", "model_typ"), ("num_hidden_layers", "n_layers")],
)
def test_misspelt_required_key_is_named_as_such_if_it_is_near(tmp_path, key, misspelt):
    shape = {"model_type": "abc_gpt", "hidden_size": 16, "num_hidden_layers": 1}
    shape[misspelt] = shape.pop(key)
    path = write_size(tmp_path, model=shape | {"num_attention_heads": 2})
    known = rf"unknown key model\.{misspelt} in {path}; did you mean model\.{key}\?"
    expected = known if misspelt != "n_layers" else rf"model\.{key} is missing in {path}"
    for read in (load_config, resolve_config):
        with pytest.raises(ConfigError, match=expected):
            read(path)


@pytest.mark.parametrize(
    "value", [1e-05, 3, "no", None, True, {"min_lr_rate": 0.1}, [1, 2], "1e-3"]
)
def test_formatted_override_reads_back_as_the_same_value(value):
    assert parse_override(format_override("training.x", value)) == ("training.x", value)


@pytest.mark.parametrize(
    "name",
    ["dev", "Tom's songs", "2020", "2020-01-01", "null", "a\nb", '"q"', "'", "a: b", "x # y"],
)
def test_names_of_datasets_are_taken_as_they_are(name):
    assert parse_override(format_override("data.dataset", name)) == ("data.dataset", name)
    if name[0] not in "\"'":
        assert parse_override(f"data.dataset={name}") == ("data.dataset", name)
    assert parse_override("data.dataset='Tom''s songs'") == ("data.dataset", "Tom's songs")


def test_name_that_yaml_takes_for_a_number_is_told_to_be_quoted(tmp_path):
    path = write_size(tmp_path, data={"dataset": 2020, "preset": "char"})
    with pytest.raises(ConfigError, match=r"data\.dataset is 2020 \(int\) .* write it in quotes"):
        load_config(path)


@pytest.mark.parametrize("path", SIZE_FILES, ids=lambda p: p.stem)
def test_every_size_builds_with_the_counts_of_its_study(path):
    config = load_config(path)
    preset = config["data"]["preset"]
    vocab_size, positions = {"char": (64, 256), "bpe4096": (4096, 1024), "study_b": (159, 5000)}[
        preset
    ]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.for_model(**model_shape(config, positions), vocab_size=vocab_size)
        )
    names = ("model_type", "hidden_size", "num_hidden_layers")
    shape = ModelShape(
        **{k: config["model"][k] for k in names},
        vocab_size=vocab_size,
        max_position_embeddings=positions,
        intermediate_size=getattr(model.config, "intermediate_size", None),
    )
    assert model.num_parameters() == count_parameters(shape).total
    # what a record takes from the model is what a plan takes from the formula
    assert count_layer_parameters(model) == shape.weights
    if path.stem in STUDY_A_COUNTS:
        assert model.num_parameters() == STUDY_A_COUNTS[path.stem]
    plan_run(config, positions, n_blocks=0)


def test_all_sizes_of_study_a_are_there():
    assert set(STUDY_A_COUNTS) <= {path.stem for path in SIZE_FILES}


def test_sizes_of_one_base_differ_only_where_sizes_may():
    for path in SIZE_FILES:
        content = yaml.safe_load(path.read_text())
        assert content.pop("base").startswith("base")
        keys = {f"{section}.{key}" for section, values in content.items() for key in values}
        assert keys <= MAY_DIFFER, path.name


def test_given_max_steps_wins_over_the_token_budget():
    config = load_config(CONFIGS / "gpt_tiny.yaml")
    assert plan_run(config, 256, n_blocks=0).max_steps == 6103
    assert plan_run(config, 256, n_blocks=0).n_tokens == 6103 * 64 * 255
    config["training"]["max_steps"] = 5
    assert plan_run(config, 256, n_blocks=0).max_steps == 5


def test_accumulation_keeps_the_global_batch():
    plan = plan_run(load_config(CONFIGS / "gpt_tiny.yaml"), 256, n_blocks=0)
    assert accumulation_steps(plan, device_batch=16, world_size=1) == 4
    assert accumulation_steps(plan, device_batch=16, world_size=2) == 2
    with pytest.raises(ValueError, match="set it to 16"):
        accumulation_steps(plan, device_batch=24, world_size=1)
    with pytest.raises(ValueError, match="use fewer processes"):
        accumulation_steps(plan, device_batch=16, world_size=3)
