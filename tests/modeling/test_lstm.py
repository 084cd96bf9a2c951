import pytest
import torch
from decoding_models import build, tokens
from transformers import DynamicCache
from transformers.cache_utils import Cache

from modeling import AbcLSTMConfig, AbcLSTMForCausalLM

SPECIAL = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}


def small_lstm(**changes):
    """A model whose weights are large enough to prefer some tokens clearly over others."""
    settings = {"vocab_size": 20, "hidden_size": 24, "num_hidden_layers": 2, **SPECIAL, **changes}
    torch.manual_seed(0)
    return AbcLSTMForCausalLM(AbcLSTMConfig(**settings)).eval()


@pytest.mark.parametrize(
    ("width", "n_params", "millions"),
    [
        (256, 1_069_056, 1.07),
        (560, 5_062_400, 5.06),
        (1100, 19_448_000, 19.45),
        (1750, 49_140_000, 49.14),
        (2500, 100_200_000, 100.20),
    ],
)
def test_parameter_counts_are_those_of_study_a(width, n_params, millions):
    with torch.device("meta"):
        model = AbcLSTMForCausalLM(AbcLSTMConfig(vocab_size=64, hidden_size=width))
    recurrent = 2 * (8 * width**2 + 8 * width)
    assert model.num_parameters() == 64 * width + recurrent == n_params
    assert round(n_params / 1e6, 2) == millions
    assert model.num_parameters(exclude_embeddings=True) == recurrent


def test_training_pass_is_plain_torch_lstm():
    model, ids = small_lstm(), tokens(3, 12)
    reference = torch.nn.LSTM(24, 24, num_layers=2, batch_first=True)
    with torch.no_grad():
        for number, layer in enumerate(model.model.layers):
            for name, weight in layer.lstm.named_parameters():
                getattr(reference, name.replace("l0", f"l{number}")).copy_(weight)
    embedding = model.get_input_embeddings()
    expected = reference(embedding(ids))[0] @ embedding.weight.T
    torch.testing.assert_close(model(ids, attention_mask=torch.ones_like(ids)).logits, expected)


def test_lstm_state_equals_full_pass():
    model, ids = build("lstm"), tokens(2, 12)
    full = model(ids, use_cache=False).logits
    cache, parts = None, []
    for step in (ids[:, :5], ids[:, 5:9], *ids[:, 9:].split(1, dim=1)):
        output = model(step, past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        parts.append(output.logits)
    torch.testing.assert_close(torch.cat(parts, dim=1), full, atol=1e-6, rtol=1e-5)
    assert cache.get_seq_length() == 12


def test_lstm_does_not_see_the_future():
    model, ids = build("lstm"), tokens(2, 12)
    changed = ids.clone()
    changed[:, 8] = (changed[:, 8] + 1) % 20
    assert torch.equal(model(ids).logits[:, :8], model(changed).logits[:, :8])


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_moves_neither_logits_nor_state(side):
    model, ids = build("lstm"), tokens(1, 6)
    alone = model(ids, use_cache=True, output_hidden_states=True)
    pads, place = ((5, 0), slice(5, None)) if side == "left" else ((0, 5), slice(6))
    batch = torch.cat([tokens(1, 11, seed=1), torch.nn.functional.pad(ids, pads)])
    mask = (batch != 0).long()
    padded = model(batch, attention_mask=mask, use_cache=True, output_hidden_states=True)
    torch.testing.assert_close(padded.logits[1:, place], alone.logits)
    for one, two in zip(padded.hidden_states, alone.hidden_states, strict=True):
        torch.testing.assert_close(one[1:, place], two)
    for one, two in zip(padded.past_key_values.layers, alone.past_key_values.layers, strict=True):
        torch.testing.assert_close((one.keys[1:], one.values[1:]), (two.keys, two.values))


@pytest.mark.parametrize("options", [{}, {"prefill_chunk_size": 2}, {"use_cache": False}])
def test_left_padded_rows_generate_what_each_row_generates_alone(options):
    model, rows = build("lstm"), [tokens(1, n, seed=n) for n in (9, 4, 6)]
    batch = torch.cat([torch.nn.functional.pad(row, (9 - row.shape[1], 0)) for row in rows])
    mask = (batch != 0).long()
    greedy = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    alone = [model.generate(row, **greedy)[0, row.shape[1] :] for row in rows]
    together = model.generate(batch, attention_mask=mask, **greedy, **options)
    assert torch.equal(together[:, 9:], torch.stack(alone))


def test_beams_reorder_the_state_and_equal_beams_without_cache(monkeypatch):
    model, ids = build("lstm"), tokens(2, 5)
    moves, reorder = [], Cache.reorder_cache

    def spy(cache, beam_idx):
        moves.append(not torch.equal(beam_idx.cpu(), torch.arange(len(beam_idx))))
        reorder(cache, beam_idx)

    monkeypatch.setattr(Cache, "reorder_cache", spy)
    beams = {"num_beams": 4, "max_new_tokens": 10, "do_sample": False, "eos_token_id": None}
    cached = model.generate(ids, **beams)
    assert any(moves)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **beams))


