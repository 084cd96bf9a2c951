import copy
import functools
from threading import Thread

import pytest
import torch
from decoding_models import build, generate, padded, tokens
from tiny_models import char_tokenizer
from transformers import (
    DynamicCache,
    GenerationMixin,
    LogitsProcessor,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
    TextIteratorStreamer,
)

from modeling import (
    AbcGPTForCausalLM,
    decoding_abc,
    decoding_abc_gpt,
)

FAMILIES = ("gpt", "lstm", "llama")
LIBRARY = {"custom_generate": GenerationMixin._sample}  # the loop that is the reference
GREEDY = {"do_sample": False, "eos_token_id": None}
SAMPLED = {"do_sample": True, "top_k": 8, "temperature": 0.8, "eos_token_id": None}


@pytest.fixture
def runs(monkeypatch):
    """Which path each call of `generate` takes from now on: "fast" or "library"."""
    taken, library = [], GenerationMixin._sample

    @functools.wraps(library)  # generate looks at its signature
    def by_library(*args, **kwargs):
        taken.append("library")
        return library(*args, **kwargs)

    def spy(sample):
        def fast(*args):
            taken.append("fast")
            return sample(*args)

        return fast

    monkeypatch.setattr(GenerationMixin, "_sample", by_library)
    monkeypatch.setattr(decoding_abc, "sample", spy(decoding_abc.sample))
    return taken


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("rows", [(1,), (9, 4, 6)])
def test_500_greedy_tokens_are_those_of_the_library(family, rows):
    changes = {} if family == "lstm" else {"max_position_embeddings": 512}
    model, prompt = build(family, **changes), padded(*rows)
    output = generate(model, **prompt, max_new_tokens=500, **GREEDY)
    expected = generate(model, **prompt, max_new_tokens=500, **GREEDY, **LIBRARY)
    assert torch.equal(output, expected)
    assert output.unique().numel() > 5


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "rules",
    [
        {"top_k": 8, "temperature": 0.8},
        {"top_k": 50},
        {"top_k": 0, "top_p": 0.9, "temperature": 1.3},
        {"top_k": 5, "top_p": 0.8, "min_p": 0.1, "temperature": 2.0},
        {"top_k": 8, "typical_p": 0.9, "repetition_penalty": 1.2, "no_repeat_ngram_size": 4},
    ],
)
def test_samples_are_those_of_the_library_for_the_same_seed(family, rules, runs):
    model, prompt = build(family), padded(9, 4, 6)
    options = {**prompt, "max_new_tokens": 30, "num_return_sequences": 2, "do_sample": True}
    for seed in range(2):
        output, after = generate(model, seed, **options, **rules), torch.rand(1)
        expected = generate(model, seed, **options, **rules, **LIBRARY)
        assert torch.equal(output, expected)
        assert after == torch.rand(1)  # the generator has moved as far
    assert runs == ["fast"] * 2


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("end", [{"eos_token_id": [*range(2, 12)]}, {"eos_token_id": 3}])
def test_rows_end_by_themselves_and_are_filled_as_by_the_library(family, end, runs):
    model, prompt = build(family), padded(9, 4, 6, 5)
    options = {**prompt, **SAMPLED, "max_new_tokens": 40, "pad_token_id": 3, **end}
    filled = set()
    for seed in range(3):
        output = generate(model, seed, **options)
        assert torch.equal(output, generate(model, seed, **options, **LIBRARY))
        filled |= {int((row == 3).sum()) for row in output[:, 9:]}
        assert output.shape[1] < 49 or end["eos_token_id"] == 3
    assert runs == ["fast"] * 3
    assert len(filled) > 1


@pytest.mark.parametrize("family", FAMILIES)
def test_padding_moves_no_row(family):
    model, prompt = build(family), padded(9, 4, 6)
    together = generate(model, **prompt, max_new_tokens=40, **GREEDY)
    for row, length in zip(together, (9, 4, 6), strict=True):
        alone = generate(model, input_ids=tokens(1, length, length), max_new_tokens=40, **GREEDY)
        assert torch.equal(row[9:], alone[0, length:])


@pytest.mark.parametrize("family", ["gpt", "lstm"])  # a sampler of ones own gets no streamer
def test_streamed_text_is_the_text(family, runs):
    tokenizer = char_tokenizer()
    model = build(family, vocab_size=len(tokenizer))
    ids = tokenizer("X:1\n", return_tensors="pt")["input_ids"]
    streamer = TextIteratorStreamer(tokenizer, timeout=300)
    options = {"inputs": ids, "streamer": streamer, "max_new_tokens": 30, **GREEDY}
    thread = Thread(target=model.generate, kwargs=options)
    thread.start()
    text = "".join(streamer)
    thread.join()
    assert text == tokenizer.decode(model.generate(ids, max_new_tokens=30, **GREEDY)[0])
    assert runs == ["fast", "fast"]


