"""Trains one stored number again with the same recipe, seed and code, and compares the two.

It reads a search and never writes to it. A script made here carries the number as data, so that it
needs evosearch and no database.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from pprint import pformat
from typing import Any, NamedTuple

from evosearch.config import Plugin
from evosearch.errors import ConfigError, GraphError, NotFound, PluginError, WorkerError
from evosearch.events import CodeChanged, Created, EvaluationRecorded
from evosearch.ports import Store
from evosearch.records import Evaluation, EvaluationDone, Job, JobDone, Run, Subject

SAME, DIFFERS = 0, 1
"""Exit codes of a rerun."""

_SCRIPT = '''\
"""Trains one number again.

{title}

{formula}

Trained with {versions}.
It needs evosearch, this file{code} and the data set {dataset}: python {name}
Data that do not come with evosearch are read in the folder that EVOSEARCH_DATA_DIR names.
The exit code is 1 where the new score differs from the stored one, 2 where there is none.
"""

import sys

import evosearch

NUMBER = {number}

if __name__ == "__main__":
    try:
        code = evosearch.retrain(NUMBER, beside=__file__)
    except evosearch.EvosearchError as err:
        print(f"evosearch: {{err}}", file=sys.stderr)
        code = 2
    sys.exit(code)
'''


class Number(NamedTuple):
    """A stored number: the job of one run that gives it again, what it gave, and where it is from.

    ``versions``: package -> version of what computed when the search or the re-ranking began.
    ``rerank``: key of the re-ranking, if it is of one.
    """

    search: str
    versions: Mapping[str, str]
    job: Job
    stored: Evaluation
    rerank: str = ""

    @property
    def title(self) -> str:
        """Whose number it is, and of which run."""
        subject, run = self.job.subject, self.job.runs[0]
        who = f"candidate {subject.birth}" if subject.baseline is None else subject.baseline
        part = f"re-ranking {self.rerank}" if self.rerank else self.job.purpose
        data = f" and {self.job.task.dataset}" if self.rerank else ""
        return (
            f"{who} of search {self.search} on {run.anchor}{data}, seed {run.seed}, learning rate "
            f"{run.learning_rate:g}, {run.split} ({part})"
        )

    @property
    def formula(self) -> str:
        """What is trained."""
        from evosearch.report import formula_of

        graph = self.job.graph
        return str(self.job.subject.baseline) if graph is None else formula_of(graph)

    def to_data(self) -> dict[str, Any]:
        """The number as plain JSON data, without what differs from run to run."""
        dropped = {"curve", "seconds", "milestones"}
        return {
            "search": self.search,
            "versions": dict(self.versions),
            "job": json.loads(self.job.model_dump_json()),
            "stored": json.loads(self.stored.model_dump_json(exclude=dropped)),
            **({"rerank": self.rerank} if self.rerank else {}),
        }

    @classmethod
    def from_data(cls, data: Mapping[str, Any], beside: Path | None = None) -> Number:
        """The number of which `to_data` made the data, with its plug-ins loaded.

        ``beside``: folder in which these are looked for first.

        Raises:
            ConfigError: it is no such data.
            PluginError: a plug-in is not to be found, is another version, or fails.
        """
        from evosearch.plugins import plugins_of

        try:
            stored = Evaluation.model_validate({"seconds": 0.0, **data["stored"]})
            have_plugins(plugins_of(data["job"]), beside)  # its graph may hold their primitives
            job = Job.model_validate(data["job"])
            return cls(str(data["search"]), dict(data["versions"]), job, stored,
                       str(data.get("rerank", "")))  # fmt: skip
        except GraphError as err:
            found = f"in its graph: {err.what} {err.got or ''}"
            raise ConfigError("no number of a search", got=found) from err
        except (LookupError, TypeError, ValueError) as err:
            raise ConfigError("no number of a search", got=" ".join(str(err).split())[:80]) from err


def command_of(
    search: str, key: str, run: Run | Evaluation, *, dataset: str = "", rerank: str = ""
) -> str:
    """The command that trains a number again; ``key``: of its `Subject`.

    ``dataset``, ``rerank``: of a number of a re-ranking.
    """
    who = key[1:] if key[1:].isdigit() else key
    of = f" --dataset {shlex.quote(dataset)} --rerank {rerank}" if rerank else ""
    return (
        f"evosearch rerun {search}-{who} --anchor {run.anchor} --seed {run.seed} "
        f"--rate {run.learning_rate!r} --split {run.split}{of}"
    )


def stored_numbers(store: Store, ref: str) -> list[Number]:
    """All numbers of ``SEARCH-BIRTH``, ``SEARCH-BASELINE``, or ``SEARCH`` for its leader.

    Those of the search come first, then what its re-rankings read on ``final``.

    Raises:
        NotFound: there is no such search, candidate or baseline, or it was never trained.
        PluginError: its graphs hold primitives of a plug-in that is not here, or has changed.
    """
    from api.wiring import candidate_graph, ensure_primitives

    search_ref, _, name = ref.partition("-")
    info = store.search(search_ref)
    if info.config.space.primitives:
        have_plugins(info.config.task.plugins)
    ensure_primitives(info.config)
    if name and not name.isdigit():
        subject, graph = Subject(baseline=name), None
    else:
        _, birth, graph = candidate_graph(store, ref)
        subject = Subject(birth=birth)
    found: list[Number] = []
    versions: Mapping[str, str] = {}
    task = info.config.task
    for entry in store.events(info.id):
        event = entry.event
        if isinstance(event, Created):
            versions = event.versions
        if isinstance(event, (Created, CodeChanged)):  # a number is of the code of its time
            # A time limit is a machine's; whoever asks for the number again waits for it.
            task = event.config.task.model_copy(update={"evaluation_seconds": None})
        if not isinstance(event, EvaluationRecorded) or event.subject != subject:
            continue
        done = event.evaluation
        run = Run(anchor=done.anchor, seed=done.seed, learning_rate=done.learning_rate,
                  split=done.split)  # fmt: skip
        job = Job(id=f"rerun/{event.job_id}", purpose=event.purpose, subject=subject, graph=graph,
                  runs=(run,), task=task)  # fmt: skip
        found.append(Number(info.id, versions, job, done))
    found += (one for one in rerank_numbers(store, info.id) if one.job.subject == subject)
    if not found:
        raise NotFound(
            f"search {info.id} has no number of {name or 'its leader'}",
            hint=f"see: evosearch search show {info.id}",
        )
    return found


def rerank_numbers(store: Store, search: str) -> Iterator[Number]:
    """What all re-rankings of a search read on ``final``; memory keeps none.

    Its primitives are here.
    """
    from db.sql_store import SqlStore
    from db.studies import Studies
    from evosearch.rerank import Plan, row_of

    if not isinstance(store, SqlStore):
        return
    studies = Studies(store)
    for name in studies.of(search):
        item = studies.item(search, name, "plan")
        if item is None:
            continue
        plan = Plan.model_validate(item.payload)
        kept = {job: Evaluation.model_validate(one.payload)
                for job, one in studies.items(search, name, "final").items()}  # fmt: skip
        rates = {row_of(job): done.learning_rate for job, done in kept.items()}
        for job in plan.final_jobs(rates):
            if job.id in kept:
                again = job.model_copy(update={"id": f"rerun/{job.id}"})
                yield Number(search, plan.versions, again, kept[job.id], name.split("-", 1)[1])


def matching(
    numbers: Sequence[Number], *, anchor: str | None, seed: int | None, rate: float | None,
    split: str | None, dataset: str | None = None, rerank: str | None = None,
) -> list[Number]:  # fmt: skip
    """The numbers that have all that is given.

    Raises:
        NotFound: there is none.
    """
    wanted = {"anchor": anchor, "seed": seed, "learning_rate": rate, "split": split}
    given = {name: value for name, value in wanted.items() if value is not None}
    kept = [
        one for one in numbers
        if all(getattr(one.stored, name) == value for name, value in given.items())
        and dataset in (None, one.job.task.dataset) and rerank in (None, one.rerank)
    ]  # fmt: skip
    if not kept:
        given |= {name: value for name, value in (("data set", dataset), ("re-ranking", rerank))
                  if value is not None}  # fmt: skip
        asked = ", ".join(f"{name} {value}" for name, value in given.items())
        raise NotFound(
            f"none of {len(numbers)} stored numbers is of {asked}", hint="--list shows them all"
        )
    return kept


def have_plugins(plugins: Sequence[Plugin], beside: Path | None = None) -> None:
    """Have the plug-ins loaded that a number was trained with.

    ``beside``: folder in which they are looked for first.

    Raises:
        PluginError: one is not to be found, is another version, or fails.
    """
    from evosearch.plugins import Source, ensure, find, loaded

    sources = dict[str, Source]()
    for plugin in plugins:
        if loaded(plugin.sha256) is not None:
            continue
        try:
            sources[plugin.sha256] = find(plugin, beside=beside)
        except PluginError as err:
            hint = _way_out(plugin, beside, changed=err.where is not None)
            raise PluginError(
                err.what, where=err.where, expected=err.expected, got=err.got, hint=hint
            ) from err
    ensure(plugins, sources)


def _way_out(plugin: Plugin, beside: Path | None, *, changed: bool) -> str:
    """What to do about a plug-in without which a number cannot be trained again."""
    from evosearch.plugins import NOTEBOOK, PATH_VARIABLE, VARIABLE

    if changed:
        return "the number was trained with the old text: bring that back"
    if plugin.name == NOTEBOOK:
        return "it was registered in a notebook, and only there the number is trained again"
    if not plugin.name.endswith(".py"):
        return "install the package that it is an entry point of"
    if plugin.folder:
        return f"name its path in {VARIABLE}, and in {PATH_VARIABLE} what was {plugin.folder}"
    place = "here" if beside is None else f"in {beside}"
    return f"put it {place} with what it imports of yours, or name its path in {VARIABLE}"


def train_again(job: Job) -> Evaluation:
    """The outcome of a job of one run, trained in this process on one thread.

    Raises:
        WorkerError: the training failed.
    """
    from workers.evaluate import Context, run_job
    from workers.inline import one_thread

    made: Evaluation | None = None
    with one_thread():
        for message in run_job(job, Context(worker="rerun")):
            if isinstance(message, EvaluationDone):
                made = message.evaluation
            elif isinstance(message, JobDone) and made is None:
                failed = message.failure or message.rejection
                detail = getattr(failed, "detail", "") or "no evaluation"
                raise WorkerError("the number could not be trained again", got=detail)
    assert made is not None
    return made


def retrain(
    number: Mapping[str, Any] | Number, *, within: float = 0.0, beside: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> int:  # fmt: skip
    """Train a stored number again, print it beside the stored one; 1 where the scores differ.

    ``number``: what a script of `evosearch rerun --out` holds. ``within``: largest difference of
    scores that counts as equal. ``beside``: a file, mostly the script, in whose folder plug-ins are
    looked for first.

    Raises:
        ConfigError: it is no number of a search.
        PluginError: a plug-in is not to be found, is another version, or fails.
        WorkerError: the training failed.
    """
    folder = None if beside is None else Path(beside).absolute().parent
    given = number if isinstance(number, Number) else Number.from_data(number, folder)
    say(given.title)
    say(f"  {given.formula}")
    new = train_again(given.job)
    for line in comparison(given, new):
        say(line)
    difference = abs(new.score - given.stored.score)
    if difference == 0.0:
        say("the same score")
        return SAME
    if difference <= within:
        say(f"the scores differ by {difference:.3g}, within {within:g}")
        return SAME
    say(f"the scores differ by {difference:.3g}, more than {within:g}{_reason(given)}")
    return DIFFERS


def comparison(number: Number, new: Evaluation) -> list[str]:
    """Stored beside new as lines of text, in the objectives' own units."""
    stored = number.stored
    settings = {anchor.name: anchor for anchor in number.job.task.anchors}
    setting = settings[stored.anchor]
    goals = [(setting.objective, stored.score, new.score)]
    goals += [
        (goal, stored.more[goal.name], new.more[goal.name]) for goal in setting.objectives[1:]
        if goal.name in stored.more and goal.name in new.more
    ]  # fmt: skip
    lines = [f"{'':24}{'stored':>16}{'new':>16}{'difference':>16}"]
    for goal, before, after in goals:
        old, now = goal.value(before), goal.value(after)
        name = f"{goal.name} {goal.unit}".strip()
        lines.append(f"{name[:23]:24}{old:>16.8g}{now:>16.8g}{now - old:>16.3g}")
    if stored.correct and len(stored.correct) == len(new.correct):
        pairs = zip(stored.correct, new.correct, strict=True)
        differ = sum(one != other for one, other in pairs)
        lines.append(f"images judged otherwise: {differ} of {len(stored.correct)}")
    return lines


def script_of(number: Number, name: str) -> str:
    """Python text of a script that trains the number again; ``name``: of its file."""
    plugins = [one.name for one in number.job.task.plugins]
    files = ", ".join(name for name in plugins if name.endswith(".py"))
    code = f", {files} beside it with what it imports of yours" if files else ""
    code += "".join(f", the plug-in {name} installed" for name in plugins if name[-3:] != ".py")
    shown = ", ".join(f"{package} {version}" for package, version in number.versions.items())
    text = {
        "title": number.title, "formula": number.formula, "name": name,
        "dataset": number.job.task.dataset,
    }  # fmt: skip
    safe = {key: value.replace("\\", "\\\\").replace('"""', "'''") for key, value in text.items()}
    body = pformat(number.to_data(), width=96, sort_dicts=False)
    return _SCRIPT.format(**safe, versions=shown or "unknown versions", code=code, number=body)


def _reason(number: Number) -> str:
    """What of this machine is other than where the search began, as the end of a sentence."""
    from api.wiring import versions

    here = versions()
    other = [
        f"{name} {version} then and {here[name]} here"
        for name, version in number.versions.items() if here.get(name, version) != version
    ]  # fmt: skip
    return "; " + (", ".join(other) if other else "other hardware rounds otherwise")
