"""What stays on a model whatever is put on it, trained or measured: which parameters learn, and which modules train."""

from __future__ import annotations

from torch import nn


class Flags:
    """Which parameters of a model ask for gradients, and which of its modules are in train mode; to be put back."""

    def __init__(self, model: nn.Module, *others: nn.Parameter) -> None:
        """Note them.

        Args:
            model: as it is now.
            others: parameters that are not the model's.
        """
        self._model_trains = model.training
        self._trains = {module: module.training for module in model.modules()}
        self._learns = [(parameter, parameter.requires_grad) for parameter in (*model.parameters(), *others)]

    def put_back(self, model: nn.Module) -> None:
        """Set them as they were on the model, which may be wrapped by then; modules that are new get the model's."""
        for parameter, learns in self._learns:
            parameter.requires_grad_(learns)
        for module in model.modules():
            module.training = self._trains.get(module, self._model_trains)
