"""gradio on the text-generation pipeline: a function of ours, and `Interface.from_pipeline`."""

import gradio
from report import report
from transformers import pipeline


def check(folder: str, trust: bool, context: int) -> str:
    """Makes both interfaces and calls each once."""
    write = pipeline("text-generation", folder, trust_remote_code=trust, max_new_tokens=8)
    own = gradio.Interface(lambda text: write(text)[0]["generated_text"], "text", "text")
    found = f"a function wrote {len(own.fn('X:1'))} characters"
    theirs = gradio.Interface.from_pipeline(write)
    try:
        return f"{found}, from_pipeline {len(theirs.fn('X:1'))}"
    except AttributeError as error:
        raise ValueError(f"{found}; from_pipeline: {error}") from error


report(check)
