"""Random crops and flips of whole batches on the device, drawn for all steps in advance.

The numbers come from the run's seed on the CPU, so they are the same on every device, and no step
waits for them. This file must not touch a global random state.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from evosearch.config import Augmentation
from evosearch.errors import ConfigError


class Crops:
    """The crops and flips of one training: ``steps`` batches of images (height, width).

    Raises:
        ConfigError: the crop is larger than the padded image.
    """

    def __init__(
        self,
        settings: Augmentation,
        *,
        steps: int,
        batch_size: int,
        image: tuple[int, int],
        seed: int,
        device: torch.device,
    ) -> None:
        self._padding = settings.padding
        self.side = crop_side(settings, image)
        room = [size + 2 * settings.padding - side for size, side in zip(image, self.side,
                strict=True)]  # fmt: skip
        generator = torch.Generator().manual_seed(seed)
        shape = (steps, batch_size)
        tops, lefts = (
            torch.randint(0, most + 1, shape, generator=generator, dtype=torch.int16)
            for most in room
        )
        flips = torch.rand(shape, generator=generator) < 0.5 if settings.flip else None
        self._tops, self._lefts = tops.to(device), lefts.to(device)
        self._flips = None if flips is None else flips.to(device)

    def apply(self, step: int, x: Tensor) -> Tensor:
        """Shapes: (n, c, h, w) -> (n, c, *side), n at most the batch size."""
        count = len(x)
        if self._padding:
            x = F.pad(x, (self._padding,) * 4)
        height, width = self.side
        rows = self._tops[step, :count].long()[:, None] + torch.arange(height, device=x.device)
        columns = torch.arange(width, device=x.device).expand(count, -1)
        if self._flips is not None:
            columns = torch.where(self._flips[step, :count, None], columns.flip(1), columns)
        columns = columns + self._lefts[step, :count].long()[:, None]
        images = torch.arange(count, device=x.device)[:, None, None]
        # One gather; its result has the channels last, which is the layout a GPU wants.
        return x[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def crop_side(settings: Augmentation, image: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the training images.

    Raises:
        ConfigError: the crop is larger than the padded image.
    """
    if not settings.crop:
        return image
    most = min(image) + 2 * settings.padding
    if settings.crop > most:
        raise ConfigError(
            "the crop is larger than the image", expected=f"task.augmentation.crop up to {most}",
            got=str(settings.crop),
        )  # fmt: skip
    return settings.crop, settings.crop


def wanted(settings: Augmentation) -> bool:
    """Whether anything is to be done at all."""
    return bool(settings.crop or settings.padding or settings.flip)
