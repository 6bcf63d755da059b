//! The cheapest path between two atoms.
//!
//! Atoms are nodes; an edge costs the Euclidean distance between the points of its ends and can be followed both ways.
//! Edges come from outside through [`Edges`], for many nodes at a time, because one statement for the edges of 32 nodes
//! costs little more than one for a single node. Three strategies share one search: A* (Hart, Nilsson and Raphael 1968,
//! "A Formal Basis for the Heuristic Determination of Minimum Cost Paths"), whose estimate is the straight line to the
//! goal; Dijkstra's algorithm (1959), without an estimate; and fewest edges first.
//!
//! The limit of hops is exact: a node is left by its cheapest path first and, if such paths are cut short by the limit,
//! by costlier paths with fewer hops too (see `search.rs`).

mod cost;
mod graph;
mod search;

use crate::Key;

/// The criterion for the best path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Least cost; nodes are visited in the order of their cost plus the straight line to the goal.
    AStar,
    /// Least cost; nodes are visited in the order of their cost. Gives the path of [`Strategy::AStar`].
    Dijkstra,
    /// Fewest edges, and of those paths the cheapest.
    Hops,
}

impl Strategy {
    /// All strategies.
    pub const ALL: [Strategy; 3] = [Strategy::AStar, Strategy::Dijkstra, Strategy::Hops];

    /// Returns its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::AStar => "astar",
            Strategy::Dijkstra => "dijkstra",
            Strategy::Hops => "hops",
        }
    }

    /// Returns the strategy of that name, in lower case; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Strategy> {
        Strategy::ALL
            .into_iter()
            .find(|strategy| strategy.name() == name)
    }
}

/// The source of a graph's edges.
pub trait Edges {
    /// Errors of fetching them.
    type Error;

    /// Returns, for each node in order, the connected nodes. May contain duplicates and the node itself. No node is
    /// passed twice in a search. Every edge must be returned from both of its ends.
    fn of(&mut self, nodes: &[Key]) -> Result<Vec<Vec<Key>>, Self::Error>;

    /// Called at least once every few thousand steps of work between two calls of [`Edges::of`], so that the caller may
    /// stop the search. By default, fetches the edges of no node.
    fn check_cancel(&mut self) -> Result<(), Self::Error> {
        self.of(&[]).map(drop)
    }
}

/// A node of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The node.
    pub key: Key,
    /// Cost from the start to this node; 0 for the first step.
    pub cost: f64,
}

/// Why a search failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError<E> {
    /// A start, a goal or the end of an edge that is not the key of an atom.
    #[error(transparent)]
    Key(crate::Error),
    /// The edges could not be fetched.
    #[error(transparent)]
    Edges(E),
    /// [`Edges::of`] returned more or fewer lists than it was passed nodes.
    #[error("edges of {given} nodes were given for {asked}")]
    Answer {
        /// Number of nodes passed.
        asked: usize,
        /// Number of lists returned.
        given: usize,
    },
    /// The search exceeds the limit, which is the number.
    #[error("search for a path needs more than {0} nodes")]
    TooLarge(usize),
}

/// Returns the best path of at most `max_hops` edges, from its first node to its last with the cost up to each; `None`
/// if there is none. A path from a node to itself is that one step, and fetches no edges.
///
/// - `batch`: maximum number of nodes per call of [`Edges::of`] (at least one): the node whose edges are needed, and
///   those that seem to be next. It changes how often edges are fetched and for how many nodes, never the path.
/// - `max_nodes`: reaching more distinct nodes than that is [`PathError::TooLarge`]. So is following more than 16 times
///   as many paths to them, which takes a tight limit of hops. This bounds time and memory, except for the edges of
///   fetched nodes, whose number depends on `edges`.
///
/// Of equally good paths the one with fewer hops is returned, and of those the one whose keys, read from the end, come
/// first. So the result depends on the graph alone, not on the order in which edges are returned.
pub fn find_path<E: Edges>(
    edges: &mut E,
    from: Key,
    to: Key,
    max_hops: u32,
    strategy: Strategy,
    batch: usize,
    max_nodes: usize,
) -> Result<Option<Vec<Step>>, PathError<E::Error>> {
    from.parts().map_err(PathError::Key)?;
    to.parts().map_err(PathError::Key)?;
    if from == to {
        return Ok(Some(vec![Step {
            key: from,
            cost: 0.0,
        }]));
    }
    if max_hops == 0 {
        return Ok(None);
    }
    search::Search::new(from, to, max_hops, strategy, max_nodes)?.run(edges, batch.max(1))
}
