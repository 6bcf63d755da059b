//! A packed Hilbert R-tree: finds the nearest of many points in memory, for many queries.
//!
//! I. Kamel and C. Faloutsos, "On Packing R-trees", CIKM 1993: points in the order of a Hilbert curve are packed into
//! full leaves, and the boxes around leaves, in that order, into full nodes. Nothing is ever inserted, so a tree is a
//! few arrays without pointers; the n-th node of a level contains the boxes around the sixteen nodes from 16 n on.
//!
//! A search visits the nearest child first, and no child farther than the k-th neighbour so far. Sixteen coordinates of
//! one axis are stored together, so that a processor computes several distances at once.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::place::{place, place_within};
use crate::Point;

/// Points of a leaf, and children of a node.
const WIDTH: usize = 16;

/// One coordinate of sixteen points or boxes.
type Lane = [u32; WIDTH];

/// Points in an order that makes nearest-neighbour searches fast. The `u32` of each is the caller's payload.
#[derive(Clone, Debug, Default)]
pub struct PackedTree {
    len: usize,
    leaves: Vec<Leaf>,
    /// Boxes around leaves first, those around these next; the last level is one node. Empty without points.
    levels: Vec<Vec<Node>>,
}

#[derive(Clone, Debug)]
struct Leaf {
    axes: [Lane; 4],
    payloads: Lane,
}

/// Boxes around the points of sixteen leaves or nodes.
#[derive(Clone, Debug)]
struct Node {
    min: [Lane; 4],
    max: [Lane; 4],
}

/// A point found by a search, ordered as in a result: the nearest first; at equal distances by smaller coordinates,
/// then by smaller payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Square of the distance to the query, exact: below 2^58.
    pub distance_squared: u64,
    /// The point.
    pub point: Point,
    /// Its payload.
    pub payload: u32,
}

