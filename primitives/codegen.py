"""Prints a graph as ordinary PyTorch: the text of a standalone file with one ``nn.Module``.

Aggregates stay at their reduced shape and broadcast; what is needed twice is computed once. This
file must not import torch (the web process prints code too), and nothing that comes in can become
code: names are checked, comment text is escaped, operations come from the op table.
"""

from __future__ import annotations

import ast
import keyword
from collections import Counter
from collections.abc import Iterable, Mapping

from primitives.eager import NAMES
from primitives.errors import LayerError
from primitives.graph import Graph
from primitives.numbering import FINISH, FUSED, Numbering, Step
from primitives.ops import OPS, V_INIT
from primitives.template import Statistic, file_text

CODEGEN_VERSION = 2
INLINE_LIMIT = 60
"""Longest text that stands inside another expression instead of getting a line of its own."""

_DIMS = {
    "batch": "(0, *spatial)", "sample": "(1, *spatial)", "instance": "spatial", "group": "spatial",
    "token": "1",
}  # fmt: skip
_TAKEN = frozenset({"torch", "nn", "ValueError", "super", "tuple", "range", "next", "min", "max",
                    "map", "str", "len", "iter", "getattr", "staticmethod", "_group_count",
                    "_Recompute", "_AllReduce"}) | NAMES  # fmt: skip
"""Names that the generated file uses itself."""

_AVERAGE = {
    "mean": "torch.mean({a}, {dims}, keepdim=True)",
    "mean_square": "_mean_square({a}, {dims})",
    "variance": "_var_mean({a}, {dims})[0]",
    "pair": "_var_mean({a}, {dims})",
}
_GROUP_AVERAGE = {
    "mean": "_within_groups(torch.mean({a}, {dims}, keepdim=True), self.groups)",
    "mean_square": "_mean_square({a}, {dims}, self.groups)",
    "variance": "_var_mean({a}, {dims}, self.groups)[0]",
    "pair": "_var_mean({a}, {dims}, self.groups)",
}
_BATCH_AVERAGE = {
    "mean": "self._batch_mean(torch.mean({a}, {dims}, keepdim=True), {a})",
    "mean_square": "self._batch_mean(_mean_square({a}, {dims}), {a})",
    "variance": "self._batch_var_mean({a}, {dims})[0]",
    "pair": "self._batch_var_mean({a}, {dims})",
}
_FULL_CALLS = {"div": "_divide(a, b)", "max": "_maximum(a, b)"}
"""Primitives whose plain torch expression has a slow backward where its result has x's shape."""


def layer_source(
    graph: Graph, class_name: str = "EvolvedLayer", docstring_lines: Iterable[str] = ()
) -> str:
    """Text of a Python file that needs torch only and defines the layer's class.

    ``docstring_lines`` (formula, digest, version) head the file; the graph's JSON follows them.

    Raises:
        LayerError: the class name is no usable Python name.
    """
    if not class_name.isidentifier() or not class_name.isascii() or keyword.iskeyword(class_name):
        raise LayerError(
            "bad class name",
            expected="a Python identifier of ASCII letters",
            got=repr(class_name)[:60],
        )
    if class_name in _TAKEN:
        raise LayerError("a class name that the file itself needs", got=class_name)
    lines = [*docstring_lines, f"Graph: {graph.to_json_text()}"]
    body = _Body(Numbering(graph))
    return file_text(
        class_name,
        [escaped(line) for line in lines],
        CODEGEN_VERSION,
        body.parameters,
        body.statistics,
        body.uses_groups,
        body.lines,
        body.scaled,
    )


def escaped(line: str) -> str:
    """The line as it may stand inside a triple-quoted string: one line, nothing that ends it."""
    plain = line.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "replace").decode("ascii")
        for char in plain
    )


