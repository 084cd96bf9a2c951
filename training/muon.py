"""Muon for the matrices of hidden layers, AdamW for all other weights: `training.optim: muon`.

Muon replaces the momentum of a matrix by the nearest orthogonal one. Embeddings, the tied head,
positions, norms and biases are no such matrices, so AdamW trains them, as its authors advise. The
step of a matrix is scaled to the size of AdamW's, so one learning rate serves both.

Sources: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks"; Liu et al.
2025, "Muon is scalable for LLM training", section 2.2, for the scale.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer
from transformers import PreTrainedModel, TrainingArguments

NAME = "muon"


class MuonAndAdamW(Optimizer):
    """One optimizer whose first group Muon steps, and the others AdamW.

    Args:
        groups: The matrices of hidden layers, then groups for AdamW; each with its weight_decay.
        lr: Learning rate of all groups.
        betas: Of AdamW.
        eps: Of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float], eps: float
    ) -> None:
        self.by_muon = Muon(groups[:1], lr=lr, adjust_lr_fn="match_rms_adamw")
        self.by_adamw = AdamW(groups[1:], lr=lr, betas=betas, eps=eps)
        super().__init__([*self.by_muon.param_groups, *self.by_adamw.param_groups], {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step of both, as `torch.optim.Optimizer.step`."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # the groups and states may have been replaced by those of a checkpoint
        self.by_muon.param_groups, self.by_adamw.param_groups = (
            self.param_groups[:1],
            self.param_groups[1:],
        )
        for optimizer in (self.by_muon, self.by_adamw):
            optimizer.state = self.state
            optimizer.step()
        return loss


class MuonFactory:
    """What the Trainer takes as `optimizer_cls_and_kwargs` where a class needs the model."""

    def __call__(self, model: PreTrainedModel, **settings: Any) -> MuonAndAdamW:
        """Sort the weights of a model into groups.

        Args:
            model: The model, with weights as they are trained.
            **settings: lr, betas, eps; weight_decay for all weights that are not vectors.
        """
        decay = settings.pop("weight_decay")
        modules = (module for module in model.modules() if isinstance(module, torch.nn.Embedding))
        tables = {weights for module in modules for weights in module.parameters()}
        trained = [weights for weights in model.parameters() if weights.requires_grad]
        matrices = [w for w in trained if w.ndim == 2 and w not in tables]
        groups = [
            {"params": matrices, "weight_decay": decay},
            {"params": [w for w in trained if w in tables], "weight_decay": decay},
            {"params": [w for w in trained if w.ndim < 2], "weight_decay": 0.0},
        ]
        return MuonAndAdamW(groups, **settings)


def optimizer_of(args: TrainingArguments, name: str) -> dict[str, Any]:
    """Keywords of the Trainer for `training.optim`; empty for names that it knows itself."""
    if name != NAME:
        return {}
    settings = {
        "lr": args.learning_rate,
        "betas": (args.adam_beta1, args.adam_beta2),
        "eps": args.adam_epsilon,
        "weight_decay": args.weight_decay,
    }
    return {"optimizer_cls_and_kwargs": (MuonFactory, settings)}
