"""What a search is told: one frozen, validated tree of settings, and nothing that changes.

Every default that the paper does not state is named as such in its description (marks of
``docs/paper-settings.md``: P stated, M from memory, ? not stated). This file must not read files;
presets are read by `evosearch.presets`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from evosearch.objectives import ACCURACY, SEPARATOR, Objective

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]


class Settings(BaseModel):
    """Base of all settings: frozen, and unknown keys are refused."""

    # The docstrings are the descriptions of the JSON schema, from which forms are made.
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


class Space(Settings):
    """The graphs that may be proposed."""

    op_set: Literal["paper", "paper+token", "extended", "extended+token"] = "paper"
    """Primitives that may be drawn (P: the paper's 24)."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 10
    """Op nodes of a graph (P: 10 after the four initial ones)."""
    draw: Literal["rows", "typed"] = "rows"
    """Uniform over the 15 rows and then the index set, or over the typed primitives (?)."""
    where: Annotated[str, Field(max_length=1000)] = ""
    """What a layer must be, in the language of filters: ``causal_safe and live_nodes <= 6``. It may
    ask for whatever a graph tells by itself: live_nodes, parameters_per_channel, flops,
    bytes_moved, batch_independent, causal_safe, pointwise, mixes_batch, mixes_channels,
    mixes_positions, scale_invariant, shift_invariant, symmetry, bounded, monotone."""
    template: Annotated[str, Field(max_length=1000)] = ""
    """A formula with holes such as ``x * f(x) / g(x)``; only the holes are searched."""
    allow: Annotated[tuple[str, ...], Field(max_length=80)] = ()
    """Primitives of the op set that are drawn, such as ``max`` or ``std_batch``; by default all."""
    deny: Annotated[tuple[str, ...], Field(max_length=80)] = ()
    """Primitives of the op set that are not drawn, and initial nodes that are not read: ``zero``,
    ``v0`` or ``v1``."""
    primitives: Annotated[tuple[str, ...], Field(max_length=40)] = ()
    """Primitives of plug-ins that are drawn beside those of the op set, by name."""
    checks: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Checks of plug-ins that every proposal must pass, by name."""
    start_from: Annotated[tuple[str, ...], Field(max_length=200)] = ()
    """Catalog names and formulas that are evaluated first."""


Criterion = Literal["pareto", "average", "nsga2", "lexicase"]
Operator = Literal["paper", "redraw", "swap", "rewire", "insert", "branch", "delete", "cross"]


class Evolution(Settings):
    """Aging evolution with tournaments."""

    population_size: Count = 2500
    """Most recent evaluated candidates that may become parents (M)."""
    warm_up: Annotated[int, Field(ge=0)] = 0
    """Evaluated candidates before the first mutation; until then all graphs are random."""
    tournament_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    """Share of the population that a tournament draws (P)."""
    tournament_min: Count = 2
    """Smallest tournament, for small populations."""
    criterion: Criterion = "pareto"
    """Winner: random member of the tournament's Pareto front, or highest mean of the anchors'
    scores (P); of two of that front who has more room around (nsga2), or epsilon-lexicase over the
    objectives."""
    parsimony: Share = 0.0
    """Probability that of two tournaments' winners the one with fewer live nodes is taken."""
    mutations: Count = 2
    """Mutations from parent to child (M); with ``operators`` the largest number of edits."""
    operators: dict[Operator, Annotated[float, Field(gt=0.0)]] = Field(default_factory=dict)
    """Operator -> weight, of `evosearch.operators`; empty: the paper's mutation alone (P), which is
    also what a template takes."""
    random_share: Share = 0.5
    """Probability that a child is replaced by a fresh random graph (M)."""
    random_of: Literal["proposals", "functions"] = "proposals"
    """What ``random_share`` is a share of: of all proposals (M), or of those that hold a new
    function. Random graphs are refused much more often than children, at hardly any cost; a share
    of the proposals lets few of them through. After a hundredth of ``max_proposals`` without a new
    function it is drawn anew."""
    remeasure_every: Annotated[int, Field(ge=0)] = 0
    """Repeats of an evaluated candidate's function before it gets a fresh seed; 0: never."""
    remeasure_share: Share = 0.2
    """Largest share of re-measurements among all full evaluations."""
    challenge_top: Annotated[int, Field(ge=0)] = 0
    """Members with the highest mean scores that get fresh seeds, so that luck with one seed does
    not stay unchallenged; within ``remeasure_share``; 0: none."""
    sure_edits: bool = False
    """Whether edits of the live graph (all operators but ``paper``) are drawn anew until they
    change it and keep the output varying with ``x``; only operators that can change the parent are
    drawn then."""
    challenge_front: bool = False
    """Whether, after those of ``challenge_top``, members of the front get fresh seeds too, whatever
    their mean: who leads on one anchor alone may be lucky there."""
    challenge_seeds: Count = 3
    """Seeds that those members are brought to."""
    modulo_affine: bool = False
    """Functions equal up to the sign and scale of the affine after them are duplicates."""
    same_start: Annotated[int, Field(ge=0)] = 0
    """Candidates tried of one function at the initial v0 and v1, up to an affine; 0: any number."""
    alike: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0
    """Correlation of the outputs at the initial v0 and v1, up to an affine a channel, from which on
    two layers count as one function for ``same_start``; 1: equal ones alone. Counted are the latest
    candidates that were trained at all, four times as many as the population holds."""
    restart_after: Annotated[int, Field(ge=0)] = 0
    """Evaluated candidates without a gain in hypervolume after which evolution begins anew: only
    what is evaluated from then on becomes a parent, after a new ``warm_up``; 0: never."""
    primitive_floor: Annotated[float, Field(ge=0.05, le=1.0)] = 1.0
    """Primitives are drawn in proportion to the share of the candidates with them that came through
    all checks, but never less than this share of the most promising one; 1: all alike."""
    choose_of: Annotated[int, Field(ge=1, le=1000)] = 1
    """New functions that are looked at for each candidate, at most; the one with the best odds, by
    what the search has learnt, is tried; 1: each of them (P)."""
    experience: bool = False
    """Whether what is expected begins with what other searches learnt, of convolutional networks on
    small images, or with nothing."""
    max_proposals: Count = 500_000
    """Proposals without one new candidate after which the search space counts as exhausted."""


Size = Literal["micro", "small", "full"]
Slot = Literal["norm_act", "norm", "act"]
Forbidden = Literal["batch", "positions"]


class Anchor(Settings):
    """One host network of the proxy task. What is not set is the anchor's own default."""

    name: str
    """A built-in anchor network or one of a plug-in; in a file of settings ``my_task.py:Name``,
    too."""
    size: Size = "micro"
    """micro: for a CPU; small: for a GPU; full: as published."""
    width: Count | None = None
    """Channels that its widths are multiples of, an even number; by default that of ``size``."""
    depth: Count | None = None
    """How often its blocks repeat; by default as in ``size``."""
    slot: Slot | None = None
    """What of the network the layer stands for."""
    forbids: tuple[Forbidden, ...] = ()
    """Axes that no layer may mix; a layer that does is rejected in the controller."""
    optimizer: Literal["sgd", "adamw"] | None = None
    """SGD with momentum, or AdamW."""
    rate_scale: Annotated[float, Field(gt=0.0)] | None = None
    """Factor on the run's learning rate, so that anchors of several optimizers share a task."""
    reference: float = 0.0
    """This anchor's coordinate of the hypervolume's reference point (a score)."""
    objectives: Annotated[tuple[Objective, ...], Field(max_length=8)] = ()
    """What its evaluation gives, the first one is its score; by default the accuracy."""
    quality: float | None = None
    """Smallest score after the first steps; where none is set, that of ``checks.quality``."""
    references: dict[str, float] = Field(default_factory=dict)
    """Further objective -> its coordinate of the reference point (a score); by default that of the
    objective's ``worst``."""

    @property
    def objective(self) -> Objective:
        """What its score means."""
        return self.objectives[0] if self.objectives else ACCURACY

    @model_validator(mode="after")
    def _objectives_are_distinct(self) -> Self:
        names = [one.name for one in self.objectives]
        if len(set(names)) != len(names):
            raise ValueError(f"each objective once; got {', '.join(names)}")
        if SEPARATOR in self.name:
            raise ValueError(f"an anchor's name has no {SEPARATOR}")
        return self


class Plugin(Settings):
    """A file of a user's own, or an entry point, that a search needs; never its text.

    ``sha256``: of what was loaded when the search was made; workers load that and nothing else.
    """

    name: Annotated[str, Field(max_length=200)]
    """File name, or the name of an entry point."""
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = ""
    """Of its text and of all that it brings along; where it is empty, of what is found."""
    file: Annotated[str, Field(max_length=1000)] = ""
    """Where it was found; only a hint, for a resume elsewhere finds it by name and sha256."""
    folder: Annotated[str, Field(max_length=1000)] = ""
    """The user's own package that it imports (``--plugin-path``); part of the sha256."""


class Augmentation(Settings):
    """Random crops and flips of training images; evaluation always uses whole images."""

    crop: Annotated[int, Field(ge=0)] = 0
    """Side of the crop; 0: that of the image."""
    padding: Annotated[int, Field(ge=0)] = 0
    """Zeros on each side before the crop."""
    flip: bool = False
    """Left and right exchanged in half of the images."""


class Task(Settings):
    """The proxy task: data, anchor networks and training recipe."""

    dataset: str = "polarity-digits"
    """A built-in data set or one of a plug-in (P: CIFAR-10); a user's own task has its own data."""
    anchors: Annotated[tuple[Anchor, ...], Field(min_length=1)]
    """Checked and trained in this order; put the cheapest first, as the quickstart does: what fails
    there costs nothing elsewhere. It is no measured order, for then a search would not repeat. A
    list of names beside it, ``task.objectives``, gives each anchor further objectives: live_nodes,
    parameters, saved_bytes, step_time, or your own."""
    steps: Count = 100
    """Training steps of a candidate on each anchor (M: 2,000 for series B, 5,000 for S)."""
    batch_size: Count = 64
    """Rows of a training step (M: 128)."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 0.2
    """The highest learning rate of a training (M: 0.1); an anchor's ``rate_scale`` is a factor on
    it."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate falls to 0 over all steps, or stays (M: constant for series B, cosine for
    S)."""
    momentum: Share = 0.9
    """Share of the earlier gradients in a step (M)."""
    nesterov: bool = True
    """Nesterov's step in SGD (M)."""
    weight_decay: Annotated[float, Field(ge=0.0)] = 1e-4
    """On weights of convolutions and linear maps; layer parameters take none (P)."""
    weight_init: Literal["he_fan_out", "torch"] = "he_fan_out"
    """Initialisation of convolutions (?); it decides rejections."""
    groups: Count = 32
    """Largest group count of a layer."""
    group_rule: Literal["two_channels", "authors"] = "two_channels"
    """Largest divisor that leaves two channels a group, or the authors': largest divisor."""
    augmentation: Augmentation = Augmentation()
    warm_up_steps: Annotated[int, Field(ge=0)] = 0
    """Steps over which the learning rate rises linearly."""
    second_momentum: Share = 0.99
    """Decay of AdamW's squared gradients; ``momentum`` is that of its gradients."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of matrix products; auto: float32 on a CPU, bfloat16 (else float16) on a GPU."""
    select_rows: Count | None = None
    """The first rows of ``select`` that are scored; by default all."""
    evaluation_seconds: Annotated[float, Field(gt=0.0)] | None = None
    """Longest training of a user's own task or evaluator; after it a layer is rejected."""
    plugins: Annotated[tuple[Plugin, ...], Field(max_length=20)] = ()
    """Code of the user's own that defines anchors or data sets of this task."""
    statistics: Literal["reestimated", "moving"] = "reestimated"
    """Evaluation mode uses moving averages, re-estimated over training batches after training."""

    @model_validator(mode="after")
    def _names_are_distinct(self) -> Self:
        names = [anchor.name for anchor in self.anchors]
        if len(set(names)) != len(names):
            raise ValueError(f"each anchor once; got {', '.join(names)}")
        return self


