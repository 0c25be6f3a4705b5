"""The worker-side checks: cheap tests that throw a layer out before its training is paid for.

Each returns a `CheckRun` with its cost and findings; a rejection is data, not an error. None of
them changes what the training computes afterwards, and quality's steps are the training's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from evosearch.config import Bounds, Quality, Stability
from evosearch.objectives import ACCURACY, Objective
from evosearch.records import CheckRun, Rejection
from evosearch.signal import LOSSES
from workers.training import Training, anchor_setting, undisturbed

Clock = Callable[[], float]

MEASURED = (
    "logit_std", "feature_std", "loss", "grad_ratio", "second_loss", "third_loss", "logit_growth",
)  # fmt: skip
SIGNAL_STATISTICS = (*MEASURED, "grad_per_logit", "grad_times_logit", "growth_per_logit")
"""Names of what the signal check measures; bounds are set per anchor and statistic.

``grad_per_logit`` and ``grad_times_logit`` are quotient and product of ``grad_ratio`` and
``logit_std``, ``growth_per_logit`` is the quotient of ``logit_growth`` and ``logit_std``: layers
that train lie along the diagonals of these pairs, and a box over them alone is wider than it needs
to be.
"""
OF_OWN_LOSS = ("loss", "grad_ratio", "second_loss", "third_loss")
"""What can be measured of a user's own loss, which says nothing of what is before it."""


def signal_statistics(training: Training) -> dict[str, float]:
    """The training's first three batches: two steps, which are taken back, and one forward pass.

    ``logit_std``, ``feature_std``: standard deviation over the first batch of logits and of
    features before the classifier, averaged over classes and features. ``grad_ratio``: norm of the
    first convolution's gradient over the norm of its weights. ``grad_per_logit``,
    ``grad_times_logit``: it over and times ``logit_std``. ``loss``, ``second_loss``,
    ``third_loss``: cross-entropy of each batch; a layer that bounds neither its output nor its
    gradient is thrown far off by the steps between them. ``logit_growth``: the third batch's
    ``logit_std`` over the first one's; what a step flattens learns no more. ``growth_per_logit``:
    it over ``logit_std``.
    """
    network = training.network
    network.train()
    with undisturbed(network), training.ahead():
        features, logits, loss, weight = training.pass_at(0)
        gradient = training.flat.backward(loss)
        assert weight.grad is not None
        ratio = weight.grad.norm() / weight.detach().norm()
        training.follow(gradient)
        second = training.pass_at(1)[2]
        training.follow(training.flat.backward(second))
        with torch.no_grad():
            _, last, third, _ = training.pass_at(2)
    losses = (second.detach(), third)
    if features is None or logits is None or last is None:
        told = torch.stack((loss.detach(), ratio, *losses)).tolist()
        return dict(zip(OF_OWN_LOSS, told, strict=True))
    spread, after = _spread(logits), _spread(last)
    growth = torch.where(after == 0, after, after / spread)
    measured = (spread, _spread(features), loss.detach(), ratio, *losses, growth)
    # Stacked, so that the device is asked once.
    return derived_statistics(dict(zip(MEASURED, torch.stack(measured).tolist(), strict=True)))


def _spread(rows: Tensor) -> Tensor:
    return rows.detach().std(dim=0, correction=0).mean()


def derived_statistics(found: Mapping[str, float]) -> dict[str, float]:
    """The measured statistics with the derived ones."""
    spread = found["logit_std"]
    return {
        **found,
        "grad_per_logit": _over(found["grad_ratio"], spread),
        "grad_times_logit": found["grad_ratio"] * spread,
        "growth_per_logit": _over(found["logit_growth"], spread),
    }


def _over(value: float, spread: float) -> float:
    """The quotient; of something over no spread it is infinite."""
    return value / spread if spread else math.inf if value else 0.0


def relative_statistics(
    found: Mapping[str, float], reference: Mapping[str, float]
) -> dict[str, float]:
    """Statistics beside those of the reference layer in the same network on the same batch.

    Losses as a difference, the others as ratios: so they mean the same on every data set.
    """
    return {
        name: value - reference[name] if name in LOSSES else value / reference[name]
        for name, value in found.items()
    }


def check_signal(
    training: Training,
    bounds: Mapping[str, Bounds],
    reference: Mapping[str, float] | None,
    clock: Clock,
    measure: Callable[[Training], dict[str, float]] = signal_statistics,
) -> CheckRun:
    """Whether the signal's statistics at initialisation are finite and within their bounds.

    ``reference``: the statistics of the reference layer with the same run; bounds and findings
    are relative to them, and as measured where there is none.
    """
    start = clock()
    anchor = training.run.anchor
    findings = measure(training)
    if reference is not None:
        findings = relative_statistics(findings, reference)
    return CheckRun(
        check="signal",
        anchor=anchor,
        seconds=clock() - start,
        findings=findings,
        rejection=judge_signal(anchor, findings, bounds),
    )


