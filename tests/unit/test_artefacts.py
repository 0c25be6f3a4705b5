"""What people take home: each artefact says the layer, and a wrong one never leaves the house."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import json
import re
import zipfile
from collections.abc import Iterator
from itertools import islice
from types import CodeType
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from known_graphs import ZERO, Build, X, viable_graphs

from primitives import artefacts, codegen, verify
from primitives.artefacts import FILES, artefact
from primitives.catalog import CATALOG
from primitives.errors import EvosearchError, LayerError
from primitives.factory import norm_act_function
from primitives.formula import parse
from primitives.graph import Graph, Node
from primitives.module import build_layer, layer_class
from primitives.picture import to_svg
from primitives.rewrite import live_form

ONNX = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
B0 = CATALOG["evonorm-b0"].graph


@pytest.mark.parametrize("name", CATALOG)
def test_text_forms_say_the_layer(name: str) -> None:
    graph = CATALOG[name].graph
    text = {form: artefact(graph, form).decode() for form in ("json", "formula", "mathml", "svg")}  # type: ignore[arg-type]
    assert Graph.from_json_text(text["json"]) == graph
    assert parse(text["formula"]) == graph
    root = ElementTree.fromstring(text["mathml"])
    assert root.tag == "{http://www.w3.org/1998/Math/MathML}math"
    drawn = ElementTree.fromstring(text["svg"])
    boxes = list(drawn.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(boxes) == len(graph.live())
    corners = {(box.get("x"), box.get("y")) for box in boxes}
    assert len(corners) == len(boxes)  # no box covers another


@pytest.mark.parametrize("name", sorted(CATALOG))
def test_no_edge_of_a_picture_goes_up_behind_a_box(name: str) -> None:
    """Straight edges between neighbours aside: an edge has its own way past what stands between."""
    drawn = ElementTree.fromstring(to_svg(CATALOG[name].graph))
    svg = "{http://www.w3.org/2000/svg}"
    left, _, width, height = map(float, str(drawn.get("viewBox")).split())
    boxes = [tuple(float(str(box.get(key))) for key in ("x", "y", "width", "height"))
             for box in drawn.iter(f"{svg}rect")]  # fmt: skip
    for edge in drawn.iter(f"{svg}path"):
        places = [float(one) for one in re.findall(r"-?[\d.]+", str(edge.get("d")))]
        assert left <= min(places[::2]) <= max(places[::2]) <= left + width
        assert 0 <= min(places[1::2]) <= max(places[1::2]) <= height
        straight = "C" not in str(edge.get("d"))
        (x1, y1), (x2, y2) = (places[:2], places[2:4]) if straight else (places[6:8], places[8:10])
        for x, y, wide, high in boxes:
            for part in range(1, 20):
                at = x1 + (x2 - x1) * part / 20, y1 + (y2 - y1) * part / 20
                assert not (x < at[0] < x + wide and y < at[1] < y + high), (name, edge.get("d"))


def test_pictures_escape_their_title_and_stand_huge_graphs() -> None:
    hostile = '</title><script>alert(1)</script>"&\x00'
    drawn = to_svg(B0, hostile)
    assert "<script" not in drawn
    ElementTree.fromstring(drawn)
    tower = Graph(tuple(Node("mul", (3 + i if i else 0, 3 + i if i else 0)) for i in range(256)))
    ElementTree.fromstring(to_svg(tower))


def trained(graph: Graph, channels: int = 8) -> torch.nn.Module:
    """A layer with parameters and moving averages that are not the initial ones."""
    layer = build_layer(graph, channels)
    rng = torch.Generator().manual_seed(6)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
        for _ in range(3):
            layer(2 * torch.randn(4, channels, 5, 5, generator=rng) + 0.5)
    return layer


SHAPES = ((7, 8, 5, 9), (1, 8, 6, 10), (3, 8, 2, 2))
"""Any batch, any positions."""


def inputs() -> list[torch.Tensor]:
    rng = torch.manual_seed(1)
    return [torch.randn(shape, generator=rng) for shape in SHAPES]


@pytest.mark.parametrize("name", CATALOG)
def test_torch_export_carries_running_statistics_and_any_batch(name: str) -> None:
    layer = trained(CATALOG[name].graph)
    data = artefact(CATALOG[name].graph, "torch-export", layer=layer)
    program = torch.export.load(io.BytesIO(data)).module()
    for x in inputs():
        torch.testing.assert_close(program(x), layer.eval()(x), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def translations() -> Iterator[None]:
    """Onnxscript's translations of torch's operations are read once, not for each of the layers."""
    from torch.onnx._internal.exporter._registration import onnxscript_apis as apis

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apis, "get_torchlib_ops", functools.cache(apis.get_torchlib_ops))
        yield


def covering() -> list[str]:
    """Few layers that hold every primitive of the catalog."""
    holds = {
        name: {(node.op, node.over) for node in live_form(entry.graph).nodes}
        for name, entry in CATALOG.items()
    }
    left, chosen = set().union(*holds.values()), []
    while left:
        chosen.append(max(CATALOG, key=lambda name: len(holds[name] & left)))
        left -= holds[chosen[-1]]
    return chosen


COVER = covering()


@pytest.mark.skipif(not ONNX, reason="onnx, onnxscript and onnxruntime are not installed")
@pytest.mark.usefixtures("translations")
@pytest.mark.parametrize(
    "name",
    [
        *COVER,
        *(pytest.param(name, marks=pytest.mark.soak) for name in CATALOG if name not in COVER),
    ],
)
def test_onnx_carries_running_statistics_and_any_batch(name: str) -> None:
    import onnxruntime

    layer = trained(CATALOG[name].graph)
    data = artefact(CATALOG[name].graph, "onnx", layer=layer)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for x in inputs():
        (got,) = session.run(None, {"x": x.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), layer.eval()(x), rtol=1e-4, atol=1e-4)


def test_the_bundle_has_everything_with_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: Any) -> bytes:
        raise EvosearchError("onnx export needs packages that are not installed")

    monkeypatch.setattr(artefacts, "_onnx", missing)
    data = artefact(B0, "bundle", about={"lineage": [3, 1], "seeds": [0]}, notes=["Search: 12"])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files.keys() == {*FILES.values(), "about.json", "SHA256SUMS"} - {"layer.onnx"}
    about = json.loads(files["about.json"])
    assert about["lineage"] == [3, 1]
    assert about["left_out"].keys() == {"layer.onnx"}
    assert about["versions"]["torch"].startswith(torch.__version__.partition("+")[0])
    for line in files["SHA256SUMS"].decode().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256(files[name]).hexdigest() == digest
    assert b"Search: 12" in files["layer.py"]


def test_a_wrong_program_is_an_error_and_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    real = codegen.layer_source

    def spoiled(*arguments: Any) -> str:
        return real(*arguments).replace("torch.sqrt(", "torch.square(")

    monkeypatch.setattr(codegen, "layer_source", spoiled)
    with pytest.raises(LayerError, match="differs from what the graph means"):
        artefact(B0, "python")
    layer = trained(B0)
    with pytest.raises(LayerError, match="torch-export, input"):
        verify.verify_program(lambda x: layer(x) + 1e-2, layer.eval(), B0, "torch-export")
    verify.verify_program(layer.eval(), layer, B0, "torch-export")


def test_notes_can_not_become_code() -> None:
    note = '"""\nimport os; os.system("echo")\n\\'
    source = artefact(B0, "python", notes=[note]).decode()
    assert compile(source, "a", "exec").co_names == compile(
        artefact(B0, "python").decode(), "a", "exec"
    ).co_names  # fmt: skip


