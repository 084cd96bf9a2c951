"""The project's own model families and their pipeline, registered with transformers on import.

`save_pretrained` copies a model's code next to its weights, so anyone can load it with
`trust_remote_code=True` and without this project.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from .configuration_abc_gpt import AbcGPTConfig
from .configuration_abc_lstm import AbcLSTMConfig
from .modeling_abc_gpt import AbcGPTForCausalLM, AbcGPTModel
from .modeling_abc_lstm import AbcLSTMForCausalLM, AbcLSTMModel
from .pipeline_abc_music import AbcMusicPipeline

__all__ = [
    "AbcGPTConfig",
    "AbcGPTForCausalLM",
    "AbcGPTModel",
    "AbcLSTMConfig",
    "AbcLSTMForCausalLM",
    "AbcLSTMModel",
    "AbcMusicPipeline",
]

for _config, _model, _causal_lm in (
    (AbcGPTConfig, AbcGPTModel, AbcGPTForCausalLM),
    (AbcLSTMConfig, AbcLSTMModel, AbcLSTMForCausalLM),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModel.register(_config, _model)
    AutoModelForCausalLM.register(_config, _causal_lm)
    _config.register_for_auto_class()
    _model.register_for_auto_class("AutoModel")
    _causal_lm.register_for_auto_class("AutoModelForCausalLM")