def judge_signal(
    anchor: str, findings: Mapping[str, float], bounds: Mapping[str, Bounds]
) -> Rejection | None:
    """Statistics against their bounds; nothing is measured here."""
    for name, value in findings.items():
        if not math.isfinite(value):
            return Rejection(code="not_finite", detail=f"{name} at initialisation on {anchor}")
        bound = bounds.get(name)
        if bound is not None and not bound.low <= value <= bound.high:
            return Rejection(
                code="signal",
                detail=f"{name} {value:.3g} on {anchor}, "
                f"expected {bound.low:.3g} to {bound.high:.3g}",
            )
    return None


def check_quality(
    training: Training, settings: Quality, clock: Clock, *, audited: bool = False
) -> CheckRun:
    """Score on ``select`` after the training's first steps, which are done here."""
    start = clock()
    anchor = training.run.anchor
    steps = training.advance(settings.steps)
    rejection, findings = None, {}
    if training.diverged:
        rejection = Rejection(
            code="not_finite", detail=f"training loss within {training.step} steps on {anchor}"
        )
    else:
        setting = anchor_setting(training.run, training.task)
        least = settings.accuracy if setting.quality is None else setting.quality
        score = training.score("select").accuracy
        findings["accuracy"] = score if math.isfinite(score) else 0.0
        if not score >= least:
            rejection = Rejection(
                code="quality",
                detail=_falls_short(setting.objective, score, least, anchor, training.step),
            )
    return CheckRun(
        check="quality",
        anchor=anchor,
        seconds=clock() - start,
        steps=steps,
        findings=findings,
        rejection=rejection,
        audited=audited,
    )


def _falls_short(goal: Objective, score: float, least: float, anchor: str, step: int) -> str:
    word = "below" if goal.direction == "max" else "above"
    return (
        f"{goal.name} {goal.text(score)} on {anchor} after {step} steps, {word} {goal.text(least)}"
    )


def check_hurdle(training: Training, step: int, least: float | None, clock: Clock) -> CheckRun:
    """Score on ``select`` at that step of the training; a rejection where it is below ``least``."""
    start = clock()
    anchor = training.run.anchor
    steps = training.advance(step)
    score = training.worst if training.diverged else training.score("select").accuracy
    goal = anchor_setting(training.run, training.task).objective
    judged = judge_hurdle(anchor, step, score, None if training.diverged else least, goal)
    return judged.model_copy(update={"seconds": clock() - start, "steps": steps})


def judge_hurdle(
    anchor: str, step: int, score: float, least: float | None, goal: Objective = ACCURACY
) -> CheckRun:
    """A score in the middle of training against its hurdle; nothing is trained here."""
    rejection = None
    if least is not None and score < least:
        rejection = Rejection(
            code="hurdle",
            detail=_falls_short(goal, score, least, anchor, step),
        )
    return CheckRun(
        check="training",
        anchor=anchor,
        seconds=0.0,
        findings={"score": score, "step": float(step)},
        rejection=rejection,
    )


def ascended(training: Training, settings: Stability) -> tuple[float, int]:
    """Norm of the loss gradient after ascent up to the limit, and the ascent steps it took."""
    loss, weights = training.ascent(settings.batch_size)
    norm, step = 0.0, 0 if weights else settings.steps  # a user's network may have no such maps
    while step < settings.steps and norm <= settings.limit:
        training.interrupted(training)
        norm = _ascend(loss(), weights, settings.rate)
        step += 1
    return norm, step


def check_stability(
    training: Training,
    settings: Stability,
    clock: Clock,
    measure: Callable[[Training, Stability], tuple[float, int]] = ascended,
) -> CheckRun:
    """Whether gradient ascent on the convolutions' weights can blow up the loss gradient.

    From the initial weights of the run; ``ascent_steps`` are no training steps.
    """
    start = clock()
    norm, step = measure(training, settings)
    # Written so that NaN counts as above the limit.
    blown = not norm <= settings.limit
    anchor = training.run.anchor
    detail = f"gradient norm {norm:.3g} on {anchor} at ascent step {step}, above {settings.limit:g}"
    return CheckRun(
        check="stability",
        anchor=anchor,
        seconds=clock() - start,
        findings={"gradient_norm": norm, "ascent_steps": float(step)},
        rejection=Rejection(code="stability", detail=detail) if blown else None,
    )


def _ascend(loss: Tensor, weights: list[Tensor], rate: float) -> float:
    """One step of the weights up the norm of the loss gradient; returns the norm before it."""
    gradients = torch.autograd.grad(loss, weights, create_graph=True)
    squared = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
    # The floor keeps the root's slope finite where no gradient flows at all.
    norm = torch.sqrt(squared + 1e-30)
    ascent = torch.autograd.grad(norm, weights, allow_unused=True)
    with torch.no_grad():
        for weight, direction in zip(weights, ascent, strict=True):
            if direction is not None:
                weight.add_(direction, alpha=rate)
    return norm.item()
