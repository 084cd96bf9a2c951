"""The GPT family in the library's own test suite; `run.py` puts this file where it can run."""

import unittest

from tests.causal_lm_tester import CausalLMModelTest, CausalLMModelTester
from transformers.models.auto import modeling_auto

from modeling import AbcGPTConfig, AbcGPTForCausalLM, AbcGPTModel

# As for a model inside the library: by these names the tests know which inputs a class takes.
modeling_auto.MODEL_MAPPING_NAMES["abc_gpt"] = "AbcGPTModel"
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["abc_gpt"] = "AbcGPTForCausalLM"


class AbcGPTModelTester(CausalLMModelTester):
    base_model_class = AbcGPTModel
    causal_lm_class = AbcGPTForCausalLM
    config_class = AbcGPTConfig


class AbcGPTModelTest(CausalLMModelTest, unittest.TestCase):
    model_tester_class = AbcGPTModelTester
    _torch_compile_train_cls = AbcGPTForCausalLM  # compiled training, which needs an accelerator
