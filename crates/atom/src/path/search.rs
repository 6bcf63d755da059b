//! The search itself: best-first over labels.
//!
//! A label is a path to a node: its cost, its hops, and the label it came from. Under a limit of hops the cheapest path
//! to a node may be too long to continue, so a label is dropped only if another label of its node has no more hops and
//! no higher cost. Estimates are consistent, so labels leave the queue in the order of the best path through them, and
//! the first one of the goal to leave is the answer.
//!
//! Following every such path is expensive, and useless while the limit is out of reach. So a node is left by its
//! cheapest label alone, and its others are deferred. When the limit cuts paths short, the least cost of a path through
//! one of those is recorded. Up to that value only the cheapest labels matter. When the queue passes it, the deferred
//! labels are queued, and from then on all are followed. The order within a node stays right: a deferred label costs
//! more than the one by which the node was left.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::cost::Cost;
use super::graph::{Graph, Pace};
use super::{Edges, PathError, Step, Strategy};
use crate::Key;

/// Maximum number of labels per node: bounds memory if the limit of hops makes many paths to a node worth keeping.
const LABELS_PER_NODE: usize = 16;
/// Queue entries read per node to prefetch; most of those in front may have been fetched.
const LOOKED_AT_PER_NODE: usize = 4;

/// A path to a node.
#[derive(Clone, Copy)]
struct Label {
    cost: Cost,
    node: u32,
    hops: u32,
    /// The label of the previous node; `None` at the start.
    parent: Option<u32>,
}

/// A label in the queue, which is ordered by the fields in their order, the least first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Open {
    first: u128,
    second: u128,
    hops: u32,
    key: Key,
    parent_key: Key,
    label: u32,
}

/// The known paths to a node.
#[derive(Clone, Default)]
struct Ways {
    /// Labels that are not dominated by another one.
    front: Vec<u32>,
    /// Whether one of them has left the node.
    left: bool,
}

/// A search under way.
pub(super) struct Search {
    graph: Graph,
    goal: u32,
    max_hops: u32,
    max_nodes: usize,
    strategy: Strategy,
    labels: Vec<Label>,
    ways: Vec<Ways>,
    queue: BinaryHeap<Reverse<Open>>,
    put_off: Vec<Reverse<Open>>,
    /// The least cost of a path that was cut short by the limit of hops.
    cut: Option<u128>,
    all_ways: bool,
    pace: Pace,
}

impl Search {
    /// Starts a search between two distinct nodes, for a path of at least one hop.
    pub(super) fn new<E>(
        from: Key,
        to: Key,
        max_hops: u32,
        strategy: Strategy,
        max_nodes: usize,
    ) -> Result<Search, PathError<E>> {
        let (_, point) = to.parts().map_err(PathError::Key)?;
        let mut graph = Graph::new(point, max_nodes);
        let start = graph.add(from)?;
        let goal = graph.add(to)?;
        let mut search = Search {
            graph,
            goal,
            max_hops,
            max_nodes,
            strategy,
            labels: Vec::new(),
            ways: vec![Ways::default(); 2],
            queue: BinaryHeap::new(),
            put_off: Vec::new(),
            cut: None,
            all_ways: false,
            pace: Pace::default(),
        };
        search.offer(Label {
            cost: 0,
            node: start,
            hops: 0,
            parent: None,
        })?;
        Ok(search)
    }

    /// Searches to the end, with up to `batch` nodes per call.
    pub(super) fn run<E: Edges>(
        mut self,
        edges: &mut E,
        batch: usize,
    ) -> Result<Option<Vec<Step>>, PathError<E::Error>> {
        loop {
            let past_cut = match (self.cut, self.queue.peek()) {
                (Some(cut), Some(Reverse(open))) => !self.all_ways && open.first > cut,
                (Some(_), None) => !self.all_ways,
                (None, _) => false,
            };
            if past_cut {
                self.all_ways = true;
                self.queue.extend(self.put_off.drain(..));
            }
            let Some(Reverse(open)) = self.queue.pop() else {
                return Ok(None);
            };
            self.pace.step(edges)?;
            let label = self.labels[open.label as usize];
            if label.node == self.goal {
                return Ok(Some(self.path(open.label)));
            }
            if !self.is_live(open.label) {
                continue;
            }
            if self.ways[label.node as usize].left && !self.all_ways {
                self.put_off.push(Reverse(open));
                continue;
            }
            if !self.graph.is_told(label.node) {
                let nodes = self.next_nodes(label.node, batch);
                self.graph.ask(edges, &nodes)?;
            }
            self.leave(edges, open.label)?;
        }
    }