class Bounds(Settings):
    """Closed interval of one statistic of the signal check."""

    low: float
    """Smallest value that passes."""
    high: float
    """Largest value that passes."""


class Signal(Settings):
    """Spread, gradient and loss of the first three batches against bounds per anchor and statistic;
    the two steps between them are taken back."""

    enabled: bool = True
    """Whether this check is made (P: the paper has no such check)."""
    reference: str = "bn-relu"
    """Baseline that the statistics are relative to, so that bounds hold on every data set."""
    bounds: dict[str, dict[str, Bounds]] = Field(default_factory=dict)
    """Anchor -> statistic -> interval; an anchor without bounds is only checked for finiteness."""
    learn: bool = False
    """Bounds come from the layers that passed quality in this very search, widened tenfold at first
    and less as audits confirm them; until enough have, those above hold, or finiteness alone."""
    learn_after: Count = 10
    """Layers that must pass quality on every anchor before bounds are learnt."""
    audit_share: Share = 0.1
    """Share of its rejections that is put through quality all the same."""


class Stability(Settings):
    """Gradient ascent on the weights that maximises the norm of the loss gradient (P)."""

    enabled: bool = True
    """Whether this check is made (P)."""
    steps: Annotated[int, Field(ge=1, le=100)] = 20
    """Ascent steps at most (P: 100); they are no training steps."""
    rate: Annotated[float, Field(gt=0.0)] = 1.0
    """Factor on the norm's gradient in an ascent step (?)."""
    batch_size: Count = 32
    """Rows of the batch whose loss is differentiated (?)."""
    limit: float = 1e8
    """Gradient norm above which a layer is rejected (P)."""