class EvenAfterOdd(LogitsProcessor):
    """Changes scores in place, and remembers what it was shown."""

    def __init__(self):
        self.seen = []

    def __call__(self, input_ids, scores):
        self.seen.append(input_ids)
        scores[:, 0::2] += 5.0 * (input_ids[:, -1:] % 2)
        return scores


class SumAbove(StoppingCriteria):
    def __init__(self, limit):
        self.limit, self.n_calls = limit, 0

    def __call__(self, input_ids, scores, **kwargs):
        self.n_calls += 1
        return input_ids.sum(1) > self.limit


@pytest.mark.parametrize("family", FAMILIES)
def test_own_processors_and_criteria_are_asked_at_every_step(family, runs):
    model, prompt = build(family), padded(9, 4, 6)
    results = []
    for path in ({}, LIBRARY):
        processor, criterion = EvenAfterOdd(), SumAbove(400)
        rules = {"logits_processor": LogitsProcessorList([processor])}
        rules["stopping_criteria"] = StoppingCriteriaList([criterion])
        options = {**prompt, **SAMPLED, "eos_token_id": 3, "max_new_tokens": 50}
        results.append((generate(model, **options, **rules, **path), processor, criterion))
    (output, processor, criterion), (expected, other, _) = results
    assert runs == ["fast"]
    assert torch.equal(output, expected)
    assert criterion.n_calls == len(processor.seen) == output.shape[1] - 9 < 50
    for one, two in zip(processor.seen, other.seen, strict=True):
        assert torch.equal(one, two)


@pytest.mark.parametrize("family", FAMILIES)
def test_scores_without_a_choice_are_an_error(family):
    class Nothing(LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores + float("-inf")

    rules = {"logits_processor": LogitsProcessorList([Nothing()]), "max_new_tokens": 4}
    with pytest.raises(RuntimeError, match="probability tensor"):
        build(family).generate(tokens(2, 4), **SAMPLED, **rules)


@pytest.mark.parametrize("family", FAMILIES)
def test_output_may_be_changed_in_place(family):
    output = build(family).generate(tokens(2, 4), max_new_tokens=4, **SAMPLED)
    output += 1
    assert not output.is_inference()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_of_this_moment_are_used(family, runs):
    model, ids = build(family), tokens(2, 6)
    options = {"input_ids": ids, "max_new_tokens": 30, **GREEDY}
    before = generate(model, **options)
    model.train()
    model(ids, labels=ids).loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.5).step()
    model.eval()
    trained = generate(model, **options)
    assert not torch.equal(trained, before)
    assert torch.equal(trained, generate(model, **options, **LIBRARY))
    model.resize_token_embeddings(30)
    with torch.no_grad():
        model.lm_head.weight[20:] = 2 * model.lm_head.weight[:10]
    resized = generate(model, **options)
    assert torch.equal(resized, generate(model, **options, **LIBRARY))
    assert (resized >= 20).any()
    loaded = build(family)
    loaded.resize_token_embeddings(30)
    loaded.load_state_dict(model.state_dict())
    assert torch.equal(generate(loaded, **options), resized)
    assert runs == ["fast"] * 4


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_weights_generate_what_the_library_generates(family, dtype, runs):
    model = build(family).to(dtype)
    options = {**padded(9, 4, 6), "max_new_tokens": 50, **SAMPLED}
    output = generate(model, **options)
    assert runs == ["fast" if family == "gpt" else "library"]
    assert torch.equal(output, generate(model, **options, **LIBRARY))


@pytest.mark.parametrize("family", FAMILIES)
def test_tables_larger_than_weights_are_not_made(family):
    """More tokens than width: the LSTM computes the gates of its first layer each time."""
    model, prompt = build(family, vocab_size=50), padded(9, 4)
    options = {**prompt, "max_new_tokens": 50, **SAMPLED}
    assert torch.equal(generate(model, **options), generate(model, **options, **LIBRARY))


class Louder(torch.nn.Linear):
    """Stands for an adapter: what it does is not in its weight alone."""

    def forward(self, hidden_states):
        return 3 * super().forward(hidden_states).roll(1, -1)


def replace_head(model):
    model.lm_head.__class__ = Louder


