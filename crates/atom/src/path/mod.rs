//! The cheapest path between two atoms.
//!
//! Atoms are nodes; an edge costs the Euclidean distance between the points of its ends and may be walked both ways.
//! Edges come from outside through [`Edges`], many nodes at a time, because one statement for the edges of 32 nodes
//! costs little more than one for those of a single node. Three strategies share one search: A* (Hart, Nilsson and
//! Raphael 1968, "A Formal Basis for the Heuristic Determination of Minimum Cost Paths"), whose estimate is the straight
//! line to the goal; Dijkstra's algorithm (1959), the same without an estimate; and fewest edges first.
//!
//! The limit of hops is exact: a node is left by its cheapest way first, and when such ways are cut short by the limit,
//! by its dearer ways with fewer hops too (see `search.rs`).

mod cost;
mod graph;
mod search;

use crate::Key;

/// What makes a path the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// Least cost; nodes are visited in the order of the cost up to them and the straight line from there to the goal.
    AStar,
    /// Least cost; nodes are visited in the order of the cost up to them. Gives the path of [`Strategy::AStar`].
    Dijkstra,
    /// Fewest edges, and of those paths the cheapest.
    Hops,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Strategy; 3] = [Strategy::AStar, Strategy::Dijkstra, Strategy::Hops];

    /// Its name in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::AStar => "astar",
            Strategy::Dijkstra => "dijkstra",
            Strategy::Hops => "hops",
        }
    }

    /// The strategy of that name, in lower case; `None` if there is none.
    pub fn from_name(name: &str) -> Option<Strategy> {
        Strategy::ALL
            .into_iter()
            .find(|strategy| strategy.name() == name)
    }
}

/// Where the edges of a graph come from.
pub trait Edges {
    /// What can go wrong with getting them.
    type Error;

    /// For each node asked for, in order, the nodes it is connected with. May hold duplicates and the node itself. No
    /// node is asked for twice in a search. Every edge is to be told from both of its ends.
    fn of(&mut self, nodes: &[Key]) -> Result<Vec<Vec<Key>>, Self::Error>;

    /// Called at least once for every few thousand steps of work between two calls of [`Edges::of`], so that the
    /// caller may stop the search. Asks for the edges of no node unless it is implemented otherwise.
    fn check_cancel(&mut self) -> Result<(), Self::Error> {
        self.of(&[]).map(drop)
    }
}

/// A node of a path.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The node.
    pub key: Key,
    /// Cost from the start up to here; 0 for the first step.
    pub cost: f64,
}

/// Why a search ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError<E> {
    /// A start, a goal or the end of an edge that is not the key of an atom.
    #[error(transparent)]
    Key(crate::Error),
    /// The edges could not be had.
    #[error(transparent)]
    Edges(E),
    /// [`Edges::of`] answered with more or fewer lists than nodes it was asked for.
    #[error("edges of {given} nodes were given for {asked}")]
    Answer {
        /// Nodes asked for.
        asked: usize,
        /// Lists given.
        given: usize,
    },
    /// The search is larger than allowed; the number is the limit.
    #[error("search for a path needs more than {0} nodes")]
    TooLarge(usize),
}

/// The best path of at most `max_hops` edges, from its first node to its last with the cost up to each; `None` if there
/// is none. A path from a node to itself is that one step, and no edges are asked for.
///
/// - `batch`: at most so many nodes go into one call of [`Edges::of`] (at least one): the node whose edges are needed,
///   and those that seem to be next. It changes how often is asked and for how many nodes, never the path.
/// - `max_nodes`: reaching more distinct nodes than that is [`PathError::TooLarge`]. So is following more than 16 times
///   as many ways to them, which takes a tight limit of hops. The edges of nodes asked for are kept besides; how many
///   there are is up to `edges`.
///
/// Of paths equally good the one with fewer hops is taken, and of those the one whose keys, read from the end, come
/// first. So the answer depends on the graph alone, not on the order in which edges are told.
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
