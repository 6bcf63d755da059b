"""Compares find_path with reference algorithms in this file, over composition and over neighbours."""

from __future__ import annotations

import collections
import heapq

import numpy as np
import pytest
from atoms import Connection, Key
from clouds import Cloud, make, put
from databases import fresh_copy
from transfer import refusal

ENDLESS = 1_000_000
Edges = tuple[np.ndarray, np.ndarray]
"""Directed edges: the numbers of the atoms they lead from, and to."""


def find(db: Connection, a: Key, b: Key, hops: int = ENDLESS, strategy: str = "astar", edges: str = "{composition}", k: int = 8) -> list[tuple]:
    call = "SELECT * FROM modelstore.find_path((%s, %s, %s), (%s, %s, %s), %s::integer, %s, %s, %s)"
    rows = db.execute(call, (*a, *b, hops, strategy, edges, k)).fetchall()
    assert [row[0] for row in rows] == list(range(len(rows)))
    return [(Key(*row[1:4]), row[4]) for row in rows]


class Graph:
    """A graph of a cloud's atoms, searched by the textbook."""

    def __init__(self, cloud: Cloud, edges: Edges) -> None:
        self.cloud, (self.a, self.b) = cloud, edges
        self.lengths = np.sqrt(((cloud.points[self.a] - cloud.points[self.b]) ** 2).sum(axis=1).astype(np.float64))
        self.out: dict[int, list[tuple[int, float]]] = collections.defaultdict(list)
        for a, b, length in zip(self.a.tolist(), self.b.tolist(), self.lengths.tolist(), strict=True):
            self.out[a].append((b, length))

    def dijkstra(self, start: int) -> np.ndarray:
        """Least cost to each atom, infinite where no path leads."""
        cost = np.full(len(self.cloud.keys), np.inf)
        cost[start] = 0
        queue = [(0.0, start)]
        while queue:
            so_far, node = heapq.heappop(queue)
            if so_far > cost[node]:
                continue
            for other, length in self.out[node]:
                if so_far + length < cost[other]:
                    cost[other] = so_far + length
                    heapq.heappush(queue, (cost[other], other))
        return cost

    def bellman_ford(self, start: int, hops: int) -> np.ndarray:
        """Least cost to each atom in at most 0, 1, … hops: one row each."""
        costs = [np.full(len(self.cloud.keys), np.inf)]
        costs[0][start] = 0
        for _ in range(hops):
            costs.append(costs[-1].copy())
            np.minimum.at(costs[-1], self.b, costs[-2][self.a] + self.lengths)
        return np.array(costs)

    def check(self, path: list[tuple[Key, float]], start: int, goal: int, cost: float) -> None:
        """That it leads from start to goal along edges, at this cost."""
        assert path, (start, goal, cost)
        nodes = [self.cloud.number[key] for key, _ in path]
        assert (nodes[0], nodes[-1], path[0][1]) == (start, goal, 0.0)
        so_far = 0.0
        for a, b, (_, said) in zip(nodes, nodes[1:], path[1:]):
            so_far += dict(self.out[a])[b]
            assert said == pytest.approx(so_far, rel=1e-12)
        assert path[-1][1] == pytest.approx(cost, rel=1e-9)


def compose(db: Connection, cloud: Cloud, parents: np.ndarray, parts: np.ndarray) -> Edges:
    """Rows of atom_parts; the edges they are, both ways."""
    index: collections.Counter[int] = collections.Counter()
    rows = []
    for parent, part in zip(parents.tolist(), parts.tolist(), strict=True):
        rows.append((*cloud.keys[parent], index[parent], *cloud.keys[part]))
        index[parent] += 1
    columns = [list(column) for column in zip(*rows)]
    arrays = ", ".join(["%s::bigint[]"] * 3 + ["%s::integer[]"] + ["%s::bigint[]"] * 3)
    db.execute(f"INSERT INTO store.atom_parts SELECT * FROM unnest({arrays})", columns)
    return np.concatenate([parents, parts]), np.concatenate([parts, parents])