def hook_norms(model):
    last = model.model.layers[-1]
    last.register_forward_hook(lambda module, args, output: output.roll(1, -1))


def override_forward(model):
    plain = model.forward
    model.forward = lambda *args, **kwargs: plain(*args, **kwargs)


def train_mode(model):
    model.train()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("change", [replace_head, override_forward, train_mode])
def test_models_that_were_tampered_with_run_their_modules(family, change, runs):
    model = build(family)
    change(model)
    options = {"input_ids": tokens(2, 6), "max_new_tokens": 20, **GREEDY}
    output = generate(model, **options)
    assert runs == ["library"]
    assert torch.equal(output, generate(model, **options, **LIBRARY))
    assert torch.equal(output, generate(build(family), **options)) is (change is not replace_head)


def test_hooks_and_subclasses_are_seen(runs):
    options = {"input_ids": tokens(2, 6), "max_new_tokens": 20, **GREEDY}
    plain, model = build("gpt"), build("gpt")
    hook_norms(model)
    assert not torch.equal(generate(model, **options), generate(plain, **options))

    class Child(AbcGPTForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = -output.logits
            return output

    model = build("gpt")
    model.__class__ = Child
    assert not torch.equal(generate(model, **options), generate(plain, **options))
    assert runs == ["library", "fast"] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_compiled_modules_are_left_to_the_compiler(family):
    model = build(family)
    own = {type(each) for each in model.modules()}
    assert decoding_abc.is_plain_model(model, own, model.device)
    model.model.layers[0].compile(backend="eager")
    assert not decoding_abc.is_plain_model(model, own, model.device)


@pytest.mark.parametrize("family", FAMILIES)
def test_longest_length_may_be_a_criterion(family, runs):
    model, ids = build(family), tokens(2, 6)
    rules = {"stopping_criteria": StoppingCriteriaList([MaxLengthCriteria(30)])}
    output = model.generate(ids, max_new_tokens=4, **rules, **GREEDY)
    assert runs == ["fast"]
    assert torch.equal(output, model.generate(ids, max_new_tokens=4, **rules, **GREEDY, **LIBRARY))


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_adapter_is_heard(family, runs):
    peft = pytest.importorskip("peft")
    adapted = {
        "gpt": {"target_modules": ["qkv_proj"]},
        "lstm": {"target_parameters": ["lstm.weight_ih_l0"]},
        "llama": {"target_modules": ["q_proj"]},
    }
    config = peft.LoraConfig(init_lora_weights=False, **adapted[family])
    model = peft.get_peft_model(build(family), config).eval()
    options = {"input_ids": tokens(2, 6), "max_new_tokens": 20, **GREEDY}
    adapted = generate(model, **options)
    assert runs == ["library"]
    assert not torch.equal(adapted, generate(build(family), **options))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "request_",
    [
        {"return_dict_in_generate": True, "output_scores": True},
        {"use_cache": False},
        {"prefill_chunk_size": 2},
        {"synced_gpus": False, "output_hidden_states": True, "return_dict_in_generate": True},
    ],
)
def test_unusual_requests_go_to_the_library(family, request_, runs):
    model, ids = build(family), tokens(2, 6)
    output = model.generate(ids, max_new_tokens=20, **GREEDY, **request_)
    output = output if isinstance(output, torch.Tensor) else output.sequences
    assert runs == ["library"]
    assert torch.equal(output, model.generate(ids, max_new_tokens=20, **GREEDY))


@pytest.mark.parametrize("family", FAMILIES)
def test_beams_embeddings_and_caches_of_ones_own_go_to_the_library(family, runs):
    model, ids = build(family), tokens(2, 6)
    beams = {"custom_generate": None} if family == "llama" else {}
    model.generate(ids, max_new_tokens=5, num_beams=3, **GREEDY, **beams)
    assert runs == []
    embeds = model.get_input_embeddings()(ids)
    new = model.generate(inputs_embeds=embeds, max_new_tokens=9, **GREEDY)
    assert runs.pop() == "library"
    whole = model.generate(ids, max_new_tokens=9, **GREEDY)
    assert runs.pop() == "fast"
    assert torch.equal(new, whole[:, 6:])
    first = model.generate(ids, max_new_tokens=4, return_dict_in_generate=True, **GREEDY)
    cache = first.past_key_values
    rest = model.generate(first.sequences, past_key_values=cache, max_new_tokens=5, **GREEDY)
    assert torch.equal(rest, whole)
    own = copy.deepcopy(cache) if family == "lstm" else DynamicCache(config=model.config)
    if family != "lstm":
        model.generate(ids, past_key_values=own, max_new_tokens=4, **GREEDY)
        assert own.get_seq_length() == 9
    assert "fast" not in runs


