//! Paths between atoms, along composition and proximity.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::key::missing;
use crate::atom::places::StoredPlaces;
use crate::atom::statement::{codes, key_in, keys};
use crate::atom::store_for_reading;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::scratch::in_scratch_memory;
use crate::store::Store;
use modelstore_atom::Key;
use modelstore_atom::path::{Edges, PathError, Step, Strategy, find_path as search};
use modelstore_atom::spatial::nearest;
use pgrx::prelude::*;

/// Atoms expanded at once: their edges take one statement for all.
const COMPOSITION_BATCH: usize = 64;
/// Atoms expanded at once if each needs its own search for neighbours.
const NEIGHBOUR_BATCH: usize = 4;
/// Distinct atoms that a search may reach before it fails with 54000.
const MAX_NODES: usize = 1_000_000;

/// The search reaches at most [`MAX_NODES`] atoms.
#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn find_path(
    from_atom: Option<AtomArgument>,
    to_atom: Option<AtomArgument>,
    max_hops: default!(Option<i32>, 10),
    strategy: default!(Option<&str>, "'astar'"),
    edges: default!(Option<Vec<Option<String>>>, "'{composition,neighbour}'"),
    neighbours: default!(Option<i32>, 8),
) -> TableIterator<
    'static,
    (
        name!(hop, i32),
        name!(h_xy, i64),
        name!(h_yz, i64),
        name!(h_zm, i64),
        name!(cost, f64),
    ),
> {
    let steps = or_raise((|| {
        let (from, to) = (
            key_argument(from_atom, "from_atom")?,
            key_argument(to_atom, "to_atom")?,
        );
        let hops = required(max_hops, "max_hops")?;
        let hops = u32::try_from(hops).map_err(|_| out_of_range("maximum of hops", hops))?;
        let strategy = strategy_argument(required(strategy, "strategy")?)?;
        let kinds = kinds_argument(required(edges, "edges")?)?;
        let k = required(neighbours, "neighbours")?;
        let k = usize::try_from(k).map_err(|_| out_of_range("number of neighbours", k))?;
        let store = store_for_reading()?;
        store.snapshot().with(|| {
            let mut edges = StoredEdges {
                places: StoredPlaces::open(&store)?,
                store: store.clone(),
                composition: kinds.composition,
                neighbours: if kinds.neighbour { k } else { 0 },
            };
            edges.require(from)?;
            edges.require(to)?;
            let batch = if edges.neighbours > 0 {
                NEIGHBOUR_BATCH
            } else {
                COMPOSITION_BATCH
            };
            let found = search(&mut edges, from, to, hops, strategy, batch, MAX_NODES);
            Ok(found.map_err(failure)?.unwrap_or_default())
        })
    })());
    TableIterator::new(
        steps
            .into_iter()
            .enumerate()
            .map(|(hop, Step { key, cost })| (hop as i32, key.h_xy, key.h_yz, key.h_zm, cost)),
    )
}

/// The edges in the store.
struct StoredEdges {
    store: Store,
    places: StoredPlaces,
    /// From a composite to its parts and back.
    composition: bool,
    /// To this number of nearest atoms of the same modality.
    neighbours: usize,
}

impl StoredEdges {
    /// Raises an error unless an atom exists.
    fn require(&self, key: Key) -> Result<()> {
        let there = self.store.row(
            "SELECT 1 FROM @store@.atoms WHERE h_xy = $1 AND h_yz = $2 AND h_zm = $3",
            &codes(key),
            |row| row.get::<i32>(1),
        )?;
        there.map(drop).ok_or_else(|| missing(key))
    }

    /// Adds the edges between composites and parts.
    fn composed(&self, nodes: &[Key], edges: &mut [Vec<Key>]) -> Result<()> {
        self.store.query(
            "SELECT k.number, p.h_xy, p.h_yz, p.h_zm
             FROM unnest($1, $2, $3) WITH ORDINALITY k(h_xy, h_yz, h_zm, number)
             CROSS JOIN LATERAL (
                 SELECT p.h_xy, p.h_yz, p.h_zm FROM @store@.atom_parts p
                 WHERE p.parent_h_xy = k.h_xy AND p.parent_h_yz = k.h_yz AND p.parent_h_zm = k.h_zm
                 UNION ALL
                 SELECT p.parent_h_xy, p.parent_h_yz, p.parent_h_zm FROM @store@.atom_parts p
                 WHERE p.h_xy = k.h_xy AND p.h_yz = k.h_yz AND p.h_zm = k.h_zm OFFSET 0) p",
            &keys(nodes.iter().copied()),
            |row| {
                let number = row.get::<i64>(1)? as usize - 1;
                edges[number].push(key_in(row, 2)?);
                Ok(())
            },
        )
    }
}

impl Edges for StoredEdges {
    type Error = Failure;

    fn check_cancel(&mut self) -> Result<()> {
        pgrx::check_for_interrupts!();
        Ok(())
    }

    fn of(&mut self, nodes: &[Key]) -> Result<Vec<Vec<Key>>> {
        let mut edges = vec![Vec::new(); nodes.len()];
        if self.composition {
            in_scratch_memory(|| self.composed(nodes, &mut edges))?;
        }
        if self.neighbours > 0 {
            for (key, edges) in nodes.iter().zip(&mut edges) {
                let (modality, point) = key.parts()?;
                // One more, as the nearest atom is the atom itself.
                let near = nearest(
                    &mut self.places,
                    &point,
                    self.neighbours + 1,
                    Some(modality),
                )?;
                edges.extend(near.iter().map(|n| n.key).filter(|other| other != key));
            }
        }
        Ok(edges)
    }
}

struct Kinds {
    composition: bool,
    neighbour: bool,
}

fn kinds_argument(names: Vec<Option<String>>) -> Result<Kinds> {
    let mut kinds = Kinds {
        composition: false,
        neighbour: false,
    };
    for name in names {
        match name.as_deref() {
            Some("composition") => kinds.composition = true,
            Some("neighbour") => kinds.neighbour = true,
            other => {
                let other = other.unwrap_or("NULL");
                return Err(Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("kind of edges \"{other}\" does not exist"),
                )
                .detail("Edges are of the kinds composition and neighbour."));
            }
        }
    }
    Ok(kinds)
}

fn strategy_argument(name: &str) -> Result<Strategy> {
    Strategy::from_name(name).ok_or_else(|| {
        let names = Strategy::ALL.map(Strategy::name).join(", ");
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("strategy \"{name}\" does not exist"),
        )
        .detail(format!("Strategies are {names}."))
    })
}

fn out_of_range(what: &str, value: i32) -> Failure {
    Failure::new(
        Code::ERRCODE_INVALID_PARAMETER_VALUE,
        format!("{what} {value} is out of range"),
    )
    .detail("It is 0 or more.")
}

fn failure(error: PathError<Failure>) -> Failure {
    match error {
        PathError::Key(error) => error.into(),
        PathError::Edges(failure) => failure,
        PathError::TooLarge(nodes) => Failure::new(
            Code::ERRCODE_PROGRAM_LIMIT_EXCEEDED,
            format!("search for a path needs more than {nodes} atoms"),
        )
        .detail("Fewer hops or fewer neighbours make a search smaller."),
        _ => Failure::new(
            Code::ERRCODE_INTERNAL_ERROR,
            "edges were given for other atoms than were asked for",
        ),
    }
}
