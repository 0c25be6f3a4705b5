"""Layers that nobody means well with: a generator of distinct bodies, each of which is wrong.

Bodies are text, for much of what is wrong with them no JSON library writes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

OPS = ("add", "mul", "div", "max", "tanh", "sigmoid", "neg", "std", "mean", "rms")
SOUND = (
    "x / rms_batch(x)", "tanh(x) * sigmoid(v1 * x)", "x / max(std_batch(x), v1 * x)",
    "max(x, v0) - mean_group(abs(x))", "relu(x) / std_sample(x)", "exp(x) / rms_instance(x + v0)",
)  # fmt: skip
TRICKS = (
    "\u200b", "\u200d", "\u202e", "\u2066", "\ufeff", "\u0301", "\u037e", "\uff0b", "\u2215",
    "\u2217", "\u1d465", "\ud835\udc65".encode("utf-16", "surrogatepass").decode("utf-16"),
    "\uff58", "\u0445", "\u0000", "\u001b", "\u007f", "\u2028", "\U000e0041", "\U0001f600",
    "½", "²",
)  # fmt: skip
CODE = ("__import__('os')", "eval(x)", "lambda: x", "x if x else x", "{x}", "$(x)", "x[0]", "x.a",
        "import os", "';--", "<b>x</b>", "%s" , "x ** 2", "x := 1", "`x`", "../x")  # fmt: skip


def hostile(count: int, seed: int = 4) -> Iterator[tuple[str, bytes]]:
    """So many distinct bodies with what is wrong with them, of every kind in turn."""
    rng, seen = Random(seed), set()
    while len(seen) < count:
        kind = KINDS[len(seen) % len(KINDS)]
        body = kind(rng)
        if body not in seen:
            seen.add(body)
            yield kind.__name__.strip("_"), body


def _graph(rng: Random) -> dict[str, Any]:
    """A sound graph of a few nodes."""
    nodes: list[dict[str, Any]] = []
    for number in range(rng.randint(1, 9)):
        op = rng.choice(OPS)
        arity = 2 if op in OPS[:4] else 1
        node: dict[str, Any] = {"op": op}
        node["inputs"] = [rng.randrange(4 + number) for _ in range(arity)]
        if op in OPS[7:]:
            node["over"] = rng.choice(("batch", "sample", "instance", "group"))
        nodes.append(node)
    return {"version": 1, "nodes": nodes}


def _body(graph: Any) -> bytes:
    return json.dumps({"graph": graph}).encode()


def _formula(text: str) -> bytes:
    return json.dumps({"formula": text}).encode("utf-8", "surrogatepass")


def _depth_bomb(rng: Random) -> bytes:
    """Nesting far beyond what is allowed, closed or not, around a sound value or none."""
    depth = rng.randint(34, 3000)
    opened, closed = rng.choice((("[", "]"), ('{"graph":', "}"), ('{"nodes":[', "]}")))
    end = rng.choice(("", "1", "null", '"x"', "{}"))
    return (opened * depth + end + closed * (depth if rng.random() < 0.5 else 0)).encode()


def _deep_formula(rng: Random) -> bytes:
    depth = rng.randint(300, 1200)
    opened, closed = rng.choice((("(", ")"), ("-", ""), ("tanh(", ")"), ("max(x, ", ")")))
    depth = min(depth, 3900 // (len(opened) + len(closed)))
    return _formula(opened * depth + rng.choice(("x", "v0", "")) + closed * (depth - 1))


def _not_a_number(rng: Random) -> bytes:
    text = json.dumps({"graph": _graph(rng)})
    literal = rng.choice(("NaN", "Infinity", "-Infinity", "1e999", "-1e400", "nan", "0x10", "1_0"))
    places = [place for place, one in enumerate(text) if one.isdigit()]
    place = rng.choice(places)
    end = place + 1
    while text[end].isdigit():
        end += 1
    return (text[:place] + literal + text[end:]).encode()


def _huge_integer(rng: Random) -> bytes:
    graph = _graph(rng)
    number = rng.choice((-1, 1)) * rng.randrange(10**18, 10 ** rng.randint(19, 600))
    node = rng.choice(graph["nodes"])
    node["inputs"][rng.randrange(len(node["inputs"]))] = number
    return _body(graph)


def _huge_number_in_a_formula(rng: Random) -> bytes:
    return _formula(f"{rng.choice(SOUND)} * {rng.randrange(2, 10 ** rng.randint(2, 900))}")


def _unicode(rng: Random) -> bytes:
    text = rng.choice(SOUND)
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(len(text) + 1)
        text = text[:place] + rng.choice(TRICKS) + text[place:]
    return _formula(text)


def _half_a_pair(rng: Random) -> bytes:
    text = rng.choice(SOUND)
    place, half = rng.randrange(len(text)), rng.randint(0xD800, 0xDFFF)
    return f'{{"formula": "{text[:place]}\\u{half:04x}{text[place:]}"}}'.encode()


def _no_utf8(rng: Random) -> bytes:
    body = _formula(rng.choice(SOUND))
    place = rng.randrange(13, len(body))
    return body[:place] + bytes([rng.choice((0x80, 0xC0, 0xF8, 0xFF))]) + body[place:]


def _cycle(rng: Random) -> bytes:
    """A node that reads itself or one behind it."""
    graph = _graph(rng)
    number = rng.randrange(len(graph["nodes"]))
    inputs = graph["nodes"][number]["inputs"]
    inputs[rng.randrange(len(inputs))] = rng.randint(4 + number, 5 + number + len(graph["nodes"]))
    return _body(graph)


def _duplicate_key(rng: Random) -> bytes:
    text = json.dumps({"graph": _graph(rng)})
    keys = [one for one in ('"graph": ', '"version": ', '"nodes": ', '"op": ', '"inputs": ')
            if one in text]  # fmt: skip
    key = rng.choice(keys)
    places = [place for place in range(len(text)) if text.startswith(key, place)]
    place = rng.choice(places)
    return (text[:place] + key + rng.choice(("1", "null", "[]", '"a"')) + ", " + text[place:]
            ).encode()  # fmt: skip


def _broken_node(rng: Random) -> bytes:
    graph = _graph(rng)
    node = rng.choice(graph["nodes"])
    match rng.randrange(7):
        case 0:
            node["op"] = rng.choice(("pow", "Add", "", "os.system", 1, None, ["add"], {"a": 1}))
        case 1:
            node["inputs"] = node["inputs"] + [0] * rng.randint(1, 50)
        case 2:
            node["inputs"][0] = rng.choice((-rng.randint(1, 99), 0.5, True, None, "0", [0], {}))
        case 3:
            node["over"] = rng.choice(("colour", "Batch", "", 1, ["batch"]))
        case 4:
            node[rng.choice(("extra", "shape", "__class__", "init"))] = rng.randrange(99)
        case 5:
            del node[rng.choice(("op", "inputs"))]
        case _:
            graph["nodes"][rng.randrange(len(graph["nodes"]))] = rng.choice(
                (None, 1, "add", [], {})
            )
    return _body(graph)


def _broken_graph(rng: Random) -> bytes:
    graph = _graph(rng)
    match rng.randrange(5):
        case 0:
            graph["version"] = rng.choice(
                (0, 2, -1, 1.5, "1", None, True, [1], rng.randint(3, 999))
            )
        case 1:
            graph["nodes"] = graph["nodes"] * rng.randint(257, 400)
        case 2:
            graph[rng.choice(("weights", "name", "x"))] = rng.randrange(999)
        case 3:
            graph = {"nodes": graph["nodes"]}
        case _:
            graph["nodes"] = rng.choice(({}, None, "add", 1, []))
            graph["version"] = rng.choice((1, 2, 3))
    return _body(graph)


def _cut_formula(rng: Random) -> bytes:
    text = rng.choice(SOUND)
    return _formula(
        text[: rng.randrange(1, len(text))] + rng.choice((" (", " *", ",", " )) ", " /"))
    )


def _code(rng: Random) -> bytes:
    text = rng.choice(SOUND)
    place = rng.choice([place for place, one in enumerate(text) if one == " "])
    return _formula(f"{text[:place]} {rng.choice(CODE)} {text[place:]}")


def _cut_body(rng: Random) -> bytes:
    body = _body(_graph(rng))
    return body[: rng.randrange(1, len(body))]


KINDS: tuple[Callable[[Random], bytes], ...] = (
    _depth_bomb, _deep_formula, _not_a_number, _huge_integer, _huge_number_in_a_formula, _unicode,
    _half_a_pair, _no_utf8, _cycle, _duplicate_key, _broken_node, _broken_graph, _cut_formula,
    _code, _cut_body,
)  # fmt: skip