class _Body:
    """Lines of the method that computes the graph, and what they need of the constructor."""

    def __init__(self, numbering: Numbering) -> None:
        self.steps, self.live = numbering.steps, numbering.live
        leaves = {self.steps[position].op for position in self.live}
        self.parameters = [name for name in V_INIT if name in leaves]
        self.statistics: list[Statistic] = []
        self.uses_groups = any(self.steps[position].over == "group" for position in self.live)
        self.lines: list[str] = []
        self._text: dict[int, ast.expr] = {}
        self._averaged: dict[int, str] = {}
        self._mentions = self._count_mentions(numbering.output)
        for position in self.live:
            self._emit(position, numbering.output)
        self.scaled = self._is_scaled(numbering.output)
        self._return(numbering.output)

    def _is_scaled(self, output: int) -> bool:
        """Whether the layer ends in a division whose divisor can join the affine's weight."""
        step = self.steps[output]
        return (
            step.op == "div" and self._is_positive(step.args[1])
            and self.steps[step.args[0]].axes == "bcs"
        )  # fmt: skip

    def _return(self, output: int) -> None:
        value = self._text[output]
        if self.scaled:
            value, scale = (self._text[arg] for arg in self.steps[output].args)
            self.lines.append(
                f"return {ast.unparse(value)}, torch.reciprocal({ast.unparse(scale)})"
            )
            return
        last = ast.unparse(_as_tensor(value))
        varies = self.steps[output].axes
        self.lines.append(f"return {last}" if varies == "bcs" else f"return ({last}).expand_as(x)")

    def _count_mentions(self, output: int) -> Counter[int]:
        mentions: Counter[int] = Counter([output])
        for position in self.live:
            step = self.steps[position]
            for name, arg in zip("ab", step.args, strict=False):
                mentions[arg] += 1 if step.is_moment else _mentions(_template(step.op), name)
        return mentions

    def _emit(self, position: int, output: int) -> None:
        step = self.steps[position]
        if step.literal is not None:
            self._text[position] = ast.Constant(step.literal)
        elif not step.args:
            self._text[position] = ast.Name(step.op)
        elif step.is_moment:
            self._text[position] = self._aggregation(position, step)
        else:
            value = self._expression(step)
            short = len(ast.unparse(value)) <= INLINE_LIMIT
            if position == output or (self._mentions[position] == 1 and short):
                self._text[position] = value
            else:
                self._assign(position, f"{step.op.removeprefix(FINISH)}_{step.node}", value)

    def _assign(self, position: int, name: str, value: ast.expr) -> None:
        self.lines.append(f"{name} = {ast.unparse(value)}")
        self._text[position] = ast.Name(name)

    def _expression(self, step: Step) -> ast.expr:
        template = self._form(step)
        inputs = {name: self._text[arg] for name, arg in zip("ab", step.args, strict=False)}
        operator = isinstance(template, ast.BinOp | ast.UnaryOp)
        if not operator or all(isinstance(value, ast.Constant) for value in inputs.values()):
            inputs = {name: _as_tensor(value) for name, value in inputs.items()}
        return _filled(template, inputs)

    def _form(self, step: Step) -> ast.expr:
        """The step's expression in ``a`` and ``b``, in its fast form where there is one."""
        if step.op == "div" and self._is_positive(step.args[1]):
            return _parsed("a * torch.reciprocal(b)")
        varies = [self.steps[arg].axes for arg in step.args]
        if step.op == "max" and step.axes == "bcs":
            return _parsed(_FULL_CALLS["max"])
        if step.op == "div" and varies == ["bcs", "bcs"]:
            return _parsed(_FULL_CALLS["div"])
        return _template(step.op)

    def _is_positive(self, position: int) -> bool:
        """Whether a divisor is reduced and at least sqrt(eps), so that its reciprocal is safe."""
        step = self.steps[position]
        row = OPS.get(step.op.removeprefix(FINISH))
        return (
            row is not None and row.is_aggregation and "positive" in row.properties
            and step.axes != "bcs"
        )  # fmt: skip

    def _aggregation(self, position: int, step: Step) -> ast.expr:
        if position not in self._averaged:
            self._average(position, step)
        moment = OPS[step.op].moment
        assert moment is not None
        average = ast.Name(self._averaged[position])
        if moment.finish == "m":
            return average
        value = _filled(_parsed(moment.finish), {"m": average})
        if self._mentions[position] == 1:
            return value
        self._assign(position, f"{step.op}_{step.over}_{step.node}", value)
        return self._text[position]

    def _average(self, position: int, step: Step) -> None:
        """Lines that compute one moment, or mean and variance of the same operand together."""
        same = [
            other
            for other in self.live
            if self.steps[other].args == step.args and self.steps[other].over == step.over
        ]
        kinds = {_kind(self.steps[other]): other for other in same}
        both = _kind(step) in ("mean", "variance") and {"mean", "variance"} <= kinds.keys()
        members = [kinds["variance"], kinds["mean"]] if both else [position]
        operand = ast.unparse(self._text[step.args[0]])
        templates = {"group": _GROUP_AVERAGE, "batch": _BATCH_AVERAGE}.get(
            step.over or "", _AVERAGE
        )
        template = templates["pair" if both else _kind(step)]
        call = template.format(a=operand, dims=_DIMS[step.over or ""])
        names = []
        for member in members:
            names.append(f"{_kind(self.steps[member])}_{self.steps[member].node}")
            self._averaged[member] = names[-1]
        compute = f"{', '.join(names)} = {call}"
        if step.over == "batch":
            self._tracked(members, names, compute)
        else:
            self.lines.append(compute)

    def _tracked(self, members: list[int], names: list[str], compute: str) -> None:
        """A batch statistic: of this batch in training mode, its moving average in evaluation."""
        training, evaluation = [compute], []
        for member, name in zip(members, names, strict=True):
            step = self.steps[member]
            moment = OPS[step.op].moment
            assert moment is not None
            buffer = f"running_{name}"
            self.statistics.append(Statistic(buffer, moment.init, "c" in step.axes))
            training.append(f"self._track(self.{buffer}, {name}, track)")
            evaluation.append(f"{name} = self.{buffer}.view(channels)")
        self.lines += ["if training:", *("    " + line for line in training)]
        self.lines += ["else:", *("    " + line for line in evaluation)]


