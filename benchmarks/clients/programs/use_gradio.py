"""gradio's `Interface.from_pipeline` on the text-generation pipeline."""

import gradio
from report import report
from transformers import pipeline


def check(folder: str, trust: bool, context: int) -> str:
    """Makes the interface and calls it once."""
    write = pipeline("text-generation", folder, trust_remote_code=trust, max_new_tokens=8)
    interface = gradio.Interface.from_pipeline(write)
    text = interface.fn("X:1\n")
    return f"wrote {len(str(text))} characters"


report(check)
