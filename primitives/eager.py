"""The text of fast eager steps that generated files carry: autograd functions for CPU tensors.

Each has the value and the gradient of a plain expression (ties, infinities and second derivatives
included), in fewer passes over memory and with less saved for backward. Under ``torch.compile`` and
on other devices the plain expression is used, which compilers fuse by themselves; too far where a
small tensor is computed anew for every element of a large one, so `_kept` gives it a buffer. Only
text: this file must not import torch, and knows no graph.
"""

from __future__ import annotations

_EAGER = '''

def _eager(x):
    """Whether the functions below pay: on a CPU, where no compiler fuses the plain steps."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
'''

_KEPT = '''

def _compiled():
    """Whether torch.compile is at work; an export keeps to plain operations."""
    return torch.compiler.is_compiling() and not _is_exporting()


_is_exporting = getattr(torch.compiler, "is_exporting", lambda: False)


def _kept(small):
    """The tensor itself; compiled, in a buffer and not once more for each element of x.

    A view of memory makes a compiler fill that memory first; so does the view's gradient.
    """
    if not _compiled():
        return small
    flat = small.contiguous().view(-1)
    return flat.as_strided(flat.shape, (1,)).view(small.shape)
'''

_WITHIN = '''

def _within_groups(moment, groups):
    """(N, C, 1, ...) -> the same shape, every channel with the average of its group."""
    if groups is None or groups == moment.shape[1]:
        return moment
    inner = moment.shape[1] // groups
    average = _kept(moment).reshape(moment.shape[0], groups, inner).mean(2)
    return _kept(average.repeat_interleave(inner, dim=1)).reshape(moment.shape)


def _share(x, moment, groups):
    """One over the number of elements that one moment averages."""
    distinct = moment.numel() if groups is None else moment.shape[0] * groups
    return distinct / x.numel()
'''

_VARIANCE = '''

def _var_mean(x, dims, groups=None):
    """Biased variance and mean, kept at a shape that broadcasts to x."""
    if _eager(x):
        return _VarMean.apply(x, dims, groups)
    mean = _within_groups(torch.mean(x, dims, keepdim=True), groups)
    return _within_groups(torch.mean(torch.square(x - mean), dims, keepdim=True), groups), mean


class _VarMean(torch.autograd.Function):
    """Saves x and its mean; the gradient is (x - mean) scaled, plus a constant for the mean."""

    @staticmethod
    def forward(ctx, x, dims, groups):
        mean = _within_groups(torch.mean(x, dims, keepdim=True), groups)
        centred = x - mean
        # What rounding left in the mean: over the reals it is zero, and so is its gradient.
        rest = _within_groups(torch.mean(centred, dims, keepdim=True), groups)
        variance = torch.mean(centred.square_(), dims, keepdim=True)
        variance = _within_groups(variance, groups)
        ctx.save_for_backward(x, mean, rest)
        ctx.groups, ctx.share = groups, _share(x, mean, groups)
        ctx.set_materialize_grads(False)
        return variance, mean

    @staticmethod
    def backward(ctx, of_variance, of_mean):
        x, mean, rest = ctx.saved_tensors
        # Every channel of a group holds the same moment: the average of their gradients, times
        # their number, is the moment's own.
        inner = 1 if ctx.groups is None else x.shape[1] // ctx.groups
        constant = None
        if of_mean is not None:
            constant = _within_groups(of_mean, ctx.groups) * (inner * ctx.share)
        if of_variance is None:
            return None if constant is None else constant.expand_as(x), None, None
        slope = _within_groups(of_variance, ctx.groups) * (2 * inner * ctx.share)
        constant = -rest * slope if constant is None else constant - rest * slope
        return (x - mean).mul_(slope).add_(constant), None, None
'''

_SQUARE = '''

def _mean_square(x, dims, groups=None):
    """Mean of the squares, kept at a shape that broadcasts to x."""
    if _eager(x):
        return _MeanSquare.apply(x, dims, groups)
    return _within_groups(torch.mean(torch.square(x), dims, keepdim=True), groups)


class _MeanSquare(torch.autograd.Function):
    """Saves x only."""

    @staticmethod
    def forward(ctx, x, dims, groups):
        moment = _within_groups(torch.mean(torch.square(x), dims, keepdim=True), groups)
        ctx.save_for_backward(x)
        ctx.groups, ctx.share = groups, _share(x, moment, groups)
        return moment

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        inner = 1 if ctx.groups is None else x.shape[1] // ctx.groups
        return x * (_within_groups(grad, ctx.groups) * (2 * inner * ctx.share)), None, None
'''

_MAXIMUM = '''

def _maximum(a, b):
    """torch.maximum, whose own backward is slow on a CPU."""
    return _Maximum.apply(a, b) if _eager(a) else torch.maximum(a, b)


class _Maximum(torch.autograd.Function):
    """The larger input gets the gradient, a tie gives half to each."""

    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return torch.maximum(a, b)

    @staticmethod
    def backward(ctx, grad):
        a, b = ctx.saved_tensors
        with torch.no_grad():
            # Comparisons into floats: thresholds of floats are fast, selections by bools are not.
            first = torch.ge(a, b, out=torch.empty_like(grad))
            second = torch.le(a, b, out=torch.empty_like(grad))
            half = (first + second).mul_(-0.5).add_(1.5)
        grad = grad * half
        of_a = of_b = None
        if ctx.needs_input_grad[0]:
            of_a = torch.ops.aten.threshold_backward(grad, first, 0.5).sum_to_size(a.shape)
        if ctx.needs_input_grad[1]:
            of_b = torch.ops.aten.threshold_backward(grad, second, 0.5).sum_to_size(b.shape)
        return of_a, of_b
'''

_DIVIDE = '''

def _divide(a, b):
    """a / b, with half the passes in backward."""
    return _Divide.apply(a, b) if _eager(a) else a / b


class _Divide(torch.autograd.Function):
    """Saves the quotient instead of the dividend: d(a / b) = (da - (a / b) db) / b."""

    @staticmethod
    def forward(ctx, a, b):
        quotient = a / b
        ctx.save_for_backward(quotient, b)
        return quotient

    @staticmethod
    def backward(ctx, grad):
        quotient, b = ctx.saved_tensors
        of_a = grad / b
        return of_a, torch.mul(of_a, quotient).neg_() if ctx.needs_input_grad[1] else None
'''

_PARTS = {
    "_kept(": (_KEPT,),
    "_within_groups(": (_KEPT, _WITHIN),
    "_var_mean(": (_EAGER, _KEPT, _WITHIN, _VARIANCE),
    "_mean_square(": (_EAGER, _KEPT, _WITHIN, _SQUARE),
    "_maximum(": (_EAGER, _MAXIMUM),
    "_divide(": (_EAGER, _DIVIDE),
}
"""A call in the graph's lines -> the texts that it needs, in the order of the file."""

NAMES = frozenset(
    {"_eager", "_compiled", "_is_exporting", "_kept", "_within_groups", "_share", "_var_mean",
     "_VarMean", "_mean_square", "_MeanSquare", "_maximum", "_Maximum", "_divide", "_Divide"}
)  # fmt: skip
"""Names that these texts define."""


def eager_text(body: str) -> str:
    """The helper functions that the body calls, each once."""
    needed = dict.fromkeys(part for call in _PARTS if call in body for part in _PARTS[call])
    order = (_EAGER, _KEPT, _WITHIN, _VARIANCE, _SQUARE, _MAXIMUM, _DIVIDE)
    return "".join(part for part in order if part in needed)