class Quality(Settings):
    """Accuracy on ``select`` after the first steps of the very training run (P: 20 %, step 100)."""

    enabled: bool = True
    """Whether this check is made (P)."""
    steps: Count = 40
    """Training steps before it, at most ``task.steps`` (P: 100)."""
    accuracy: Annotated[float, Field(le=1.0)] = 0.2
    """Smallest score; of texts minus bits per character."""


class Hurdles(Settings):
    """Scores in the middle of training below which a candidate is given up; off by default.

    A hurdle is a quantile of what the latest candidates had at that step of that anchor, whether
    they passed it or not; as many are kept in mind as the population holds.
    """

    steps: tuple[Count, ...] = ()
    """Training steps at which a score is judged, such as ``[20, 50]``; of an evaluator the steps
    that it reports. Empty: no hurdles."""
    quantile: Share = 0.25
    """Share of the latest candidates at that step that would miss it."""
    after: Count = 20
    """Candidates that came to the step before a hurdle is set there."""
    spare_front: bool = False
    """Whether a candidate goes on all the same that stands on the front of the latest candidates'
    scores at that step, over the anchors up to that one."""


class Checks(Settings):
    """The worker-side checks, in the order signal, quality, stability."""

    signal: Signal = Signal()
    stability: Stability = Stability()
    quality: Quality = Quality()
    hurdles: Hurdles = Hurdles()