impl Ord for Neighbour {
    fn cmp(&self, other: &Neighbour) -> Ordering {
        let key = |n: &Neighbour| (n.distance_squared, n.point.coordinates(), n.payload);
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for Neighbour {
    fn partial_cmp(&self, other: &Neighbour) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PackedTree {
    /// Builds a tree of these points, with coordinates below 2^28. O(points · log points); takes as much memory again
    /// as the points.
    pub fn build(points: Vec<(Point, u32)>) -> PackedTree {
        let order = order(&points);
        let at = |n: usize| &points[order[n.min(order.len() - 1)].1];
        let leaves: Vec<Leaf> = (0..points.len())
            .step_by(WIDTH)
            .map(|first| Leaf::new(|lane| at(first + lane)))
            .collect();
        let mut levels: Vec<Vec<Node>> = Vec::new();
        if !leaves.is_empty() {
            levels.push(pack(&leaves, Leaf::bounds));
        }
        while let Some(below) = levels.last()
            && below.len() > 1
        {
            let above = pack(below, Node::bounds);
            levels.push(above);
        }
        PackedTree {
            len: points.len(),
            leaves,
            levels,
        }
    }

    /// Returns the number of points.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Replaces the content of `out` by the `k` points nearest to `query`: the nearest first, at equal distances by
    /// coordinates, then payload; fewer if there are fewer points. Allocates nothing if `out` has room for `k`.
    pub fn nearest(&self, query: &Point, k: usize, out: &mut Vec<Neighbour>) {
        out.clear();
        let Some(root) = self.levels.len().checked_sub(1) else {
            return;
        };
        if k == 0 {
            return;
        }
        let mut search = Search {
            tree: self,
            query: query.coordinates(),
            k,
            best: BinaryHeap::from(std::mem::take(out)),
            reach: u64::MAX,
        };
        search.node(root, 0);
        *out = search.best.into_sorted_vec();
    }
}

/// Sorts the points along the curve, equal ones by payload: places, with indices into the points.
fn order(points: &[(Point, u32)]) -> Vec<(i64, usize)> {
    let places = points.iter().enumerate();
    let mut order: Vec<_> = places.map(|(n, (point, _))| (place(point), n)).collect();
    order.sort_unstable();
    // Points in the same cell of the curve still have to be ordered.
    let mut finer = Vec::new();
    for crowd in order.chunk_by_mut(|a, b| a.0 == b.0) {
        if crowd.len() > 1 {
            finer.clear();
            finer.extend(crowd.iter().map(|&(_, n)| {
                let (point, payload) = &points[n];
                (place_within(point), *payload, n)
            }));
            finer.sort_unstable();
            for (slot, &(_, _, n)) in crowd.iter_mut().zip(&finer) {
                slot.1 = n;
            }
        }
    }
    order
}

/// Returns the nodes that contain boxes around these. The last child is repeated to fill the last node.
fn pack<T>(below: &[T], bounds: impl Fn(&T) -> ([u32; 4], [u32; 4])) -> Vec<Node> {
    let node = |children: &[T]| {
        let mut node = Node {
            min: [[0; WIDTH]; 4],
            max: [[0; WIDTH]; 4],
        };
        for lane in 0..WIDTH {
            let (min, max) = bounds(&children[lane.min(children.len() - 1)]);
            for axis in 0..4 {
                node.min[axis][lane] = min[axis];
                node.max[axis][lane] = max[axis];
            }
        }
        node
    };
    below.chunks(WIDTH).map(node).collect()
}

impl Leaf {
    fn new<'a>(at: impl Fn(usize) -> &'a (Point, u32)) -> Leaf {
        let mut leaf = Leaf {
            axes: [[0; WIDTH]; 4],
            payloads: [0; WIDTH],
        };
        for lane in 0..WIDTH {
            let (point, payload) = at(lane);
            for (axis, coordinate) in point.coordinates().into_iter().enumerate() {
                leaf.axes[axis][lane] = coordinate;
            }
            leaf.payloads[lane] = *payload;
        }
        leaf
    }

    fn bounds(&self) -> ([u32; 4], [u32; 4]) {
        (smallest(&self.axes), largest(&self.axes))
    }

    /// Returns squared distances of the points.
    #[inline(always)]
    fn distances(&self, query: &[u32; 4]) -> [u64; WIDTH] {
        let mut distances = [0; WIDTH];
        for (lane, &q) in self.axes.iter().zip(query) {
            for (sum, &c) in distances.iter_mut().zip(lane) {
                let apart = u64::from(c.abs_diff(q));
                *sum += apart * apart;
            }
        }
        distances
    }
}

impl Node {
    fn bounds(&self) -> ([u32; 4], [u32; 4]) {
        (smallest(&self.min), largest(&self.max))
    }

    /// Returns squared distances of the boxes, 0 inside.
    #[inline(always)]
    fn distances(&self, query: &[u32; 4]) -> [u64; WIDTH] {
        let mut distances = [0; WIDTH];
        for ((min, max), &q) in self.min.iter().zip(&self.max).zip(query) {
            for ((sum, &low), &high) in distances.iter_mut().zip(min).zip(max) {
                let apart = u64::from(low.saturating_sub(q).max(q.saturating_sub(high)));
                *sum += apart * apart;
            }
        }
        distances
    }
}

fn smallest(axes: &[Lane; 4]) -> [u32; 4] {
    axes.map(|lane| lane.into_iter().fold(u32::MAX, u32::min))
}

fn largest(axes: &[Lane; 4]) -> [u32; 4] {
    axes.map(|lane| lane.into_iter().fold(0, u32::max))
}

/// A search in progress.
struct Search<'a> {
    tree: &'a PackedTree,
    query: [u32; 4],
    k: usize,
    /// The nearest so far, the last of them on top.
    best: BinaryHeap<Neighbour>,
    /// Anything farther is not among the nearest: the distance of the k-th.
    reach: u64,
}

impl Search<'_> {
    /// Searches a node of a level, nearest child first. Recursion is as deep as the tree: log16 of the points.
    fn node(&mut self, level: usize, index: usize) {
        let distances = self.tree.levels[level][index].distances(&self.query);
        let below = match level.checked_sub(1) {
            Some(below) => self.tree.levels[below].len(),
            None => self.tree.leaves.len(),
        };
        let first = index * WIDTH;
        let (mut children, mut count) = ([0; WIDTH], 0);
        for (lane, &distance) in distances.iter().take(below - first).enumerate() {
            // A distance has 58 bits, so the lane fits next to it.
            children[count] = distance << 4 | lane as u64;
            count += usize::from(distance <= self.reach);
        }
        let children = &mut children[..count];
        children.sort_unstable();
        for child in children {
            // It may have decreased since.
            if *child >> 4 > self.reach {
                return;
            }
            let index = first + (*child & 15) as usize;
            match level.checked_sub(1) {
                Some(below) => self.node(below, index),
                None => self.leaf(index),
            }
        }
    }

    fn leaf(&mut self, index: usize) {
        let leaf = &self.tree.leaves[index];
        let distances = leaf.distances(&self.query);
        let points = self.tree.len - index * WIDTH;
        for (lane, &distance_squared) in distances.iter().take(points).enumerate() {
            if distance_squared <= self.reach {
                let [x, y, z, m] = leaf.axes.map(|axis| axis[lane]);
                self.offer(Neighbour {
                    distance_squared,
                    point: Point { x, y, z, m },
                    payload: leaf.payloads[lane],
                });
            }
        }
    }

    fn offer(&mut self, found: Neighbour) {
        if self.best.len() < self.k {
            self.best.push(found);
        } else if let Some(mut last) = self.best.peek_mut()
            && found < *last
        {
            *last = found;
        }
        if self.best.len() == self.k
            && let Some(last) = self.best.peek()
        {
            self.reach = last.distance_squared;
        }
    }
}
