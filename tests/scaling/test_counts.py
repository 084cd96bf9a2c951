import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

import modeling  # noqa: F401  (registers the families with the Auto classes)
from scaling.counts import (
    PEAK_FLOPS,
    ModelShape,
    count_parameters,
    flops_6nd,
    forward_flops_per_token,
    peak_flops,
    train_flops_per_token,
    usual_share,
)
from scaling.families import family_of

# layers, width -> total of study A, vocabulary 64, context 256
STUDY_A_GPT = [
    (4, 128, 828_544),
    (6, 256, 4_803_840),
    (12, 384, 21_366_144),
    (16, 512, 50_512_384),
    (16, 768, 113_517_312),
]
STUDY_A_LSTM = [
    (256, 1_069_056),
    (560, 5_062_400),
    (1100, 19_448_000),
    (1750, 49_140_000),
    (2500, 100_200_000),
]


def gpt(layers=3, width=32, vocabulary=80, context=64, **kwargs):
    return ModelShape("abc_gpt", width, layers, vocabulary, context, **kwargs)


def lstm(layers=2, width=32, vocabulary=80):
    return ModelShape("abc_lstm", width, layers, vocabulary)


@pytest.mark.parametrize(("layers", "width", "total"), STUDY_A_GPT)
def test_gpt_totals_are_those_of_study_a(layers, width, total):
    counts = count_parameters(gpt(layers, width, 64, 256))
    assert counts.total == total
    assert counts.non_embedding == 12 * layers * width**2 + (2 * layers + 1) * width
    assert counts.token_embedding == 64 * width
    assert counts.positions == 256 * width


@pytest.mark.parametrize(("width", "total"), STUDY_A_LSTM)
def test_lstm_totals_are_those_of_study_a(width, total):
    counts = count_parameters(lstm(2, width, 64))
    assert counts.total == total
    assert counts.non_embedding == 16 * width**2 + 16 * width
    assert counts.positions == 0


def test_best_model_of_study_a_has_206_million_with_positions_and_205_without():
    counts = count_parameters(gpt(16, 1024, 4096, 1024))
    assert counts.total == 206_603_264
    assert counts.total - counts.positions == 205_554_688


def llama(layers=3, width=32, vocabulary=80, context=64):
    mlp_width = family_of("llama").settings({"hidden_size": width})["intermediate_size"]
    return ModelShape("llama", width, layers, vocabulary, context, mlp_width)


def built_model(shape):
    fields = {"hidden_size": shape.hidden_size, "num_hidden_layers": shape.num_hidden_layers}
    if shape.max_position_embeddings:
        fields |= {
            "num_attention_heads": 4,
            "max_position_embeddings": shape.max_position_embeddings,
            "intermediate_size": shape.intermediate_size,
        }
    fields = shape.family.config_keys(fields)
    config = AutoConfig.for_model(shape.model_type, vocab_size=shape.vocab_size, **fields)
    # the fused attention of the CPU is invisible to the FLOP counter
    kind = {"attn_implementation": "eager"} if shape.max_position_embeddings else {}
    return AutoModelForCausalLM.from_config(config, **kind)


SHAPES = [gpt(), gpt(intermediate_size=48), lstm(), lstm(layers=3), llama(), llama(2, 24)]


@pytest.mark.parametrize("shape", SHAPES)
def test_counts_equal_the_built_model(shape):
    assert count_parameters(shape).total == built_model(shape).num_parameters()


# two of study A, and small ones; on the meta device nothing is computed, so large ones are free
COUNTED = [
    *SHAPES,
    gpt(4, 128, 64, 256),
    gpt(16, 768, 64, 256),
    lstm(2, 256, 64),
    lstm(2, 2500, 64),
    llama(4, 128, 64, 256),
    llama(16, 768, 64, 256),
    llama(4, 128, 64, 4096),
]


def counted_flops(shape, n_tokens):
    """FLOPs of a forward and backward pass over a row of tokens, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    # on the CPU the fused LSTM counts zero, and so does any attention that is not eager
    with torch.device("meta"):
        model = built_model(shape)
        tokens = torch.zeros(1, n_tokens, dtype=torch.long)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=tokens, labels=tokens).loss.backward()
    return counter.get_total_flops()


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("shape", COUNTED)
def test_train_flops_agree_with_the_flop_counter_of_torch(shape):
    if context := shape.max_position_embeddings:
        measured = counted_flops(shape, context) / context
    else:  # the first token of an LSTM costs less: it has no state before it
        measured = (counted_flops(shape, 24) - counted_flops(shape, 8)) / 16
    assert train_flops_per_token(shape) == pytest.approx(measured, rel=0.005)


def test_attention_conventions_differ_by_half_of_the_attention():
    full, causal = (
        train_flops_per_token(gpt(4, 128, 64, 256), kind) for kind in ("full", "causal_mean")
    )
    assert full - causal == 6 * 4 * 128 * 256
    assert full == 6 * (12 * 4 * 128**2 + 64 * 128) + 12 * 4 * 128 * 256
    assert full == 3 * forward_flops_per_token(gpt(4, 128, 64, 256))


@pytest.mark.parametrize(("layers", "width", "total"), STUDY_A_GPT)
def test_llamas_of_study_a_are_as_large_as_its_gpts(layers, width, total):
    of_gpt, of_llama = (count_parameters(of(layers, width, 64, 256)) for of in (gpt, llama))
    assert of_gpt.total == total
    assert of_llama.non_embedding == pytest.approx(of_gpt.non_embedding, rel=0.015)


def test_lstm_flops_have_no_context_term():
    assert train_flops_per_token(lstm(2, 256, 64)) == 6 * (16 * 256**2 + 64 * 256)
    assert train_flops_per_token(lstm(), "full") == train_flops_per_token(lstm(), "causal_mean")


def test_6nd_is_six_times_both():
    assert flops_6nd(1000, 7) == 42_000


def test_bad_shapes_say_what_is_wrong():
    with pytest.raises(ValueError, match=r"model_type is 'gpt2', expected one of abc_gpt"):
        ModelShape("gpt2", 8, 1, 64)
    with pytest.raises(ValueError, match="needs max_position_embeddings"):
        ModelShape("abc_gpt", 8, 1, 64)
    with pytest.raises(ValueError, match="hidden_size is 0, expected 1 or more"):
        ModelShape("abc_lstm", 0, 1, 64)
    with pytest.raises(ValueError, match="attention is 'sparse', expected one of full"):
        train_flops_per_token(gpt(), "sparse")


def test_wide_models_and_long_contexts_are_expected_to_fill_more_of_a_gpu():
    assert usual_share("abc_gpt", 128, 256) < usual_share("abc_gpt", 1024, 256)
    assert usual_share("abc_gpt", 1024, 256) < usual_share("abc_gpt", 1024, 1024)
    assert usual_share("abc_lstm", 256, 256) < usual_share("abc_lstm", 1100, 256)
    assert peak_flops("NVIDIA A100-SXM4-80GB") == PEAK_FLOPS["a100"]
    assert peak_flops("cpu") is None


def test_peak_is_that_of_the_board_not_of_the_chip():
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("NVIDIA H100 PCIe") == 756e12
    assert peak_flops("NVIDIA H100 NVL") == peak_flops("NVIDIA H200 NVL") == 835e12
    assert peak_flops("NVIDIA H100 80GB HBM3 MIG 1g.10gb") is None