class Surrogate(Settings):
    """A model of this very search that says which candidates are worth training first.

    It orders those that have passed the signal check, and may discard only what it has earned the
    right to; off by default.
    """

    enabled: bool = False
    """Whether candidates wait for their training and the most promising one goes first."""
    waiting: Count = 8
    """Candidates that wait at a time; one that was passed over four times as often is next."""
    after: Annotated[int, Field(ge=10)] = 30
    """Candidates with a verdict before anything is foretold."""
    least: Annotated[int, Field(ge=10)] = 50
    """Candidates below a promise that must have been trained before it discards."""
    allowed: Share = 0.02
    """Largest share of these that may have been better than half of the population."""
    audit_share: Share = 0.1
    """Share of those below it that are trained all the same."""


class Confirmation(Settings):
    """The end of a search: fresh seeds, learning rates, and one read of ``final``."""

    enabled: bool = True
    """Whether a search confirms its best candidates before its report."""
    top: Count = 5
    """Candidates with the highest mean scores that are confirmed (P: 10)."""
    seeds: Count = 3
    """Fresh seeds that each of them gets on every anchor, and each rival, as a control (?)."""
    baseline_seeds: Annotated[int, Field(ge=0)] = 3
    """How many of these seeds the other baselines get; at most all of them (?)."""
    learning_rates: Annotated[tuple[float, ...], Field(min_length=1)] = (0.1, 0.2, 0.4)
    """Learning rates that the best candidates and their rivals are tried at (?)."""
    tune_top: Count = 1
    """Candidates, the best on fresh seeds, that are tried at these rates; the best one at its own
    best rate leads (?)."""
    tune_seeds: Count = 2
    """Fresh seeds at each of these rates (?)."""
    final_seeds: Count = 10
    """Fresh seeds on ``final`` for the leader and each rival (?); fewer, where these would
    take more training steps than the search."""
    rivals: Annotated[tuple[str, ...], Field(min_length=1)] = ("bn-relu", "bn-silu")
    """Baselines that the leader must beat; tuned and read on ``final`` beside it."""
    resamples: Count = 10_000
    """Bootstrap resamples behind an interval."""
    level: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.95
    """How sure an interval is, the share of the resamples that lie in it; and a verdict: a
    difference is shown where its p is below 1 minus this."""

    @property
    def tune_runs(self) -> int:
        """Trainings on an anchor that the learning rates of candidates and rivals take."""
        tuned = min(self.top, self.tune_top) + len(self.rivals)
        return tuned * len(self.learning_rates) * self.tune_seeds

    @property
    def final_runs(self) -> int:
        """Trainings on an anchor that are read on ``final``, of the leader and its rivals."""
        return (1 + len(self.rivals)) * self.final_seeds


