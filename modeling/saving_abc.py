"""Saving of models: puts the code that config.json names next to the weights."""

import shutil
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files


class AbcPreTrainedModel(PreTrainedModel):
    """What the library must know about the models of both families, and how they are saved.

    Attributes:
        base_class: File and name of the base model's class, such as "modeling_abc_gpt.AbcGPTModel".
    """

    base_class: ClassVar[str]
    base_model_prefix = "model"
    _skip_keys_device_placement: ClassVar[list[str]] = ["past_key_values", "cache"]

    def lora_targets(self) -> dict[str, Any]:
        """Returns what peft's LoraConfig must be told to adapt all weights of the layers.

        The embedding is left out: it is also the head, and an adapter on one would not apply to the
        other.
        """
        return {"target_modules": "all-linear"}

    def save_pretrained(
        self,
        save_directory: str | PathLike,
        is_main_process: bool = True,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        """Save as the library does, with all code that config.json names."""
        if is_main_process:
            self._keep_promises(Path(save_directory))
        super().save_pretrained(save_directory, is_main_process, *args, **kwargs)

    def _keep_promises(self, folder: Path) -> None:
        """Make config.json name the base model, and copy the code of the pipelines it names.

        Runs before saving. The library lists only the saved class, so `AutoModel` would not find
        the base model; and it copies the model's code, but not that of the pipelines in
        `custom_pipelines`. That is copied here, from this file's folder or from where the model was
        loaded. A pipeline whose code is in neither place, nor in a repository on the Hub, is
        removed from config.json.
        """
        config = self.config
        auto_map = getattr(config, "auto_map", None) or {}
        config.auto_map = {**auto_map, "AutoModel": self.base_class}
        pipelines = getattr(config, "custom_pipelines", None) or {}
        for task, pipeline in list(pipelines.items()):
            if "--" in pipeline["impl"]:  # <repository>--<file>.<class>
                continue
            name = f"{pipeline['impl'].partition('.')[0]}.py"
            places = [Path(__file__).parent, Path(config.name_or_path or folder)]
            code = next((place / name for place in places if (place / name).is_file()), None)
            if code is None:
                del pipelines[task]
            elif code.parent.resolve() != folder.resolve():
                folder.mkdir(parents=True, exist_ok=True)
                for file in (code, *get_relative_import_files(code)):
                    shutil.copy(file, folder)
