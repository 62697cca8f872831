"""A policy with an adapter, merged for sampling."""

import copy
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel


class MergedPolicy:
    """A copy of a policy with its adapter merged into the weights, which is faster to sample from.

    Weights without an adapter, the embeddings above all, are shared with the policy. Make the copy
    before a trainer replaces the policy's ``forward``: the copy would call the original's.
    """

    def __init__(self, policy: PeftModel) -> None:
        self._adapted: dict[str, Any] = {
            name: layer
            for name, layer in policy.get_base_model().named_modules()
            if isinstance(layer, LoraLayer)
        }
        base = policy.get_base_model()
        own = {id(layer.get_base_layer().weight) for layer in self._adapted.values()}
        shared = {id(weight): weight for weight in base.parameters() if id(weight) not in own}
        self._model: Any = copy.deepcopy(base, shared)
        for name in self._adapted:
            layer: Any = self._model.get_submodule(name)
            self._model.set_submodule(name, layer.get_base_layer())
        self._model.eval()

    @torch.no_grad()
    def current(self) -> PreTrainedModel:
        """The copy with the adapter as it is now; the next call changes it."""
        self._model.to(next(iter(self._adapted.values())).weight.device)  # a trainer moves policies
        for name, layer in self._adapted.items():
            merged: Any = self._model.get_submodule(name).weight
            base = layer.get_base_layer().weight
            merged.copy_(base + layer.get_delta_weight("default"))
        model: PreTrainedModel = self._model
        return model
