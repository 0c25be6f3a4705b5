"""Stochastic gradient descent with Nesterov momentum over one flat vector of all parameters.

torch's own optimizer is not used because making one imports torch's compiler and sympy, a second
in each worker, and because one vector takes few kernels a step. It must stay equal to
``torch.optim.SGD`` up to rounding; a test compares them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Sgd:
    """Updates the parameters of a network in place.

    From then on parameters and their gradients are views of two vectors. Weight decay is put on
    the weights of convolutions and linear maps and on nothing else.
    """

    def __init__(
        self, network: nn.Module, *, momentum: float, nesterov: bool, weight_decay: float
    ) -> None:
        parameters = list(network.parameters())
        decayed = {
            id(module.weight)
            for module in network.modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        }
        self._momentum, self._nesterov = momentum, nesterov and momentum > 0
        self._values = torch.cat([parameter.detach().flatten() for parameter in parameters])
        self._gradients = torch.zeros_like(self._values)
        self._velocity = torch.zeros_like(self._values)
        self._decay = torch.cat(
            [
                parameter.new_full(
                    (parameter.numel(),), weight_decay if id(parameter) in decayed else 0.0
                )
                for parameter in parameters
            ]
        )
        start = 0
        for parameter in parameters:
            end = start + parameter.numel()
            parameter.data = self._values[start:end].view_as(parameter)
            # Backward adds into a gradient that is there, so it fills the vector.
            parameter.grad = self._gradients[start:end].view_as(parameter)
            start = end

    def step(self, loss: Tensor, learning_rate: float) -> None:
        """One step down the gradient of the loss."""
        self._gradients.zero_()
        torch.autograd.backward(loss)
        with torch.no_grad():
            gradient = self._gradients.addcmul_(self._decay, self._values)
            self._velocity.mul_(self._momentum).add_(gradient)
            if self._nesterov:
                self._values.add_(gradient, alpha=-learning_rate)
                self._values.add_(self._velocity, alpha=-learning_rate * self._momentum)
            else:
                self._values.add_(self._velocity, alpha=-learning_rate)
