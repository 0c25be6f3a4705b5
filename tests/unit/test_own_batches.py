"""Batches of a user's own: a step's batch depends on its seed and number alone."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

import evosearch as es
from evosearch.config import Anchor, Checks, Quality, Stability, Task
from evosearch.errors import PluginError
from evosearch.own import REGISTER, collecting
from evosearch.records import Job, Run, Subject
from workers.anchor_check import findings
from workers.checkpoint import resume, save
from workers.evaluate import Context, make_training, run_job
from workers.layers import layer_factory
from workers.own_batches import batches_of, to_device

CPU = torch.device("cpu")
X = torch.arange(40.0).view(20, 2)


class Noisy(Dataset):
    """Rows with noise of torch's and numpy's global generators."""

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row] + torch.rand(2) + float(np.random.rand())


def loaders():
    return {
        "shuffled": DataLoader(TensorDataset(X), 4, shuffle=True),
        "own generator": DataLoader(TensorDataset(X), 4, shuffle=True,
                                    generator=torch.Generator().manual_seed(3)),
        "augmented": DataLoader(Noisy(), 4, shuffle=True),
        "a data set": Noisy(),
        "a list": [X[:4], X[4:8], X[8:12]],
    }  # fmt: skip


def same(one, other):
    return torch.equal(torch.as_tensor(_flat(one)), torch.as_tensor(_flat(other)))


def _flat(batch):
    return batch[0] if isinstance(batch, (list, tuple)) else batch


def training_of(data, steps=12):
    class Loaded:
        objectives = (es.Objective("mse", "min"),)

        def data(self, ctx):
            return data() if isinstance(data, type) else data

        def build(self, layer):
            return torch.nn.Sequential(torch.nn.Linear(2, 4), layer(4), torch.nn.Linear(4, 1))

        def loss(self, model, batch):
            return model(_flat(batch)).square().mean()

        def evaluate(self, model, batches):
            return {"mse": sum(model(_flat(one)).square().mean().item() for one in batches)}

    with collecting() as register:
        es.anchor("loaded", slot="norm_act", layout="bc", baselines=["ln-relu"])(Loaded)
    REGISTER.replace(register.entries())
    anchor = Anchor(name="loaded", objectives=Loaded.objectives)
    task = Task(anchors=(anchor,), steps=steps, batch_size=4, learning_rate=0.1)
    job = Job(id="j", purpose="search", subject=Subject(birth=0), graph=es.parse("tanh(x)"),
              runs=(Run(anchor="loaded", seed=2, learning_rate=0.1),), task=task)  # fmt: skip
    return job, lambda context: make_training(
        job.runs[0], task, layer_factory(job, "loaded"), context
    )


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


def test_a_named_tuple_stays_one():
    pair = Pair(X, X[:, 0])
    given = [pair, [Pair(X[:4], X[:4, 0])], TensorDatasetOfPairs()]
    for data in given:
        batches = batches_of(data, 4, CPU, "data(ctx)", "my.py:1")
        for batch in (batches.at(batches.order(2, 3), 1), *batches.all()):
            assert type(batch) is Pair
            assert torch.equal(batch.x[:, 0], batch.y)
    assert type(to_device({"a": [pair]}, CPU)["a"][0]) is Pair


class TensorDatasetOfPairs(Dataset):
    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return Pair(X[row], X[row, 0])


@pytest.mark.parametrize("name", loaders())
def test_any_step_is_read_again_as_it_was(name):
    _, make = training_of(loaders()[name])
    context = Context(device="cpu")
    first = make(context)
    told = [first.own_batch(step) for step in range(12)]
    torch.manual_seed(99)
    torch.rand(5)
    for step in (0, 7, 11, 3):
        assert same(first.own_batch(step), told[step])
    later = make(context)  # as a resumed training begins, in a worker that has read before
    assert same(later.own_batch(7), told[7])
    assert name == "a list" or not same(told[0], told[5])  # the second epoch is another one


@pytest.mark.parametrize("name", ["shuffled", "own generator", "augmented"])
def test_checks_and_history_change_no_score(name):
    data = loaders()[name]
    job, _ = training_of(data)
    context, scores = Context(device="cpu"), []
    checks = Checks(quality=Quality(steps=5, accuracy=-1e9), stability=Stability(steps=2))
    for with_checks in (None, checks, checks):
        torch.manual_seed(len(scores))
        *_, evaluated, done = run_job(job.model_copy(update={"checks": with_checks}), context)
        assert done.failure is None, done.failure
        scores.append(evaluated.evaluation.score)
    assert scores[0] == scores[1] == scores[2]


def test_a_resumed_training_ends_as_an_uninterrupted_one(tmp_path):
    _, make = training_of(loaders()["augmented"])
    whole = make(Context(device="cpu"))
    whole.advance(12)
    begun = make(Context(device="cpu"))
    begun.advance(7)
    save(begun, tmp_path / "state")
    rest = make(Context(device="cpu"))
    resume(rest, tmp_path / "state")
    assert rest.step == 7
    rest.advance(12)
    assert rest.score("select") == whole.score("select")


class Remembers(Dataset):
    """Draws from a generator of its own, which goes on from reading to reading."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def __len__(self):
        return len(X)

    def __getitem__(self, row):
        return X[row] + float(self.rng.random())


def test_the_check_notices_data_that_change_from_reading_to_reading():
    job, _ = training_of(Remembers)
    told = findings(job.task, "loaded", ["ln-relu"], 1, Context(device="cpu"))
    (repeats,) = [one for one in told if one.name == "repeats"]
    assert repeats.ok is False
    assert "read again" in repeats.text
    job, _ = training_of(loaders()["own generator"])
    told = findings(job.task, "loaded", ["ln-relu"], 1, Context(device="cpu"))
    assert all(one.ok is not False for one in told)


def test_workers_that_stay_are_refused():
    data = DataLoader(TensorDataset(X), 4, num_workers=1, persistent_workers=True)
    with pytest.raises(PluginError, match="persistent_workers"):
        batches_of(data, 4, CPU, "data(ctx)", "here")