HOSTILE = {
    "ends the docstring": '"""\nraise SystemExit(1)\n"""',
    "other line ends": "a\rraise SystemExit(1)\u2028raise SystemExit(1)\x0craise SystemExit(1)",
    "not UTF-8": b"\xff\xfe\x00 raise".decode("utf-8", "surrogateescape"),
    "lone surrogate": "\ud800\udfff",
    "escapes": "\\N{DIGIT ONE} \\x41 \\u0041 {0!r} %s %(name)s",
    "markup": "</svg><script>alert(1)</script>]]>&lt;",
    "dot": '"]; node [URL="javascript:alert(1)"',
    "huge": "(" * 100_000,
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_notes_change_nothing_but_a_docstring(what: str) -> None:
    plain = compile(artefact(B0, "python").decode(), "a", "exec")
    spiked = compile(artefact(B0, "python", notes=[HOSTILE[what]]), "a", "exec")
    assert code_of(spiked) == code_of(plain)
    # Strict UTF-8, whatever came in.
    artefact(B0, "python", notes=[HOSTILE[what]]).decode("utf-8")


def code_of(module: CodeType) -> list[bytes | tuple[str, ...]]:
    """Instructions and names of a module and of all that it defines; no constants, no lines."""
    found: list[bytes | tuple[str, ...]] = [module.co_code, module.co_names]
    for constant in module.co_consts:
        if isinstance(constant, CodeType):
            found += code_of(constant)
    return found


@pytest.mark.parametrize(
    "op",
    [
        "__import__('os').system('true')",
        "std_batch",
        "torch.relu",
        "v0",
        "add\n",
        "",
        "é",
        "\ud800",
    ],
)
def test_no_foreign_operation_reaches_a_file(op: str) -> None:
    for data in (
        {"version": 1, "nodes": [{"op": op, "inputs": [0]}]},
        {"version": 1, "nodes": [{"op": "std", "inputs": [0], "over": op}]},
        {"version": 1, "nodes": [{"op": "tanh", "inputs": [op]}]},
    ):
        with pytest.raises(EvosearchError):
            Graph.from_json(data)
    said = [] if op in ("", "std_batch") else [f"{op}(x)", f"{op} = x; {op}; {op}"]
    for text in (*said, f"x + {op!r}"):
        with pytest.raises(EvosearchError):
            parse(text)


def test_the_largest_and_deepest_graphs_are_files_or_refusals() -> None:
    deep = Graph(tuple(Node("tanh", (3 + i if i else 0,)) for i in range(256)))
    wide = Graph(
        tuple(
            Node("add", (0, 3 + i if i else 2)) if i % 2 else Node("mul", (3, 3 + i if i else 0))
            for i in range(256)
        )
    )
    for graph in (deep, wide):
        source = artefact(graph, "python").decode()
        assert source.count("class EvolvedLayer") == 1
        assert parse(artefact(graph, "formula").decode()) == graph
        for form in ("latex", "mathml"):
            with pytest.raises(EvosearchError, match="too large"):
                artefact(graph, form)  # type: ignore[arg-type]
    with pytest.raises(EvosearchError, match="nested too deeply"):
        parse("tanh(" * 300 + "x" + ")" * 300)
    with pytest.raises(EvosearchError, match="not JSON"):
        Graph.from_json_text("[" * 100_000)


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(EvosearchError, match="unknown format"):
        artefact(B0, "pickle")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options", [{"eps": 1e-1}, {"affine": False}, {"apply_act": False}, {"groups": 4}], ids=str
)
def test_programs_are_checked_with_the_layers_own_settings(options: dict[str, Any]) -> None:
    graph = CATALOG["gn-silu"].graph
    layer = layer_class(graph)(8, **options)  # type: ignore[call-arg]
    data = artefact(graph, "torch-export", layer=layer)
    program = torch.export.load(io.BytesIO(data)).module()
    x = torch.randn(2, 8, 5, 9, generator=torch.manual_seed(1))
    torch.testing.assert_close(program(x), layer.eval()(x), rtol=1e-4, atol=1e-4)
    layer.eps = 10.0  # another layer than the program
    if "apply_act" not in options:
        with pytest.raises(LayerError, match="differs from what the graph means"):
            verify.verify_program(program, layer, graph, "torch-export")


