"""The LSTM family in the library's own test suite; `run.py` puts this file where it can run.

Nothing is skipped here. What tells an LSTM from a transformer goes through the library's own hooks,
each with its reason beside it.
"""

import unittest
from typing import Any

from tests.causal_lm_tester import CausalLMModelTest, CausalLMModelTester
from tests.test_configuration_common import ConfigTester
from transformers.models.auto import modeling_auto

from modeling import AbcLSTMConfig, AbcLSTMForCausalLM, AbcLSTMModel
from modeling.modeling_abc_lstm import AbcLSTMCache

# As for a model inside the library: by these names the tests know which inputs a class takes.
modeling_auto.MODEL_MAPPING_NAMES["abc_lstm"] = "AbcLSTMModel"
modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES["abc_lstm"] = "AbcLSTMForCausalLM"


class AbcLSTMModelTester(CausalLMModelTester):
    base_model_class = AbcLSTMModel
    causal_lm_class = AbcLSTMForCausalLM
    config_class = AbcLSTMConfig

    def __init__(self, parent: unittest.TestCase, **kwargs: Any) -> None:
        # The family's own scale. The tester's 0.02 is for models whose norm layers restore the
        # scale of their input; an LSTM has none and would be nearly stuck with it.
        super().__init__(parent, initializer_range=None, **kwargs)


class AbcLSTMModelTest(CausalLMModelTest, unittest.TestCase):
    model_tester_class = AbcLSTMModelTester
    has_attentions = False  # no attention weights to return

    def setUp(self) -> None:
        super().setUp()
        # Without "num_attention_heads", which the list holds otherwise: an LSTM has no heads.
        properties = ["hidden_size", "num_hidden_layers"]
        self.config_tester = ConfigTester(
            self, config_class=AbcLSTMConfig, common_properties=properties
        )

    def _check_past_key_values_for_generate(
        self, batch_size: int, past_key_values: Any, seq_length: int, config: AbcLSTMConfig
    ) -> None:
        # Keys and values would be (B, heads, T, D); a recurrent state does not grow with T.
        assert isinstance(past_key_values, AbcLSTMCache)
        assert past_key_values.get_seq_length() == seq_length
        assert len(past_key_values.layers) == config.num_hidden_layers
        for layer in past_key_values.layers:
            assert layer.keys.shape == layer.values.shape == (batch_size, config.hidden_size)

    def test_left_padding_compatibility(self) -> None:
        self.has_attentions = True  # without it the test skips itself; this LSTM takes padding
        super().test_left_padding_compatibility()