def by_hand(model, ids, n_new):
    """Greedy tokens of one row, by a full pass over the documented window for each of them."""
    context = model.config.max_position_embeddings
    start = 0
    for _ in range(n_new):
        if ids.shape[1] - start > context:
            start = ids.shape[1] - context // 2
        logits = model(ids[:, start:], use_cache=False).logits[:, -1]
        ids = torch.cat([ids, logits.argmax(-1, keepdim=True)], dim=1)
    return ids


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_beyond_the_context_attention_goes_on_from_its_last_half(family):
    model, ids = build(family, max_position_embeddings=16), tokens(1, 5)
    with torch.no_grad():
        expected = by_hand(model, ids, 500)
    output = model.generate(ids, max_new_tokens=500, **GREEDY)
    assert torch.equal(output, expected)
    assert output.unique().numel() > 5


@pytest.mark.parametrize("family", ["gpt", "llama"])
def test_beyond_the_context_each_row_has_a_window_of_its_own(family):
    model, prompt = build(family, max_position_embeddings=16), padded(9, 4, 6)
    together = model.generate(**prompt, max_new_tokens=60, **GREEDY)
    for row, length in zip(together, (9, 4, 6), strict=True):
        alone = model.generate(tokens(1, length, length), max_new_tokens=60, **GREEDY)
        assert torch.equal(row[9:], alone[0, length:])


@pytest.mark.parametrize("family", ["gpt", "llama"])
@pytest.mark.parametrize("n_first", [5, 11, 12, 20, 41])
def test_going_on_from_an_output_is_one_longer_call(n_first, family):
    model, ids = build(family, max_position_embeddings=16), tokens(1, 5)
    first = model.generate(ids, max_new_tokens=n_first, **GREEDY)
    rest = model.generate(first, max_new_tokens=60 - n_first, **GREEDY)
    assert torch.equal(rest, model.generate(ids, max_new_tokens=60, **GREEDY))


def test_windows_keep_half_a_context_when_it_is_full():
    for context in (1, 2, 3, 16, 17):
        for n_tokens in range(1, 5 * context):
            start = int(decoding_abc_gpt.first_read(torch.tensor([n_tokens]), context))
            before = int(decoding_abc_gpt.first_read(torch.tensor([n_tokens - 1]), context))
            assert 1 <= n_tokens - start <= context
            assert start == before or n_tokens - start == max(1, context // 2)


def test_beyond_the_context_the_library_path_is_a_clear_error():
    model, ids = build("gpt", max_position_embeddings=16), tokens(1, 5)
    for options in ({"num_beams": 2}, {"return_dict_in_generate": True}):
        with pytest.raises(ValueError, match="max_position_embeddings is 16"):
            model.generate(ids, max_new_tokens=20, **GREEDY, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_hidden_states_wanted_once_do_not_slow_down_what_follows(family, runs):
    """The library's hooks stay in the modules, and do nothing until they are wanted again."""
    model, ids = build(family), tokens(2, 6)
    before = generate(model, input_ids=ids, max_new_tokens=20, **GREEDY)
    hidden = model(ids, output_hidden_states=True).hidden_states
    assert torch.equal(generate(model, input_ids=ids, max_new_tokens=20, **GREEDY), before)
    assert runs == ["fast"] * 2
    again = model(ids, output_hidden_states=True).hidden_states
    assert all(map(torch.equal, hidden, again))


def with_adapter(model):
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["qkv_proj"])).eval()


def with_hook(model):
    model.model.norm.register_forward_hook(lambda module, args, output: output)
    return model


@pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed in v6:FutureWarning")
@pytest.mark.parametrize("change", [with_adapter, with_hook, torch.nn.Module.train])
def test_beyond_the_context_the_modules_go_on_as_the_weights_do(change, runs):
    """Adapters that do nothing yet, and what else has its modules run: the same tokens."""
    options = {**padded(9, 4, 6), "max_new_tokens": 60, **GREEDY}
    expected = generate(build("gpt", max_position_embeddings=16), **options)
    model = change(build("gpt", max_position_embeddings=16))
    assert torch.equal(generate(model, **options), expected)
    assert runs == ["fast"] * 2


def test_beyond_the_context_half_precision_goes_on():
    model = build("gpt", max_position_embeddings=16).to(torch.float16)
    output = generate(model, input_ids=tokens(2, 5), max_new_tokens=60, **GREEDY)
    assert output.shape == (2, 65)
