"""Crops and flips: equal to a plain loop, the same on every call, spread over all places."""

from __future__ import annotations

import pytest
import torch

from evosearch.config import Augmentation
from evosearch.errors import ConfigError
from workers.augment import Crops

CPU = torch.device("cpu")


def make(steps=3, batch_size=50, image=(8, 10), seed=4, **settings):
    return Crops(
        Augmentation(**settings),
        steps=steps,
        batch_size=batch_size,
        image=image,
        seed=seed,
        device=CPU,
    )


@pytest.mark.parametrize("settings", [{"crop": 5}, {"crop": 8, "padding": 2, "flip": True},
                                      {"flip": True}, {"padding": 3}])  # fmt: skip
def test_a_batch_equals_the_plain_loop(settings):
    x = torch.randint(0, 256, (50, 3, 8, 10), dtype=torch.uint8)
    crops = make(**settings)
    found = crops.apply(1, x)
    pad = settings.get("padding", 0)
    height, width = (settings["crop"],) * 2 if "crop" in settings else (8, 10)
    for number in range(50):
        image = torch.zeros(3, 8 + 2 * pad, 10 + 2 * pad, dtype=torch.uint8)
        image[:, pad : pad + 8, pad : pad + 10] = x[number]
        top, left = crops._tops[1, number], crops._lefts[1, number]
        image = image[:, top : top + height, left : left + width]
        if crops._flips is not None and crops._flips[1, number]:
            image = image.flip(2)
        assert torch.equal(found[number], image)


def test_same_seed_same_crops_and_each_step_its_own():
    x = torch.rand(50, 1, 8, 10)
    one, two, other = make(crop=5), make(crop=5), make(crop=5, seed=5)
    torch.manual_seed(9)
    assert torch.equal(one.apply(2, x), two.apply(2, x))
    assert not torch.equal(one.apply(2, x), one.apply(1, x))
    assert not torch.equal(one.apply(2, x), other.apply(2, x))
    assert one.apply(0, x[:7]).shape == (7, 1, 5, 5)


def test_every_place_is_as_likely_and_half_are_flipped():
    crops = make(steps=100, crop=7, flip=True)
    assert crops._tops.unique().tolist() == [0, 1]
    assert crops._lefts.flatten().bincount().float().div(5000).tolist() == pytest.approx(
        [0.25] * 4, abs=0.03
    )
    assert crops._flips.float().mean().item() == pytest.approx(0.5, abs=0.03)


def test_a_crop_larger_than_the_image_is_refused():
    with pytest.raises(ConfigError, match="up to 10"):
        make(crop=11, padding=1)
