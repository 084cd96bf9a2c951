"""peft: LoRA on what a class of ours names, else on all linear layers; reloaded, merged."""

import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from report import report
from transformers import AutoModelForCausalLM

LARGEST_DIFFERENCE = 1e-4


def check(folder: str, trust: bool, context: int) -> str:
    """Compares the logits of the adapted, reloaded and merged models."""

    def load() -> torch.nn.Module:
        return AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=trust).eval()

    model = load()
    targets = model.lora_targets() if trust else {"target_modules": "all-linear"}
    settings = LoraConfig(task_type="CAUSAL_LM", **targets)
    adapted = get_peft_model(model, settings)
    ids = torch.arange(3, 20)[None]
    optimizer = torch.optim.SGD([p for p in adapted.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        adapted(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    with tempfile.TemporaryDirectory() as place, torch.inference_mode():
        expected = adapted(input_ids=ids).logits
        adapted.save_pretrained(place)
        again = PeftModel.from_pretrained(load(), place)
        reloaded = (again(input_ids=ids).logits - expected).abs().max().item()
        merged = (again.merge_and_unload()(input_ids=ids).logits - expected).abs().max().item()
    found = f"logits after reload within {reloaded:.1g}, after merge within {merged:.1g}"
    if max(reloaded, merged) > LARGEST_DIFFERENCE:
        raise ValueError(found)
    return found


report(check)