    /// Follows every edge of a label's node.
    fn leave<E: Edges>(&mut self, edges: &mut E, number: u32) -> Result<(), PathError<E::Error>> {
        let label = self.labels[number as usize];
        let list = self.graph.take_edges(edges, label.node, &mut self.pace)?;
        self.ways.resize(self.graph.len(), Ways::default());
        for edge in &list {
            self.pace.step(edges)?;
            self.offer(Label {
                cost: label.cost + Cost::from(edge.length),
                node: edge.to,
                hops: label.hops + 1,
                parent: Some(number),
            })?;
        }
        self.graph.give_back(label.node, list);
        self.ways[label.node as usize].left = true;
        Ok(())
    }

    /// Queues a label unless another one dominates it or it can never be followed.
    fn offer<E>(&mut self, label: Label) -> Result<(), PathError<E>> {
        let place = label.node as usize;
        let labels = &self.labels;
        let parent_key = self.parent_key(&label);
        let beaten = self.ways[place].front.iter().any(|number| {
            let old = &labels[*number as usize];
            let equal = (old.cost, old.hops) == (label.cost, label.hops);
            self.dominates(old, &label) && !(equal && parent_key < self.parent_key(old))
        });
        if beaten {
            return Ok(());
        }
        let (first, second) = self.priority(&label);
        if label.hops == self.max_hops && label.node != self.goal {
            if self.strategy != Strategy::Hops {
                self.cut = Some(self.cut.map_or(first, |cut| cut.min(first)));
            }
            return Ok(());
        }
        let number = u32::try_from(self.labels.len())
            .ok()
            .filter(|_| self.labels.len() < self.max_nodes.saturating_mul(LABELS_PER_NODE))
            .ok_or(PathError::TooLarge(self.max_nodes))?;
        let mut front = std::mem::take(&mut self.ways[place].front);
        front.retain(|old| !self.dominates(&label, &self.labels[*old as usize]));
        front.push(number);
        self.ways[place].front = front;
        self.queue.push(Reverse(Open {
            first,
            second,
            hops: label.hops,
            key: self.graph.key(label.node),
            parent_key,
            label: number,
        }));
        self.labels.push(label);
        Ok(())
    }

    /// Returns the nodes whose edges to fetch: the given one, and the next ones of the queue whose edges are not known.
    fn next_nodes(&mut self, node: u32, batch: usize) -> Vec<u32> {
        let mut nodes = vec![node];
        let mut looked_at = Vec::new();
        while nodes.len() < batch && looked_at.len() < batch.saturating_mul(LOOKED_AT_PER_NODE) {
            let Some(Reverse(open)) = self.queue.pop() else {
                break;
            };
            let next = self.labels[open.label as usize].node;
            let live = self.is_live(open.label);
            if live {
                looked_at.push(Reverse(open));
            }
            if next == self.goal {
                // Unless a better path turns up, labels behind the goal are never followed.
                break;
            }
            if live && !self.graph.is_told(next) && !nodes.contains(&next) {
                nodes.push(next);
            }
        }
        self.queue.extend(looked_at);
        nodes
    }

    /// Returns the rank of a label, the least first: a bound on the best path through it. Neither part decreases along
    /// an edge.
    fn priority(&self, label: &Label) -> (u128, u128) {
        let straight = label.cost + Cost::from(self.graph.to_goal(label.node));
        match self.strategy {
            Strategy::AStar => (straight, label.hops.into()),
            Strategy::Dijkstra => (label.cost, label.hops.into()),
            Strategy::Hops => {
                let more = u128::from(label.node != self.goal);
                (u128::from(label.hops) + more, straight)
            }
        }
    }

    /// Returns whether the first of two labels of a node makes the second one useless.
    fn dominates(&self, a: &Label, b: &Label) -> bool {
        match self.strategy {
            Strategy::AStar | Strategy::Dijkstra => a.hops <= b.hops && a.cost <= b.cost,
            Strategy::Hops => (a.hops, a.cost) <= (b.hops, b.cost),
        }
    }

    /// Returns whether no better label of its node has been found since a label was queued.
    fn is_live(&self, number: u32) -> bool {
        let node = self.labels[number as usize].node;
        self.ways[node as usize].front.contains(&number)
    }

    /// Returns the key of the node a label came from, or of its own node at the start.
    fn parent_key(&self, label: &Label) -> Key {
        let node = label
            .parent
            .map_or(label.node, |parent| self.labels[parent as usize].node);
        self.graph.key(node)
    }

    /// Returns the path of a label.
    fn path(&self, last: u32) -> Vec<Step> {
        let mut nodes = Vec::new();
        let mut next = Some(last);
        while let Some(number) = next {
            let label = &self.labels[number as usize];
            nodes.push(label.node);
            next = label.parent;
        }
        nodes.reverse();
        let mut cost = 0.0;
        let mut before = nodes[0];
        let step = |node| {
            cost += self.graph.distance(before, node);
            before = node;
            Step {
                key: self.graph.key(node),
                cost,
            }
        };
        nodes.into_iter().map(step).collect()
    }
}
