//! Graphs in memory for the tests of paths, and slow, plain answers to compare with.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;

use modelstore_atom::path::{Edges, PathError, Step, Strategy, find_path};
use modelstore_atom::{AXIS_BITS, Key, Modality, Point};

/// Numbers that look random: splitmix64.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}

/// An undirected graph whose nodes are numbered.
pub struct Net {
    pub keys: Vec<Key>,
    pub points: Vec<Point>,
    pub neighbours: Vec<Vec<usize>>,
    numbers: HashMap<Key, usize>,
}

impl Net {
    /// Nodes of the points; equal points get different modalities, and points that come too often are left out.
    pub fn new(points: impl IntoIterator<Item = Point>) -> Net {
        let mut used = BTreeMap::<Point, usize>::new();
        let mut net = Net {
            keys: Vec::new(),
            points: Vec::new(),
            neighbours: Vec::new(),
            numbers: HashMap::new(),
        };
        for point in points {
            let times = used.entry(point).or_default();
            let Some(modality) = Modality::ALL.get(*times) else {
                continue;
            };
            *times += 1;
            let key = Key::new(*modality, point).unwrap();
            net.numbers.insert(key, net.keys.len());
            net.keys.push(key);
            net.points.push(point);
            net.neighbours.push(Vec::new());
        }
        net
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn join(&mut self, a: usize, b: usize) {
        self.neighbours[a].push(b);
        self.neighbours[b].push(a);
    }

    pub fn length(&self, a: usize, b: usize) -> f64 {
        (self.points[a].distance_squared(&self.points[b]) as f64).sqrt()
    }

    /// Random points in the first `axes` axes, and `degree / 2` edges a node to others anywhere.
    pub fn random(nodes: usize, axes: usize, degree: usize, seed: u64) -> Net {
        let mut random = Random(seed);
        let mut net = Net::new(random_points(nodes, axes, &mut random));
        for _ in 0..nodes * degree / 2 {
            let (a, b) = (random.below(net.len()), random.below(net.len()));
            net.join(a, b);
        }
        net
    }

    /// Random points in the first `axes` axes, each joined to the `k` nearest of those about it.
    pub fn geometric(nodes: usize, axes: usize, k: usize, seed: u64) -> Net {
        let mut net = Net::new(random_points(nodes, axes, &mut Random(seed)));
        let side = (nodes as f64).powf(1.0 / axes as f64).round() as u64;
        let cell = |point: &Point| {
            point
                .coordinates()
                .map(|c| (u64::from(c) * side) >> AXIS_BITS)
        };
        let mut cells = HashMap::<[u64; 4], Vec<usize>>::new();
        for (node, point) in net.points.iter().enumerate() {
            cells.entry(cell(point)).or_default().push(node);
        }
        for node in 0..net.len() {
            let here = cell(&net.points[node]);
            let mut near = Vec::new();
            for way in 0..81u64 {
                let there = std::array::from_fn(|axis| {
                    (here[axis] + way / 3u64.pow(axis as u32) % 3).wrapping_sub(1)
                });
                near.extend(cells.get(&there).into_iter().flatten().copied());
            }
            near.retain(|other| *other != node);
            near.sort_by_key(|other| net.points[node].distance_squared(&net.points[*other]));
            for other in near.into_iter().take(k) {
                net.join(node, other);
            }
        }
        net
    }

    /// Searches, and checks that the answer is a path of this graph with the costs it states.
    pub fn find(
        &self,
        (from, to): (usize, usize),
        max_hops: u32,
        strategy: Strategy,
        batch: usize,
    ) -> (Option<Vec<Step>>, Asked<'_>) {
        let mut asked = Asked::of(self);
        let (from, to) = (self.keys[from], self.keys[to]);
        let found = find_path(
            &mut asked,
            from,
            to,
            max_hops,
            strategy,
            batch,
            2 * self.len() + 2,
        );
        let path = found.unwrap();
        if let Some(path) = &path {
            assert!(path.len() <= max_hops as usize + 1);
            assert_eq!((path[0].key, path[0].cost), (from, 0.0));
            assert_eq!(path.last().unwrap().key, to);
            for pair in path.windows(2) {
                let [a, b] = [0, 1].map(|i| self.numbers[&pair[i].key]);
                assert!(self.neighbours[a].contains(&b));
                assert!(pair[0].cost <= pair[1].cost);
            }
            let sum: f64 = path
                .windows(2)
                .map(|pair| self.length(self.numbers[&pair[0].key], self.numbers[&pair[1].key]))
                .sum();
            assert!(close(sum, path.last().unwrap().cost));
        }
        (path, asked)
    }

    /// Least cost from a node to all by at most 0, 1, ... edges, until nothing improves: Bellman and Ford, a round a hop.
    pub fn by_hops(&self, from: usize) -> Vec<Vec<f64>> {
        let mut rounds = vec![vec![f64::INFINITY; self.len()]];
        rounds[0][from] = 0.0;
        let mut improved = vec![from];
        while !improved.is_empty() {
            let before = rounds.last().unwrap();
            let mut next = before.clone();
            for a in &improved {
                for b in &self.neighbours[*a] {
                    next[*b] = next[*b].min(before[*a] + self.length(*a, *b));
                }
            }
            improved = (0..self.len()).filter(|b| next[*b] < before[*b]).collect();
            rounds.push(next);
        }
        rounds
    }

    /// Least cost from a node to all, by looking for the nearest node again and again until nothing improves.
    pub fn dijkstra(&self, from: usize) -> Vec<f64> {
        let mut costs = vec![f64::INFINITY; self.len()];
        costs[from] = 0.0;
        // Costs are not negative, so their bits have their order.
        let mut open = std::collections::BTreeSet::from([(0u64, from)]);
        while let Some((bits, a)) = open.pop_first() {
            for b in &self.neighbours[a] {
                let cost = f64::from_bits(bits) + self.length(a, *b);
                if cost < costs[*b] {
                    open.remove(&(costs[*b].to_bits(), *b));
                    open.insert((cost.to_bits(), *b));
                    costs[*b] = cost;
                }
            }
        }
        costs
    }

    /// The same as a graph of petgraph.
    pub fn petgraph(&self) -> petgraph::graph::UnGraph<(), f64, usize> {
        let mut graph = petgraph::graph::UnGraph::default();
        for _ in 0..self.len() {
            graph.add_node(());
        }
        for (a, list) in self.neighbours.iter().enumerate() {
            for b in list.iter().filter(|b| a <= **b) {
                graph.add_edge(a.into(), (*b).into(), self.length(a, *b));
            }
        }
        graph
    }
}

fn random_points(nodes: usize, axes: usize, random: &mut Random) -> Vec<Point> {
    let mut point = || {
        let c: [u32; 4] = std::array::from_fn(|axis| match axis < axes {
            true => random.below(1 << AXIS_BITS) as u32,
            false => 0,
        });
        Point {
            x: c[0],
            y: c[1],
            z: c[2],
            m: c[3],
        }
    };
    (0..nodes).map(|_| point()).collect()
}

/// Tells edges of a net and counts what it was asked.
pub struct Asked<'a> {
    net: &'a Net,
    /// Calls for the edges of at least one node.
    pub calls: usize,
    /// Nodes asked for.
    pub nodes: usize,
    /// Calls that only give a chance to cancel.
    pub checks: usize,
    seen: Vec<bool>,
}