class Budget(Settings):
    """When a search ends."""

    evaluations: Count = 100
    """Distinct candidates fully evaluated on every anchor."""
    train_steps: Count | None = None
    """Training steps of all kinds."""
    hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours by the wall clock while a controller runs the search."""
    gpu_hours: Annotated[float, Field(gt=0.0)] | None = None
    """Hours of GPUs by what the workers took; a worker with a share of a GPU takes that share."""
    no_gain: Count | None = None
    """Evaluations without a better confirmed mean score (fresh seeds alone) on ``select``."""
    target: Share | None = None
    """Confirmed mean score (fresh seeds alone) on ``select`` that is enough."""


def _as_budget_has_them(limits: dict[str, Any]) -> dict[str, Any]:
    told = {name: limit for name, limit in limits.items() if limit is not None}
    unknown = limits.keys() - (Budget.model_fields.keys() - {"evaluations"})
    if unknown:
        raise ValueError(f"no limit of the budget: {', '.join(sorted(unknown))[:80]}")
    return dict.fromkeys(limits) | Budget.model_validate(told).model_dump(include=set(told))


Limits = Annotated[dict[str, int | float | None], AfterValidator(_as_budget_has_them)]
"""Limits of a `Budget` that change: name -> the new one, None where there is none any more."""


class SearchConfig(Settings):
    """Everything that reproduces a search with the inline pool."""

    preset: str = "custom"
    """Name of the preset that these settings began as."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """What the random numbers of proposals and trainings follow from."""
    series: Literal["B", "S"] = "B"
    """B layers may use batch statistics; S layers may not (judged on the live graph)."""
    space: Space = Space()
    evolution: Evolution = Evolution()
    task: Task
    checks: Checks = Checks()
    surrogate: Surrogate = Surrogate()
    baselines: tuple[str, ...] = ("bn-relu", "bn-silu")
    """Known layers that are trained beside the candidates, by name."""
    confirmation: Confirmation = Confirmation()
    budget: Budget = Budget()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if self.checks.quality.enabled and self.checks.quality.steps > self.task.steps:
            raise ValueError("checks.quality.steps is at most task.steps")
        if self.surrogate.enabled and not self.checks.signal.enabled:
            raise ValueError("surrogate.enabled needs checks.signal.enabled")
        return self

    @property
    def control_seeds(self) -> dict[str, int]:
        """Baseline -> how many of the confirmation's seeds it is trained with, at the task's rate.

        Rivals get all of them.
        """
        end = self.confirmation
        others = min(end.baseline_seeds, end.seeds)
        return {name: end.seeds if name in end.rivals else others for name in self.baselines}

    @property
    def confirm_runs(self) -> int:
        """Trainings on an anchor with the confirmation's seeds: top candidates and baselines."""
        end = self.confirmation
        return end.top * end.seeds + sum(self.control_seeds.values())

    @property
    def anchor_names(self) -> tuple[str, ...]:
        """Names of the anchors in training order."""
        return tuple(anchor.name for anchor in self.task.anchors)

    @property
    def coordinates(self) -> dict[str, tuple[Objective, float]]:
        """Coordinate of the front -> its objective and reference: the anchors' scores first."""
        anchors = self.task.anchors
        found = {anchor.name: (anchor.objective, anchor.reference) for anchor in anchors}
        for anchor in anchors:
            for one in anchor.objectives[1:]:
                name = f"{anchor.name}{SEPARATOR}{one.name}"
                least = 0.0 if one.worst is None else one.score(one.worst)
                found[name] = (one, anchor.references.get(one.name, least))
        return found

    def objective(self, coordinate: str) -> Objective:
        """What a coordinate of the front means; the accuracy for a name that is none."""
        found = self.coordinates.get(coordinate)
        return ACCURACY if found is None else found[0]