def _kind(step: Step) -> str:
    moment = OPS[step.op].moment if step.op in OPS else None
    return moment.name if moment is not None else ""


def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _template(op: str) -> ast.expr:
    """The torch expression of a step in ``a`` and ``b``."""
    if op.startswith(FINISH):
        moment = OPS[op.removeprefix(FINISH)].moment
        assert moment is not None
        return _filled(_parsed(moment.finish), {"m": ast.Name("a")})
    return _parsed(FUSED[op] if op in FUSED else OPS[op].torch)


def _mentions(template: ast.expr, name: str) -> int:
    return sum(isinstance(node, ast.Name) and node.id == name for node in ast.walk(template))


def _as_tensor(value: ast.expr) -> ast.expr:
    if not isinstance(value, ast.Constant):
        return value
    return _parsed(f"x.new_full((), {value.value!r})")


class _Fill(ast.NodeTransformer):
    def __init__(self, inputs: Mapping[str, ast.expr]) -> None:
        self.inputs = inputs

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id == "eps":
            return _parsed("self.eps")
        return self.inputs.get(node.id, node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Add) and isinstance(right, ast.UnaryOp):
            return ast.BinOp(left, ast.Sub(), right.operand)  # a + -b, the same in floats
        if isinstance(node.op, ast.Add) and isinstance(left, ast.UnaryOp):
            return ast.BinOp(right, ast.Sub(), left.operand)
        return ast.BinOp(left, node.op, right)


def _filled(template: ast.expr, inputs: Mapping[str, ast.expr]) -> ast.expr:
    """The expression with its inputs put in; the syntax tree takes care of brackets."""
    filled = _Fill(inputs).visit(template)
    assert isinstance(filled, ast.expr)
    return filled
