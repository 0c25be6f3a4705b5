"""The structural identity of a graph as text; it must not depend on Python's or numpy's hashes.

Two graphs with one digest compute the same function bit for bit; the reverse does not hold (that
is what fingerprints are for). The version is part of what is hashed: a change of rules or encoding
raises it, and the golden digests in the tests change with it.
"""

from __future__ import annotations

from hashlib import sha256

from primitives.graph import Graph
from primitives.ops import typed_name
from primitives.rewrite import canonical_nodes

DIGEST_VERSION = 1


def digest(graph: Graph) -> str:
    """Sha256 of the canonical live graph, as 64 hexadecimal digits.

    Example:
        >>> from primitives.graph import Node
        >>> plain, dead = Node("mul", (0, 0)), Node("exp", (1,))
        >>> digest(Graph((plain,))) == digest(Graph((dead, plain)))
        True
    """
    return sha256(encoding(graph).encode()).hexdigest()


def encoding(graph: Graph) -> str:
    """The versioned text that the digest is taken of, one node after the other.

    Example:
        >>> from primitives.graph import Node
        >>> encoding(Graph((Node("std", (0,), "batch"), Node("div", (0, 4)))))
        'evosearch-graph-1;std_batch 0;div 0 4'
    """
    parts = [
        f"{typed_name(op, over)} {' '.join(map(str, inputs))}"
        for op, inputs, over in canonical_nodes(graph)
    ]
    return f"evosearch-graph-{DIGEST_VERSION};" + ";".join(parts)
