"""Optimizers over one flat vector of all parameters: SGD with Nesterov momentum, and AdamW.

torch's own optimizers are not used because making one imports torch's compiler and sympy, a second
in each worker, and because one vector takes few kernels a step on any device: it is a fused
optimizer by its layout. They must stay equal to torch's up to rounding; a test compares them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

FLOAT16_SCALE = 1024.0
"""First factor on a float16 loss, so that small gradients do not vanish; taken out before the step.
"""
LARGEST_SCALE = 2.0**16
CLEAN_STEPS = 200
"""Steps without an overflow before the factor is doubled."""


class Optimizer(Protocol):
    """What a training asks of either; ``state`` holds the vectors that `step` changes in place."""

    @property
    def state(self) -> tuple[Tensor, ...]: ...

    steps: int

    def apply(self, gradient: Tensor, learning_rate: float) -> None:
        """One step down that gradient, which may be overwritten."""


class LossScale:
    """The factor on a float16 loss: halved by an overflow, doubled after many steps without one.

    Both numbers stay on the device, so that nobody waits for it.

    Source: Micikevicius et al., "Mixed Precision Training", ICLR 2018.
    """

    def __init__(self, device: torch.device) -> None:
        self.value = torch.full((), FLOAT16_SCALE, device=device)
        self.clean = torch.zeros((), device=device)

    def heed(self, finite: Tensor) -> None:
        """A step's gradient was finite, or it overflowed."""
        clean = torch.where(finite, self.clean + 1, 0.0)
        full = clean >= CLEAN_STEPS
        factor = torch.where(finite, torch.where(full, 2.0, 1.0), 0.5)
        self.value.mul_(factor).clamp_(1.0, LARGEST_SCALE)
        self.clean.copy_(torch.where(full, 0.0, clean))


class FlatParameters:
    """The parameters of a network and their gradients as views of two vectors, from then on.

    ``decay``: the weight decay of each element; it is put on the weights of convolutions and
    linear maps and on nothing else. ``scaled``: the loss takes a factor, as float16 needs.
    ``channels_last``: weights of convolutions lie in that memory format.
    """

    def __init__(
        self,
        network: nn.Module,
        weight_decay: float,
        *,
        scaled: bool = False,
        channels_last: bool = False,
    ) -> None:
        parameters = [one for one in network.parameters() if one.requires_grad]
        decayed = {
            id(module.weight)
            for module in network.modules()
            if isinstance(module, (nn.Conv2d, nn.Linear))
        }
        ordered = [
            parameter.detach().permute(0, 2, 3, 1)
            if channels_last and parameter.ndim == 4
            else parameter.detach()
            for parameter in parameters
        ]
        self.values = torch.cat([parameter.flatten() for parameter in ordered])
        self.gradients = torch.zeros_like(self.values)
        self.decay = torch.cat(
            [
                parameter.new_full(
                    (parameter.numel(),), weight_decay if id(parameter) in decayed else 0.0
                )
                for parameter in parameters
            ]
        )
        self.scale = LossScale(self.values.device) if scaled else None
        start = 0
        for parameter, shape in zip(parameters, ordered, strict=True):
            end = start + parameter.numel()
            value = self.values[start:end].view(shape.shape)
            # Backward adds into a gradient that is there, so it fills the vector.
            gradient = self.gradients[start:end].view(shape.shape)
            if shape.shape != parameter.shape or (channels_last and parameter.ndim == 4):
                value, gradient = value.permute(0, 3, 1, 2), gradient.permute(0, 3, 1, 2)
            parameter.data = value
            parameter.grad = gradient
            start = end

    def backward(self, loss: Tensor) -> Tensor:
        """The gradient of the loss, as one vector."""
        self.gradients.zero_()
        if self.scale is None:
            torch.autograd.backward(loss)
            return self.gradients
        torch.autograd.backward(loss * self.scale.value)
        return self.gradients.div_(self.scale.value)


class Sgd:
    """Stochastic gradient descent with momentum, plain or Nesterov's; weight decay in the gradient.

    Source: as ``torch.optim.SGD``.
    """

    def __init__(self, flat: FlatParameters, *, momentum: float, nesterov: bool) -> None:
        self._flat, self._momentum = flat, momentum
        self._nesterov = nesterov and momentum > 0
        self._velocity = torch.zeros_like(flat.values)
        self.steps = 0

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Parameters and velocity."""
        return self._flat.values, self._velocity

    def apply(self, gradient: Tensor, learning_rate: float) -> None:
        """One step down that gradient, which may be overwritten."""
        values = self._flat.values
        self.steps += 1
        with torch.no_grad():
            gradient.addcmul_(self._flat.decay, values)
            self._velocity.mul_(self._momentum).add_(gradient)
            if self._nesterov:
                values.add_(gradient, alpha=-learning_rate)
                values.add_(self._velocity, alpha=-learning_rate * self._momentum)
            else:
                values.add_(self._velocity, alpha=-learning_rate)


class AdamW:
    """Adam with weight decay apart from the gradient.

    Source: Loshchilov, Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
    """

    def __init__(self, flat: FlatParameters, *, betas: tuple[float, float], eps: float = 1e-8):
        self._flat, self._betas, self._eps = flat, betas, eps
        self._mean = torch.zeros_like(flat.values)
        self._square = torch.zeros_like(flat.values)
        self.steps = 0

    @property
    def state(self) -> tuple[Tensor, ...]:
        """Parameters and both moments."""
        return self._flat.values, self._mean, self._square

    def apply(self, gradient: Tensor, learning_rate: float) -> None:
        """One step down that gradient, which may be overwritten."""
        values = self._flat.values
        first, second = self._betas
        self.steps += 1
        with torch.no_grad():
            values.addcmul_(self._flat.decay, values, value=-learning_rate)
            self._mean.lerp_(gradient, 1 - first)
            self._square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
            root = (self._square / (1 - second**self.steps)).sqrt_().add_(self._eps)
            values.addcdiv_(self._mean, root, value=-learning_rate / (1 - first**self.steps))


class Guarded:
    """An optimizer that leaves out a step whose gradient overflowed, for float16.

    AdamW's step count grows all the same: reading whether a step was left out would wait for the
    device, and one step more or less hardly changes its correction.
    """

    def __init__(self, optimizer: Optimizer, scale: LossScale) -> None:
        self._optimizer, self._scale = optimizer, scale

    @property
    def state(self) -> tuple[Tensor, ...]:
        """The optimizer's vectors, and the loss's factor."""
        return *self._optimizer.state, self._scale.value, self._scale.clean

    @property
    def steps(self) -> int:
        """Steps done or left out."""
        return self._optimizer.steps

    @steps.setter
    def steps(self, steps: int) -> None:
        self._optimizer.steps = steps

    def apply(self, gradient: Tensor, learning_rate: float) -> None:
        """One step down that gradient, or none if it is not finite."""
        finite = gradient.isfinite().all()
        before = [vector.clone() for vector in self._optimizer.state]
        self._optimizer.apply(gradient, learning_rate)
        with torch.no_grad():
            for vector, old in zip(self._optimizer.state, before, strict=True):
                vector.copy_(torch.where(finite, vector, old))
            self._scale.heed(finite)
