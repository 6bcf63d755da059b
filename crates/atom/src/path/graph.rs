//! The part of the graph that a search has seen.

use std::collections::HashMap;

use super::cost::length;
use super::{Edges, PathError};
use crate::{Key, Point};

/// Edges read, nodes added and labels processed between two checks for cancellation: some milliseconds of work at most.
const STEPS_PER_CHECK: u32 = 4096;

/// Checks for cancellation after this many steps of work.
#[derive(Default)]
pub(super) struct Pace {
    steps: u32,
}

impl Pace {
    /// Counts a step of work.
    pub(super) fn step<E: Edges>(&mut self, edges: &mut E) -> Result<(), PathError<E::Error>> {
        self.steps += 1;
        if self.steps < STEPS_PER_CHECK {
            return Ok(());
        }
        self.steps = 0;
        edges.check_cancel().map_err(PathError::Edges)
    }
}

/// An edge out of a node.
#[derive(Clone, Copy)]
pub(super) struct Edge {
    /// Number of the node at its other end.
    pub(super) to: u32,
    /// Its length, see `cost.rs`.
    pub(super) length: u64,
}

/// What is known about the edges of a node.
enum Adjacency {
    Unknown,
    /// As returned by [`Edges::of`]. The nodes at the other ends count only when the search gets here, so that
    /// prefetching never makes a search too large.
    Told(Vec<Key>),
    /// Without duplicates and without the node itself.
    Edges(Vec<Edge>),
}

struct Node {
    key: Key,
    point: Point,
    to_goal: u64,
    adjacency: Adjacency,
    /// The node whose edges led here last, to detect duplicates among them.
    seen_from: u32,
}

/// Nodes by number, in the order in which they were reached.
pub(super) struct Graph {
    nodes: Vec<Node>,
    numbers: HashMap<Key, u32>,
    goal: Point,
    max_nodes: usize,
}

impl Graph {
    /// Creates an empty graph that grows to `max_nodes`.
    pub(super) fn new(goal: Point, max_nodes: usize) -> Graph {
        Graph {
            nodes: Vec::new(),
            numbers: HashMap::new(),
            goal,
            max_nodes,
        }
    }

    /// Returns the number of nodes so far.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Returns the number of the node of a key, adding it if it is new.
    pub(super) fn add<E>(&mut self, key: Key) -> Result<u32, PathError<E>> {
        if let Some(number) = self.numbers.get(&key) {
            return Ok(*number);
        }
        let (_, point) = key.parts().map_err(PathError::Key)?;
        // The last number means "no node".
        let number = u32::try_from(self.nodes.len())
            .ok()
            .filter(|number| *number < u32::MAX && self.nodes.len() < self.max_nodes)
            .ok_or(PathError::TooLarge(self.max_nodes))?;
        self.nodes.push(Node {
            key,
            point,
            to_goal: length(&point, &self.goal),
            adjacency: Adjacency::Unknown,
            seen_from: u32::MAX,
        });
        self.numbers.insert(key, number);
        Ok(number)
    }

    /// Returns the key of a node.
    pub(super) fn key(&self, node: u32) -> Key {
        self.nodes[node as usize].key
    }

    /// Returns the straight-line distance from a node to the goal.
    pub(super) fn to_goal(&self, node: u32) -> u64 {
        self.nodes[node as usize].to_goal
    }

    /// Returns the distance between two nodes as a number to display.
    pub(super) fn distance(&self, a: u32, b: u32) -> f64 {
        let (a, b) = (&self.nodes[a as usize].point, &self.nodes[b as usize].point);
        (a.distance_squared(b) as f64).sqrt()
    }

    /// Returns whether the edges of a node are known.
    pub(super) fn is_told(&self, node: u32) -> bool {
        !matches!(self.nodes[node as usize].adjacency, Adjacency::Unknown)
    }

    /// Fetches the edges of nodes in one call.
    pub(super) fn ask<E: Edges>(
        &mut self,
        edges: &mut E,
        nodes: &[u32],
    ) -> Result<(), PathError<E::Error>> {
        let keys: Vec<Key> = nodes.iter().map(|node| self.key(*node)).collect();
        let lists = edges.of(&keys).map_err(PathError::Edges)?;
        if lists.len() != keys.len() {
            return Err(PathError::Answer {
                asked: keys.len(),
                given: lists.len(),
            });
        }
        for (node, list) in nodes.iter().zip(lists) {
            self.nodes[*node as usize].adjacency = Adjacency::Told(list);
        }
        Ok(())
    }

    /// Takes the known edges of a node out, to be returned with [`Graph::give_back`].
    pub(super) fn take_edges<E: Edges>(
        &mut self,
        edges: &mut E,
        node: u32,
        pace: &mut Pace,
    ) -> Result<Vec<Edge>, PathError<E::Error>> {
        let place = &mut self.nodes[node as usize];
        let keys = match std::mem::replace(&mut place.adjacency, Adjacency::Unknown) {
            Adjacency::Edges(list) => return Ok(list),
            Adjacency::Told(keys) => keys,
            Adjacency::Unknown => Vec::new(),
        };
        let from = place.point;
        place.seen_from = node;
        let mut list = Vec::new();
        for key in keys {
            pace.step(edges)?;
            let to = self.add(key)?;
            let end = &mut self.nodes[to as usize];
            if std::mem::replace(&mut end.seen_from, node) != node {
                list.push(Edge {
                    to,
                    length: length(&from, &end.point),
                });
            }
        }
        Ok(list)
    }

    /// Stores the edges of a node for the next time.
    pub(super) fn give_back(&mut self, node: u32, list: Vec<Edge>) {
        self.nodes[node as usize].adjacency = Adjacency::Edges(list);
    }
}
