"""What `transformers serve` does with our folders; docs/how-to/serve.md says it in words."""

import contextlib
import json
import time
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from test_model_card import make_run
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.import_utils import is_serve_available

from model_cards.publish import publish

pytestmark = pytest.mark.skipif(
    not is_serve_available(), reason="needs pip install 'transformers[serving]'"
)
PROMPT = "X:1\nM:6/8\n"


@contextlib.contextmanager
def serving(folder, **options):
    """The server of the command, in a thread; yields a function from a request to its answer."""
    from transformers.cli.serve import Serve

    place = {"device": "cpu", "host": "127.0.0.1", "port": 0}
    server = Serve(force_model=str(folder), non_blocking=True, **place, **options)
    try:
        while not server.server.started:
            time.sleep(0.01)
        _, port = server.server.servers[0].sockets[0].getsockname()

        def ask(**body):
            request = Request(f"http://127.0.0.1:{port}/v1/completions", method="POST")
            request.add_header("Content-Type", "application/json")
            with urlopen(request, json.dumps(body).encode(), timeout=120) as answer:
                return answer.read().decode()

        yield ask
    finally:
        server.kill_server()


def test_stock_export_completes_a_prompt_as_generate_does(tmp_path):
    (folder,) = publish(make_run(tmp_path), "someone/tiny", True, False, True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    inputs = tokenizer(PROMPT, return_tensors="pt")
    ids = model.generate(**inputs, max_new_tokens=40, do_sample=False)[0]
    expected = tokenizer.decode(ids[inputs.input_ids.shape[1] :], skip_special_tokens=True)
    with serving(folder) as ask:
        answer = json.loads(ask(prompt=PROMPT, max_tokens=40, temperature=0))
        (choice,) = answer["choices"]
        assert choice["text"] == expected
        assert answer["usage"]["prompt_tokens"] == 1 + len(PROMPT)  # and the start
        # as the page says: a seed repeats a tune, and parts are sent as they are written
        tunes = {json.loads(ask(prompt=PROMPT, max_tokens=40, seed=1))["choices"][0]["text"]}
        parts = [
            json.loads(line.removeprefix("data: "))["choices"][0]["text"]
            for line in ask(prompt=PROMPT, max_tokens=40, seed=1, stream=True).split("\n\n")
            if line
        ]
        assert tunes == {"".join(parts)}
        # without max_tokens, the server asks for 1,024, which is beyond the positions of a GPT-2
        with pytest.raises(HTTPError, match="500"):
            ask(prompt=PROMPT, temperature=0)


@pytest.mark.parametrize("model_type", ["abc_gpt", "abc_lstm"])
def test_classes_of_our_own_are_not_served(model_type, tmp_path):
    (folder,) = publish(make_run(tmp_path, model_type), "someone/tiny", False, False, True)
    name = {"abc_gpt": "AbcGPT", "abc_lstm": "AbcLSTM"}[model_type]
    refused = pytest.raises(AttributeError, match=f"no attribute {name}ForCausalLM")
    with refused, serving(folder, trust_remote_code=True):
        pass