@pytest.mark.parametrize(("layout", "shape"), [("nhwc", (7, 5, 9, 8)), ("btc", (7, 45, 8))])
def test_saved_programs_and_bundles_are_for_every_layout(
    layout: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: Any) -> bytes:
        raise EvosearchError("onnx export needs packages that are not installed")

    monkeypatch.setattr(artefacts, "_onnx", missing)
    layer = layer_class(B0)(8, layout=layout)  # type: ignore[call-arg]
    data = artefact(B0, "bundle", layer=layer)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert json.loads(archive.read("about.json"))["left_out"].keys() == {"layer.onnx"}
        program = torch.export.load(io.BytesIO(archive.read("layer.pt2"))).module()
    x = torch.randn(shape, generator=torch.manual_seed(1))
    torch.testing.assert_close(program(x), layer.eval()(x), rtol=1e-4, atol=1e-4)


SPOILED = {
    "gradient of x": ("return of_a, torch.mul", "return 2 * of_a, torch.mul", "evonorm-b0"),
    "gradient of the mean square": ("(2 * inner * ctx.share)", "(3 * ctx.share)", "evonorm-s2"),
    "recompute": ("_compute(saved[0], ctx.training", "_compute(-saved[0], ctx.training", "gn-silu"),
    "layout": ("x.movedim(-1, 1)", "x.transpose(-1, 1)", "evonorm-s0"),
    "evaluation": ("running.lerp_(batch", "running.lerp_(2 * batch", "bn-relu"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_file_with_one_wrong_part_never_leaves(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right, wrong, name = SPOILED[what]
    real = codegen.layer_source

    def spoiled(*arguments: Any) -> str:
        source = real(*arguments)
        assert right in source
        return source.replace(right, wrong)

    monkeypatch.setattr(codegen, "layer_source", spoiled)
    with pytest.raises(LayerError, match="differs from what the graph means"):
        artefact(CATALOG[name].graph, "python")


def test_text_that_says_another_layer_never_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("primitives.printer.format_formula", lambda graph: "x * x")
    with pytest.raises(LayerError, match="formula says another layer"):
        artefact(B0, "formula")


def test_every_right_file_passes_its_checks() -> None:
    """No false alarm: the catalog, and random layers with kinks, poles and dead ends."""
    random = islice(viable_graphs(seed=31, op_set="extended+token"), 60)
    for graph in (*(entry.graph for entry in CATALOG.values()), *random):
        verify.verify_source(codegen.layer_source(graph), graph)


def test_values_are_compared_element_by_element() -> None:
    inf, nan = torch.inf, torch.nan
    meant = torch.tensor([1.0, 2.0, -3.0, 1e30, inf, -inf, nan])
    verify.compare("here", meant.clone(), meant, 1e-4)
    wrong = ((0, 1.01), (3, 1.01e30), (3, inf), (4, 3e38), (4, -inf), (5, nan), (6, 0.0), (6, inf))
    for place, value in wrong:
        got = meant.clone()
        got[place] = value
        with pytest.raises(LayerError, match="in the first of 1 of 7 elements"):
            verify.compare("here", got, meant, 1e-4)
    with pytest.raises(LayerError, match=r"shape \(1, 7\), not \(7,\)"):
        verify.compare("here", meant[None], meant, 1e-4)


def test_only_an_element_that_rounding_moves_may_differ_more() -> None:
    meant = torch.tensor([1.0, 2.0, -3.0, torch.inf])
    near = torch.tensor([1.01, 2.0, -3.0, 3e38])
    verify.compare("here", torch.tensor([1.05, 2.0, -3.0, 1e38]), meant, 1e-4, [near])
    for got in ([1.2, 2.0, -3.0, torch.inf], [1.0, 2.01, -3.0, torch.inf]):
        with pytest.raises(LayerError, match="differs from what the graph means"):
            verify.compare("here", torch.tensor(got), meant, 1e-4, [near])


@pytest.mark.parametrize("text", ["exp(square(square(x)))", "exp(square(x) * 2)"])
def test_a_huge_value_hides_no_wrong_one_elsewhere(text: str) -> None:
    graph = parse(text)
    layer = build_layer(graph, 8).eval()
    x = torch.randn(5, 8, 8, 9, generator=torch.manual_seed(2))
    assert bool((layer(x).abs() > 1e6).any())
    verify.verify_program(layer, layer, graph, "program")

    def wrong(x: torch.Tensor) -> torch.Tensor:
        value: torch.Tensor = layer(x)
        return torch.where(value < 2, value + 1e-2, value)

    with pytest.raises(LayerError, match="differs from what the graph means"):
        verify.verify_program(wrong, layer, graph, "program")


def of_one_moment(twice: str) -> Graph:
    """Two batch moments whose operands are two nodes of one value."""
    b = Build()
    operands = (b("tanh", X), b("tanh", X)) if twice == "tanh" else (X, b("add", X, ZERO))
    one, other = (b("div", X, b("std", operand, over="batch")) for operand in operands)
    b("add", one, b("tanh", other))
    return b.graph()


@pytest.mark.parametrize("twice", ["tanh", "zero"])
def test_moments_of_one_value_share_a_buffer_in_the_check_too(twice: str) -> None:
    graph = of_one_moment(twice)
    layer = trained(graph).eval()
    assert len([name for name, _ in layer.named_buffers()]) == 2  # with the count of batches
    verify.verify_program(layer, layer, graph, "program")
    with pytest.raises(LayerError, match="differs from what the graph means"):
        verify.verify_program(build_layer(graph, 8).eval(), layer, graph, "program")


@pytest.mark.parametrize("channels", [8, 10])
def test_a_layer_that_finds_its_channels_is_saved_for_channels_first(channels: int) -> None:
    layer = norm_act_function("evonorm-b0")(channels)
    before = torch.random.get_rng_state()
    data = artefact(B0, "torch-export", layer=layer)
    assert torch.equal(torch.random.get_rng_state(), before)
    program = torch.export.load(io.BytesIO(data)).module()
    x = torch.randn(2, channels, 5, 11, generator=torch.manual_seed(1))
    torch.testing.assert_close(program(x), layer.eval()(x), rtol=1e-4, atol=1e-4)


def test_no_number_of_channels_is_a_size_of_the_check() -> None:
    for channels in range(1, 130):
        sizes = verify.free_sizes(channels)
        assert len(sizes) >= 2
        assert all(channels not in (*size, size[0] * size[1]) for size in sizes)
