"""The trials of a re-ranking on Ray Tune: each row's learning rates race by ASHA, and can be
restored after a kill.

Rates race within their row alone, for a weak layer's best rate has to be found as well as a strong
one's. Tune keeps its own files in the folder of the plan; what it has told is kept by the caller,
and a trial that is known to have ended is not trained again whatever Tune remembers. This file must
not know where results are kept.
"""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.tune import CheckpointConfig, FailureConfig, RunConfig
from ray.tune.error import TuneError
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

from evosearch.errors import WorkerError
from evosearch.plugins import read_job, receive
from evosearch.records import Job
from evosearch.rerank import REDUCTION, Tuned, row_of
from workers.data_dir import DATA_DIR_VARIABLE
from workers.ray_pool import GPU_MEMORY_SHARE
from workers.ray_start import GPU_SHARE, resources, start_ray
from workers.ray_start import sources as plugin_sources
from workers.tuning import Heard, Tuning

EXPERIMENT = "tune"
"""First part of the name of Tune's folder within the plan's; a digest of the trials follows."""
SNAPSHOT_SECONDS = 1.0
"""How often Tune writes down which trials are where; its own default loses ten seconds."""
RETRIES = 2
"""How often a trial whose worker died goes on from its last rung."""
STATE = "trial.pt"
_ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",  # the other one prints tables when it is told to be silent
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the caller keeps the results
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # Ctrl-C ends the command, which can be restored
    "TUNE_GLOBAL_CHECKPOINT_S": str(SNAPSHOT_SECONDS),
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


@dataclass(slots=True)
class _Race:
    """What scheduler and callback need of the running experiment; Tune pickles both of them, so
    that they cannot hold it. A process runs one experiment at a time.
    """

    jobs: Sequence[Job] = ()
    known: Mapping[str, Tuned] = field(default_factory=dict)
    heard: Heard = lambda name, tuned: None

    def job(self, trial: Any) -> Job:
        """The job of one of Tune's trials."""
        place: int = trial.config["place"]
        return self.jobs[place]

    def tell(self, trial: Any, text: str, *, ended: bool) -> None:
        """Pass on what a trial told, unless all of it was known before."""
        name = self.job(trial).id
        if not self.known.get(name, Tuned()).ended:
            told = Tuned.model_validate_json(text)
            self.heard(name, told.model_copy(update={"ended": ended}))


_RACE = _Race()


class Trial(tune.Trainable):
    """One trial in a worker process, which keeps its data for the next one.

    A step of Tune's is a rung of ours.
    """

    def setup(
        self, config: dict[str, Any], work: Sequence[str] = (), rungs: Sequence[int] = (),
        known: Mapping[str, str] | None = None, sources: Sequence[dict[str, Any]] = (),
        share: float = 0.0, data_dir: str = "",
    ) -> None:  # fmt: skip
        import torch

        from workers.evaluate import Context

        if data_dir:  # a machine of a cluster has none of its own
            os.environ[DATA_DIR_VARIABLE] = data_dir
        torch.set_num_threads(1)
        if share and torch.cuda.is_available():
            torch.cuda.set_per_process_memory_fraction(GPU_MEMORY_SHARE * share)
        self._worker = f"ray-{os.getpid()}"
        self._context = Context(worker=self._worker)
        for data in sources:
            receive(data, self._context.sources)
        self._work, self._rungs, self._known = work, rungs, known or {}
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next trial in this process."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._job_text = self._work[config["place"]]
        text = self._known.get(json.loads(self._job_text)["id"])
        self._before = Tuned.model_validate_json(text) if text else Tuned()
        self._tuning: Tuning | None = None
        self._done: list[int] = []

    def step(self) -> dict[str, Any]:
        """Train to the next rung; a rung that is known from before is told again."""
        before = self._before
        rung = next(one for one in self._rungs if one not in self._done)
        told = before
        if rung not in before.scores:
            tuning = self._trained()
            if rung not in tuning.scores:
                tuning.advance(rung)
            told = tuning.tuned(self._worker)
            told = told.model_copy(update={"scores": {**before.scores, **told.scores}})
        self._done.append(rung)
        last = rung == self._rungs[-1]
        last |= before.ended and rung >= max(before.scores, default=0)
        return {
            "score": told.mean(rung), "trained_to": rung, "done": last,
            "told": told.model_dump_json(),
        }  # fmt: skip

    def _trained(self) -> Tuning:
        if self._tuning is None:
            job = read_job(self._job_text, self._context.sources)
            self._tuning = Tuning(job, self._context)
        return self._tuning

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write down everything that the rest of the trial depends on."""
        import torch

        state = self._tuning.state() if self._tuning is not None else {}
        torch.save({"done": self._done, "tuning": state}, Path(checkpoint_dir) / STATE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Go on from there."""
        import torch

        kept = torch.load(Path(checkpoint) / STATE, map_location="cpu", weights_only=True)
        self._done = [int(step) for step in kept["done"]]
        if kept["tuning"]:
            self._trained().restore(kept["tuning"])


