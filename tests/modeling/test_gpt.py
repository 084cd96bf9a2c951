import copy

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.cache_utils import Cache

from modeling import AbcGPTConfig, AbcGPTForCausalLM

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def small_gpt(**changes):
    """A model whose weights are large enough to prefer some tokens clearly over others."""
    shape = {"vocab_size": 20, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    settings = {**shape, "max_position_embeddings": 32, "initializer_range": 0.3, **SPECIAL}
    torch.manual_seed(0)
    return AbcGPTForCausalLM(AbcGPTConfig(**{**settings, **changes})).eval()


def tokens(rows, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 20, (rows, length), generator=generator)


@pytest.mark.parametrize(
    ("layers", "width", "heads", "vocab", "context", "n_params", "millions"),
    [
        (4, 128, 4, 64, 256, 828_544, 0.8),
        (6, 256, 8, 64, 256, 4_803_840, 4.8),
        (12, 384, 6, 64, 256, 21_366_144, 21.4),
        (16, 512, 8, 64, 256, 50_512_384, 50.5),
        (16, 768, 12, 64, 256, 113_517_312, 113.5),
        (16, 1024, 16, 4096, 1024, 206_603_264, 206.6),
    ],
)
def test_parameter_counts_are_those_of_study_a(
    layers, width, heads, vocab, context, n_params, millions
):
    config = AbcGPTConfig(
        vocab_size=vocab,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=context,
    )
    with torch.device("meta"):
        model = AbcGPTForCausalLM(config)
    per_layer = 12 * width**2 + 2 * width
    assert model.num_parameters() == (vocab + context + 1) * width + layers * per_layer == n_params
    assert round(n_params / 1e6, 1) == millions
    assert model.num_parameters(exclude_embeddings=True) == layers * per_layer + width


def test_study_a_states_its_best_model_without_positions():
    positions = 1024 * 1024
    assert round((206_603_264 - positions) / 1e6) == 206


def test_no_module_has_a_bias():
    assert [name for name, _ in small_gpt().named_parameters() if "bias" in name] == []


def test_residual_projections_start_smaller_by_depth():
    model = small_gpt(hidden_size=128, num_hidden_layers=8, initializer_range=0.02)
    layer = model.model.layers[3]
    assert layer.attention.qkv_proj.weight.std().item() == pytest.approx(0.02, rel=0.05)
    for projection in (layer.attention.o_proj, layer.mlp.down_proj):
        assert projection.weight.std().item() == pytest.approx(0.02 / 4, rel=0.05)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="hidden_size 30 and num_attention_heads 4"):
        AbcGPTConfig(hidden_size=30, num_attention_heads=4)


def test_gpt_does_not_see_the_future():
    model, ids = small_gpt(), tokens(2, 16)
    changed = ids.clone()
    changed[:, 10] = (changed[:, 10] + 1) % 20
    before, after = model(ids).logits, model(changed).logits
    assert torch.equal(before[:, :10], after[:, :10])
    assert not torch.allclose(before[:, 10], after[:, 10])


@pytest.mark.parametrize("kind", ["dynamic", "static"])
def test_cached_logits_equal_the_full_pass(kind):
    model, ids = small_gpt(), tokens(2, 12)
    full = model(ids, use_cache=False).logits
    static = StaticCache(config=model.config, max_cache_len=16)
    cache = static if kind == "static" else DynamicCache(config=model.config)
    steps = [ids[:, :5], ids[:, 5:9], *ids[:, 9:].split(1, dim=1)]
    parts = [model(step, past_key_values=cache, use_cache=True).logits for step in steps]
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-5, rtol=1e-4)


def test_static_and_dynamic_cache_generate_the_same():
    model, ids = small_gpt(), tokens(2, 6)
    expected = model.generate(ids, max_new_tokens=10, do_sample=False)
    static = model.generate(
        ids, max_new_tokens=10, do_sample=False, cache_implementation="static", disable_compile=True
    )
    assert torch.equal(static, expected)