def test_generation_goes_on_from_a_returned_state():
    model, ids = build("lstm"), tokens(1, 5)
    greedy = {"do_sample": False, "eos_token_id": None}
    whole = model.generate(ids, max_new_tokens=8, **greedy)
    first = model.generate(ids, max_new_tokens=4, return_dict_in_generate=True, **greedy)
    state = first.past_key_values
    rest = model.generate(first.sequences, past_key_values=state, max_new_tokens=4, **greedy)
    assert torch.equal(rest, whole)


def test_dropout_acts_between_layers_only():
    ids = tokens(2, 12)
    single = small_lstm(num_hidden_layers=1, dropout=0.5)
    assert torch.equal(single.train()(ids).logits, single.eval()(ids).logits)
    double = small_lstm(dropout=0.5)
    assert not torch.equal(double.train()(ids).logits, double.eval()(ids).logits)
    without = small_lstm(dropout=0.0)
    assert torch.equal(without.train()(ids).logits, without.eval()(ids).logits)


@pytest.mark.parametrize("tied", [True, False])
def test_embedding_and_head_start_wide_and_forget_gates_open(tied):
    model = small_lstm(vocab_size=500, tie_word_embeddings=tied)
    for weight in (model.model.embed_tokens.weight, model.lm_head.weight):
        assert weight.norm(dim=1).mean().item() == pytest.approx(5, rel=0.05)
    for layer in model.model.layers:
        gates = (layer.lstm.bias_ih_l0 + layer.lstm.bias_hh_l0).view(4, 24)
        assert [gate.unique().tolist() for gate in gates] == [[0.0], [1.0], [0.0], [0.0]]


def test_loss_honours_num_items_in_batch():
    model, ids = small_lstm(), tokens(2, 12)
    mean = model(ids, labels=ids).loss
    scaled = model(ids, labels=ids, num_items_in_batch=torch.tensor(100)).loss
    torch.testing.assert_close(scaled * 100, mean * 22)


@pytest.mark.parametrize("tied", [True, False])
def test_loss_decreases_in_a_few_steps(tied):
    model, ids = small_lstm(hidden_size=32, tie_word_embeddings=tied).train(), tokens(4, 24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(ids, labels=ids, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_what_an_lstm_cannot_do_is_a_clear_error():
    model, ids = small_lstm(), tokens(1, 5)
    with pytest.raises(ValueError, match="is a DynamicCache, expected an AbcLSTMCache"):
        model(ids, past_key_values=DynamicCache(config=model.config))
    with pytest.raises(ValueError, match="'static', but an LSTM has one state"):
        model.generate(ids, max_new_tokens=2, cache_implementation="static")
    with pytest.raises(ValueError, match=r"attention_mask of shape \(1, 1, 5, 5\)"):
        model(ids, attention_mask=torch.ones(1, 1, 5, 5))
    state = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="recurrent state; run the prompt again"):
        state.crop(-1)


def test_gradient_checkpointing_changes_no_gradient():
    model, other, ids = small_lstm().train(), small_lstm().train(), tokens(3, 12)
    other.gradient_checkpointing_enable()
    assert other.is_gradient_checkpointing
    for each in (model, other):
        each(ids, labels=ids, use_cache=False).loss.backward()
    for one, same in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one.grad, same.grad)


def test_packed_texts_do_not_see_each_other():
    model, ids = small_lstm(), tokens(2, 12)
    lengths = (5, 4, 3)
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    packed = model(ids, position_ids=positions, use_cache=True)
    alone = torch.cat([model(part).logits for part in ids.split(lengths, dim=1)], dim=1)
    torch.testing.assert_close(packed.logits, alone)
    state, last = packed.past_key_values, model(ids[:, 9:], use_cache=True).past_key_values
    for one, same in zip(state.layers, last.layers, strict=True):
        torch.testing.assert_close((one.keys, one.values), (same.keys, same.values))


def test_packed_rows_with_padding_or_a_cache_are_a_clear_error():
    model, ids = small_lstm(), tokens(1, 6)
    positions = torch.tensor([[0, 1, 2, 0, 1, 2]])
    with pytest.raises(ValueError, match="pass packed rows whole and without padding"):
        model(ids, position_ids=positions, attention_mask=torch.tensor([[1, 1, 1, 1, 1, 0]]))
    cache = model(ids, use_cache=True).past_key_values
    with pytest.raises(ValueError, match="pass packed rows whole and without padding"):
        model(ids, position_ids=positions, past_key_values=cache)