class ByRow(FIFOScheduler):
    """ASHA for each row of its own: only rates of one layer in one setting are compared."""

    def __init__(self, rungs: Sequence[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rungs = tuple(rungs)
        self._races: dict[str, ASHAScheduler] = {}

    def _race(self, trial: Any) -> ASHAScheduler:
        row = row_of(_RACE.job(trial).id)
        if row not in self._races:
            self._races[row] = ASHAScheduler(
                time_attr="time", metric="score", mode="max",
                max_t=self._time(self._rungs[-1]), grace_period=1, reduction_factor=REDUCTION,
            )  # fmt: skip
        return self._races[row]

    def _time(self, step: int) -> int:
        """1, 2, 4 of the first, second and third rung: ASHA reckons its own from the first.

        Reckoned from steps they would be others than ours wherever a quarter was rounded, and no
        trial would be judged at them.
        """
        return int(REDUCTION ** self._rungs.index(step))

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Begin a trial; after a restore the row's rungs learn again what they knew."""
        race = self._race(trial)
        race.on_trial_add(tune_controller, trial)
        known = _RACE.known.get(_RACE.job(trial).id, Tuned())
        for step in sorted(known.scores):
            if step < self._rungs[-1]:
                result = {"score": known.mean(step), "time": self._time(step)}
                race.on_trial_result(tune_controller, trial, result)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Whether it goes on."""
        timed = result | {"time": self._time(result["trained_to"])}
        return str(self._race(trial).on_trial_result(tune_controller, trial, timed))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """It has come to its end, or was stopped."""
        timed = result | {"time": self._time(result["trained_to"])} if result else result
        self._race(trial).on_trial_complete(tune_controller, trial, timed)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """It was stopped before it ran."""
        self._race(trial).on_trial_remove(tune_controller, trial)

    def debug_string(self) -> str:
        """For Tune's own output, which is off."""
        return f"ASHA within each of {len(self._races)} rows"


class _Tell(tune.Callback):
    """Passes on what trials tell."""

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        _RACE.tell(trial, result["told"], ended=False)

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        text = (trial.last_result or {}).get("told")
        if text:
            _RACE.tell(trial, text, ended=True)


def tune_with_ray(
    jobs: Sequence[Job], rungs: Sequence[int], known: Mapping[str, Tuned], heard: Heard,
    folder: Path, workers: int | None = None, address: str | None = None, nice: int = 10,
) -> dict[str, str]:  # fmt: skip
    """Tune all rows on Ray; goes on with an experiment of these jobs that lies in the folder.

    ``known``: what came of trials before; those that ended are not trained again. ``address``: of
    an existing cluster, whose machines all have to reach the folder; else Ray is started here, with
    so many ``workers`` of that ``nice`` value.

    Returns:
        Trial -> why it failed, of those that did in spite of retries.

    Raises:
        WorkerError: Ray does not start, or is gone.
    """
    os.environ.update(_ENVIRONMENT)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    owned = not ray.is_initialized()
    with tempfile.TemporaryDirectory(prefix="evosearch-") as empty:
        try:
            if owned:
                start_ray(workers, address, empty, nice)
            _RACE.jobs, _RACE.known, _RACE.heard = jobs, known, heard
            found = _tuner(jobs, rungs, known, folder.absolute()).fit()
        except (RayError, TuneError, OSError, ValueError, RuntimeError) as err:
            raise WorkerError(
                "Ray Tune does not run", got=f"{type(err).__name__}: {err}"[:300],
                hint="start again, which goes on; or use --pool inline",
            ) from err  # fmt: skip
        finally:
            if owned and ray.is_initialized():
                ray.shutdown()
    failures = {}
    for place in range(len(found)):
        error, config = found[place].error, found[place].config
        if error is not None and config is not None:
            failures[jobs[config["place"]].id] = _line(error)
    return failures


def _tuner(
    jobs: Sequence[Job], rungs: Sequence[int], known: Mapping[str, Tuned], folder: Path
) -> tune.Tuner:
    """The experiment, restored if there is one in the folder."""
    share = GPU_SHARE if resources().get("GPU", 0) else 0.0
    sources: dict[str, dict[str, Any]] = {}
    for job in jobs:
        sources |= plugin_sources(job, {*sources})
    trainable = tune.with_parameters(
        Trial, work=[job.model_dump_json() for job in jobs], rungs=list(rungs),
        known={name: one.model_dump_json() for name, one in known.items()}, share=share,
        sources=[*sources.values()], data_dir=os.environ.get(DATA_DIR_VARIABLE, ""),
    )  # fmt: skip
    needs: dict[str, float] = {"gpu": share, "cpu": 0} if share else {"cpu": 1}
    trainable = tune.with_resources(trainable, needs)
    # Tune knows its trials by their place: with other jobs another experiment begins.
    digest = sha256("\0".join(job.id for job in jobs).encode()).hexdigest()[:8]
    place = folder / f"{EXPERIMENT}-{digest}"
    if tune.Tuner.can_restore(str(place)):
        return tune.Tuner.restore(str(place), trainable, restart_errored=True)
    return tune.Tuner(
        trainable,
        param_space={"place": tune.grid_search(list(range(len(jobs))))},
        tune_config=tune.TuneConfig(
            scheduler=ByRow(rungs), reuse_actors=True, trial_name_creator=_name,
            trial_dirname_creator=_name,
        ),
        run_config=RunConfig(
            name=place.name, storage_path=str(folder), verbose=0, callbacks=[_Tell()],
            failure_config=FailureConfig(max_failures=RETRIES),
            checkpoint_config=CheckpointConfig(checkpoint_frequency=1, num_to_keep=2),
        ),
    )  # fmt: skip


def _name(trial: Any) -> str:
    """A trial's folder; Tune's own names hold all settings and grow too long."""
    return str(trial.trial_id)


def _line(err: BaseException) -> str:
    lines = [line.strip() for line in str(err).splitlines() if line.strip()]
    return (lines[-1] if lines else type(err).__name__)[:300]