impl<'a> Asked<'a> {
    pub fn of(net: &'a Net) -> Asked<'a> {
        Asked {
            net,
            calls: 0,
            nodes: 0,
            checks: 0,
            seen: vec![false; net.len()],
        }
    }
}

impl Edges for Asked<'_> {
    type Error = Infallible;

    fn of(&mut self, nodes: &[Key]) -> Result<Vec<Vec<Key>>, Infallible> {
        self.nodes += nodes.len();
        match nodes.len() {
            0 => self.checks += 1,
            _ => self.calls += 1,
        }
        let list = |key: &Key| {
            let node = self.net.numbers[key];
            assert!(
                !std::mem::replace(&mut self.seen[node], true),
                "asked twice"
            );
            let list = &self.net.neighbours[node];
            list.iter().map(|other| self.net.keys[*other]).collect()
        };
        Ok(nodes.iter().map(list).collect())
    }
}

/// Cost of a path, infinite if there is none.
pub fn cost(path: &Option<Vec<Step>>) -> f64 {
    path.as_ref()
        .and_then(|path| path.last())
        .map_or(f64::INFINITY, |step| step.cost)
}

/// Equal to a relative 1e-9.
pub fn close(a: f64, b: f64) -> bool {
    a == b || (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// What a search with a limit of nodes says.
pub fn limited(
    net: &Net,
    max_nodes: usize,
    batch: usize,
) -> Result<Option<Vec<Step>>, PathError<Infallible>> {
    let (from, to) = (net.keys[0], net.keys[net.len() - 1]);
    find_path(
        &mut Asked::of(net),
        from,
        to,
        1000,
        Strategy::Dijkstra,
        batch,
        max_nodes,
    )
}