def test_eager_and_sdpa_attention_agree():
    model, ids = small_gpt(), tokens(2, 12)
    expected = model(ids).logits
    model.set_attn_implementation("eager")
    output = model(ids, output_attentions=True, output_hidden_states=True)
    torch.testing.assert_close(output.logits, expected, atol=1e-5, rtol=1e-4)
    assert [a.shape for a in output.attentions] == [(2, 4, 12, 12)] * 2
    assert len(output.hidden_states) == 3


def test_left_padded_rows_generate_what_each_row_generates_alone():
    model, rows = small_gpt(), [tokens(1, n, seed=n) for n in (9, 4, 6)]
    batch = torch.cat([torch.nn.functional.pad(row, (9 - row.shape[1], 0)) for row in rows])
    mask = (batch != 0).long()
    alone = [model.generate(r, max_new_tokens=8, do_sample=False)[0, r.shape[1] :] for r in rows]
    together = model.generate(batch, attention_mask=mask, max_new_tokens=8, do_sample=False)
    for row, expected in zip(together, alone, strict=True):
        assert torch.equal(row[9 : 9 + len(expected)], expected)


def test_forward_gives_padded_rows_their_own_positions():
    model, ids = small_gpt(), tokens(1, 6)
    batch = torch.nn.functional.pad(ids, (5, 0))
    logits = model(batch, attention_mask=(batch != 0).long()).logits[:, 5:]
    torch.testing.assert_close(logits, model(ids).logits, atol=1e-5, rtol=1e-4)


def test_beams_reorder_the_cache_and_equal_beams_without_cache(monkeypatch):
    model, ids = small_gpt(), tokens(2, 5)
    moves, reorder = [], Cache.reorder_cache

    def spy(cache, beam_idx):
        moves.append(not torch.equal(beam_idx.cpu(), torch.arange(len(beam_idx))))
        reorder(cache, beam_idx)

    monkeypatch.setattr(Cache, "reorder_cache", spy)
    beams = {"num_beams": 4, "max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    cached = model.generate(ids, **beams)
    assert any(moves)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **beams))


def test_sequence_beyond_the_position_table_is_a_clear_error():
    model = small_gpt()
    with pytest.raises(ValueError, match=r"33 tokens, but max_position_embeddings is 32; cut"):
        model(tokens(1, 33))
    with pytest.raises(ValueError, match="max_position_embeddings is 32"):
        model.generate(tokens(1, 30), max_new_tokens=4, num_beams=2, eos_token_id=None)


def test_rows_packed_one_behind_the_other_may_exceed_the_position_table():
    model, ids = small_gpt(), tokens(2, 24)
    positions = torch.arange(24).repeat(2)[None]
    packed = model(ids.view(1, 48), position_ids=positions, use_cache=False).logits
    torch.testing.assert_close(packed.view(2, 24, -1), model(ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
def test_gradient_checkpointing_changes_no_gradient():
    model, ids = small_gpt().train(), tokens(2, 12)
    other = copy.deepcopy(model)
    other.gradient_checkpointing_enable()
    for each in (model, other):
        each(ids, labels=ids, use_cache=False).loss.backward()
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad)


def test_loss_is_the_shifted_mean_and_honours_num_items_in_batch():
    model, ids = small_gpt(), tokens(2, 12)
    output = model(ids, labels=ids)
    logits = output.logits[:, :-1].flatten(0, 1)
    by_hand = torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten())
    torch.testing.assert_close(output.loss, by_hand)
    scaled = model(ids, labels=ids, num_items_in_batch=torch.tensor(100)).loss
    torch.testing.assert_close(scaled * 100, by_hand * 22)


def test_logits_to_keep_gives_the_last_places_only():
    model, ids = small_gpt(), tokens(2, 12)
    last = model(ids, logits_to_keep=1).logits
    torch.testing.assert_close(last, model(ids).logits[:, -1:], atol=1e-5, rtol=1e-4)


def test_loss_decreases_in_a_few_steps():
    model, ids = small_gpt(initializer_range=0.02, dropout=0.1).train(), tokens(4, 24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