@pytest.fixture(scope="module", params=["tree of documents", "random"])
def composed(request, server, template):
    """10 000 atoms made of each other, and some that are not."""
    name = f"atoms_path_{request.param.split()[0]}"
    fresh_copy(server, template, name)
    rng = np.random.default_rng(8)
    with server.connect(dbname=name, autocommit=True) as db:
        put(db, make("clustered", 10_050, rng), rng.choice(["text", "code"], 10_050).tolist())
        cloud = Cloud(db)
        numbers = rng.permutation(len(cloud.keys))
        assert len(numbers) > 10_000
        if request.param == "random":
            parents, parts = rng.choice(numbers[:10_000], (2, 18_000))
        else:
            # Four words a sentence, ten sentences a text, from the same few words again and again; 20 texts apart.
            words, sentences, texts = numbers[:600], numbers[600:9_000], numbers[9_000:10_000]
            parents = np.concatenate([np.repeat(sentences, 4), np.repeat(texts, 10)])
            parts = np.concatenate([rng.choice(words, 4 * len(sentences)), rng.choice(sentences, 10 * len(texts))])
        # Beside these, two that know only each other.
        parents, parts = np.append(parents, numbers[10_000]), np.append(parts, numbers[10_001])
        graph = Graph(cloud, compose(db, cloud, parents, parts))
        db.execute("ANALYZE store.atoms, store.atom_parts")
        yield db, cloud, graph, numbers
    with server.connect(dbname="postgres", autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_the_cheapest_over_compositions(composed) -> None:
    db, cloud, graph, numbers = composed
    rng = np.random.default_rng(0)
    for start in rng.choice(numbers[:10_000], 4, replace=False):
        costs = graph.dijkstra(start)
        reached = np.flatnonzero(np.isfinite(costs))
        for goal in rng.choice(reached, 6) if len(reached) > 1 else []:
            for strategy in ("astar", "dijkstra"):
                graph.check(find(db, cloud.keys[start], cloud.keys[goal], strategy=strategy), start, goal, costs[goal])


def test_no_more_hops_than_allowed(composed) -> None:
    db, cloud, graph, numbers = composed
    rng = np.random.default_rng(1)
    dearer = 0
    for start in rng.choice(graph.a, 3):
        costs = graph.bellman_ford(start, 12)
        fewest = np.isfinite(costs).argmax(axis=0)
        far = np.flatnonzero((fewest >= 3) & np.isfinite(costs[-1]))
        for goal in rng.choice(far, 3) if len(far) else []:
            assert find(db, cloud.keys[start], cloud.keys[goal], fewest[goal] - 1) == []
            for hops in range(fewest[goal], min(fewest[goal] + 5, 13)):
                dearer += costs[hops][goal] > costs[-1][goal]
                for strategy in ("astar", "dijkstra"):
                    path = find(db, cloud.keys[start], cloud.keys[goal], hops, strategy)
                    assert len(path) <= hops + 1
                    graph.check(path, start, goal, costs[hops][goal])
            by_hops = find(db, cloud.keys[start], cloud.keys[goal], strategy="hops")
            assert len(by_hops) == fewest[goal] + 1
            graph.check(by_hops, start, goal, costs[fewest[goal]][goal])
            assert find(db, cloud.keys[start], cloud.keys[goal], fewest[goal] - 1, "hops") == []
    assert dearer > 3, "the limit must have mattered"


def test_no_path(composed) -> None:
    db, cloud, graph, numbers = composed
    start, pair, other, alone = (cloud.keys[n] for n in (graph.a[0], *numbers[10_000:10_003]))
    for strategy in ("astar", "dijkstra", "hops"):
        assert find(db, start, pair, strategy=strategy) == []
        assert find(db, pair, start, strategy=strategy) == []
        assert find(db, start, alone, strategy=strategy) == [] == find(db, alone, start, strategy=strategy)
        assert [key for key, _ in find(db, pair, other, 1, strategy)] == [pair, other]
        assert [key for key, _ in find(db, other, pair, 1, strategy)] == [other, pair]
        for hops in (0, 1, 10):
            assert find(db, start, start, hops, strategy) == [(start, 0.0)]
        assert find(db, pair, other, 0, strategy) == []
    assert find(db, pair, other, edges="{}") == []
    assert find(db, alone, alone, edges="{}") == [(alone, 0.0)]


def neighbour_edges(cloud: Cloud, k: int) -> Edges:
    """From each atom to the k nearest others of its modality; of those as near, to those of smaller coordinates."""
    a, b = [], []
    for n, (point, modality) in enumerate(zip(cloud.points, cloud.modalities)):
        others = np.flatnonzero((cloud.modalities == modality) & (np.arange(len(cloud.points)) != n))
        x, y, z, m = cloud.points[others].T
        near = others[np.lexsort((m, z, y, x, cloud.squares(point, others)))[:k]]
        a += [n] * len(near)
        b += near.tolist()
    return np.array(a, dtype=np.int64), np.array(b, dtype=np.int64)


@pytest.mark.parametrize("kind", ["uniform", "clustered", "one place", "line", "grid"])
def test_the_cheapest_over_neighbours(kind: str, db) -> None:
    rng = np.random.default_rng(4)
    put(db, make(kind, 1500, rng), rng.choice(["image", "audio"], 1500).tolist())
    cloud = Cloud(db)
    for k in (2, 8):
        graph = Graph(cloud, neighbour_edges(cloud, k))
        some = 0
        for start in rng.choice(len(cloud.keys), 4):
            costs, limited = graph.dijkstra(start), graph.bellman_ford(start, 6)
            for goal in [*rng.choice(np.flatnonzero(np.isfinite(costs)), 2), *rng.choice(np.flatnonzero(np.isfinite(limited[-1])), 2)]:
                a, b = cloud.keys[start], cloud.keys[goal]
                for strategy in ("astar", "dijkstra"):
                    graph.check(find(db, a, b, strategy=strategy, edges="{neighbour}", k=k), start, goal, costs[goal])
                for hops in (3, 6):
                    path = find(db, a, b, hops, edges="{neighbour}", k=k)
                    if np.isfinite(limited[hops][goal]):
                        graph.check(path, start, goal, limited[hops][goal])
                        assert len(path) <= hops + 1
                        some += start != goal
                    else:
                        assert path == []
            for goal in np.flatnonzero(~np.isfinite(costs) & (cloud.modalities == cloud.modalities[start]))[:1]:
                assert find(db, cloud.keys[start], cloud.keys[goal], edges="{neighbour}", k=k) == []
        assert some > 0


def test_a_neighbour_need_not_have_one_as_neighbour(db) -> None:
    put(db, np.array([[0, 0, 0, 0], [10, 0, 0, 0], [11, 0, 0, 0]]))
    far, near, nearer = sorted(Cloud(db).keys, key=lambda key: db.execute("SELECT x FROM modelstore.atom_point(%s, %s, %s)", key).fetchone())
    assert find(db, far, near, edges="{neighbour}", k=1) == [(far, 0.0), (near, 10.0)]
    assert find(db, far, nearer, edges="{neighbour}", k=1) == [(far, 0.0), (near, 10.0), (nearer, 11.0)]
    assert find(db, near, far, edges="{neighbour}", k=1) == []
    assert find(db, near, far, edges="{neighbour}", k=2) == [(near, 0.0), (far, 10.0)]
    assert find(db, far, near, edges="{neighbour}", k=0) == []
    # A straight line is one edge or several at the same cost: fewer hops are taken.
    assert find(db, far, nearer, edges="{neighbour}", k=2) == [(far, 0.0), (nearer, 11.0)]


def test_compositions_lead_from_one_modality_to_another(db) -> None:
    rng = np.random.default_rng(6)
    put(db, make("uniform", 1000, rng), rng.choice(["text", "code"], 1000).tolist())
    cloud = Cloud(db)
    texts, codes = cloud.of_modality("text"), cloud.of_modality("code")
    near = neighbour_edges(cloud, 3)
    made = compose(db, cloud, rng.choice(texts, 5, replace=False), rng.choice(codes, 5, replace=False))
    graph = Graph(cloud, tuple(np.concatenate(both) for both in zip(near, made)))
    crossed = 0
    for start in rng.choice(texts, 4):
        costs = graph.dijkstra(start)
        for goal in codes[np.isfinite(costs[codes])][:3]:
            a, b = cloud.keys[start], cloud.keys[goal]
            graph.check(find(db, a, b, edges="{composition,neighbour}", k=3), start, goal, costs[goal])
            assert find(db, a, b, edges="{neighbour}", k=3) == []
            crossed += 1
    assert crossed > 3


@pytest.mark.parametrize(
    ("arguments", "sqlstate"),
    [
        ("a, a, 10, 'greedy'", "22023"),
        ("a, a, 10, 'ASTAR'", "22023"),
        ("a, a, 10, 'astar', '{friendship}'", "22023"),
        ("a, a, 10, 'astar', '{neighbour,NULL}'", "22023"),
        ("a, a, -1", "22023"),
        ("a, a, 10, 'astar', '{neighbour}', -1", "22023"),
        ("a, missing", "42704"),
        ("missing, a", "42704"),
        ("missing, missing", "42704"),
        ("a, ROW(-1, 0, 0)::modelstore.atom", "22023"),
        ("a, ROW(0, 1, 0)::modelstore.atom", "22023"),
        ("NULL, a", "22004"),
        ("a, NULL", "22004"),
        ("a, ROW(0, NULL, 0)::modelstore.atom", "22004"),
        ("a, a, NULL", "22004"),
        ("a, a, 10, NULL", "22004"),
        ("a, a, 10, 'astar', NULL", "22004"),
        ("a, a, 10, 'astar', '{neighbour}', NULL", "22004"),
    ],
)
def test_what_is_refused(arguments: str, sqlstate: str, db) -> None:
    put(db, np.array([[0, 0, 0, 0]]))
    known = "WITH known AS (SELECT ROW(h_xy, h_yz, h_zm)::modelstore.atom AS a FROM store.atoms)"
    missing = "missing AS (SELECT ROW(h_xy, h_yz, h_zm)::modelstore.atom AS missing FROM modelstore.atom_key('text', 268435455, 0, 0, 0))"
    query = f"{known}, {missing} SELECT p.* FROM known, missing, modelstore.find_path({arguments}) p"
    assert refusal(db, query).sqlstate == sqlstate
