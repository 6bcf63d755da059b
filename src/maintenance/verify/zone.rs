//! The pieces of tensors as recorded, each with its zone map, against what is decoded.

use crate::error::Result;
use crate::pg::arguments::to_sql_uuid;
use crate::pg::query::Row;
use crate::store::Store;
use crate::tensor_storage::locate::StoredTensor;
use modelstore_chunk::ChunkHash;
use modelstore_tensor::stats::Stats;
use pgrx::datum::Uuid as SqlUuid;
use uuid::Uuid;

type Figure = fn(&Stats) -> Option<f64>;
type Count = fn(&Stats) -> u64;

/// Columns of `tensor_data` of type double precision, and what they are of the elements.
const FIGURES: [(&str, Figure); 5] = [
    ("value_min", Stats::min),
    ("value_max", Stats::max),
    ("value_mean", Stats::mean),
    ("value_std", Stats::std),
    ("abs_max", Stats::abs_max),
];
/// Those of type bigint.
const COUNTS: [(&str, Count); 3] = [
    ("zero_count", |s| s.zeros),
    ("nan_count", |s| s.nans),
    ("inf_count", |s| s.infs),
];

/// A row of `tensor_data`.
pub struct Piece {
    /// The place of its tensor in the list.
    pub tensor: usize,
    /// The chunk that holds it.
    pub hash: ChunkHash,
    index: i64,
    first_element: i64,
    element_count: i64,
    figures: Vec<Option<f64>>,
    counts: Vec<Option<i64>>,
}

/// The pieces of several tensors, tensor after tensor.
pub fn pieces(store: &Store, tensors: &[Uuid]) -> Result<Vec<Piece>> {
    let ids: Vec<SqlUuid> = tensors.iter().map(|id| to_sql_uuid(*id)).collect();
    let columns: Vec<String> = FIGURES
        .iter()
        .map(|(name, _)| name)
        .chain(COUNTS.iter().map(|(name, _)| name))
        .map(|name| format!("d.{name}"))
        .collect();
    store.rows(
        &format!(
            "SELECT t.place, d.chunk_hash, d.chunk_index, d.first_element, d.element_count, {}
             FROM unnest($1) WITH ORDINALITY AS t(tensor_id, place) JOIN @store@.tensor_data d USING (tensor_id)
             ORDER BY t.place, d.chunk_index",
            columns.join(", ")
        ),
        &[ids.into()],
        read,
    )
}

fn read(row: &Row<'_>) -> Result<Piece> {
    let counts_from = 6 + FIGURES.len();
    Ok(Piece {
        tensor: usize::try_from(row.get::<i64>(1)? - 1).unwrap_or(0),
        hash: ChunkHash::from_slice(&row.get::<Vec<u8>>(2)?)?,
        index: row.get::<i32>(3)?.into(),
        first_element: row.get(4)?,
        element_count: row.get(5)?,
        figures: (6..counts_from)
            .map(|n| row.opt(n))
            .collect::<Result<_>>()?,
        counts: (counts_from..counts_from + COUNTS.len())
            .map(|n| row.opt(n))
            .collect::<Result<_>>()?,
    })
}

/// What is wrong with the places of a tensor's pieces.
pub fn wrong_order<'a>(
    tensor: &StoredTensor,
    pieces: impl Iterator<Item = &'a Piece>,
) -> Option<String> {
    let mut end = 0i64;
    for (index, piece) in (0..).zip(pieces) {
        if piece.index != index {
            return Some(format!("piece {index} has the index {}", piece.index));
        }
        if piece.first_element != end {
            return Some(format!(
                "piece {index} begins with element {}, not {end}",
                piece.first_element
            ));
        }
        end = end.saturating_add(piece.element_count);
    }
    let elements = tensor.shape.elements();
    (end as u64 != elements).then(|| format!("pieces have {end} elements, not {elements}"))
}

impl Piece {
    /// What its row says of the elements and is not so; `actual` is none for a type that has no figures.
    pub fn wrong_figures(&self, actual: Option<&Stats>) -> Option<String> {
        if let Some(actual) = actual
            && actual.count != self.element_count as u64
        {
            return Some(format!(
                "piece {} has {} elements, not {}",
                self.index, actual.count, self.element_count
            ));
        }
        let figures = FIGURES
            .iter()
            .zip(&self.figures)
            .filter(|((_, of), recorded)| {
                let actual = actual.and_then(of);
                match (actual, **recorded) {
                    (Some(a), Some(b)) => a != b && !(a.is_nan() && b.is_nan()),
                    (a, b) => a.is_some() != b.is_some(),
                }
            });
        let counts = COUNTS
            .iter()
            .zip(&self.counts)
            .filter(|((_, of), recorded)| actual.map(|stats| of(stats) as i64) != **recorded);
        let wrong: Vec<&str> = figures
            .map(|((name, _), _)| *name)
            .chain(counts.map(|((name, _), _)| *name))
            .collect();
        (!wrong.is_empty()).then(|| {
            format!(
                "zone map of piece {} is wrong: {}",
                self.index,
                wrong.join(", ")
            )
        })
    }
}
