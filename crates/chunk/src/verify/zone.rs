//! Compares recorded pieces and their zone maps with the decoded data.

use modelstore_tensor::stats::Stats;

use crate::port::StoredTensor;
use crate::{ChunkHash, PieceInfo};

type Figure = fn(&Stats) -> Option<f64>;
type Count = fn(&Stats) -> u64;

/// Numeric columns of a zone map, with the statistic of the elements that each contains.
pub const FIGURES: [(&str, Figure); 5] = [
    ("value_min", Stats::min),
    ("value_max", Stats::max),
    ("value_mean", Stats::mean),
    ("value_std", Stats::std),
    ("abs_max", Stats::abs_max),
];

/// Columns of a zone map that count elements.
pub const COUNTS: [(&str, Count); 3] = [
    ("zero_count", |s| s.zeros),
    ("nan_count", |s| s.nans),
    ("inf_count", |s| s.infs),
];

/// The record of a piece. Its numbers may have been changed by hand.
#[derive(Clone, Debug)]
pub struct RecordedPiece {
    /// The index of its tensor in the list.
    pub tensor: usize,
    /// The chunk that contains it.
    pub hash: ChunkHash,
    /// Its index in the tensor.
    pub index: i64,
    /// Row-major index of its first element.
    pub first_element: i64,
    /// Elements in it.
    pub element_count: i64,
    /// The zone map's [`FIGURES`].
    pub figures: [Option<f64>; FIGURES.len()],
    /// The zone map's [`COUNTS`].
    pub counts: [Option<i64>; COUNTS.len()],
}

impl RecordedPiece {
    /// Returns the record of a piece as it is inserted.
    pub fn new(tensor: usize, info: &PieceInfo) -> RecordedPiece {
        let stats = info.stats.as_ref();
        RecordedPiece {
            tensor,
            hash: info.hash,
            index: info.piece.index.into(),
            first_element: info.piece.first_element as i64,
            element_count: info.piece.element_count as i64,
            figures: FIGURES.map(|(_, of)| stats.and_then(of)),
            counts: COUNTS.map(|(_, of)| stats.map(|stats| of(stats) as i64)),
        }
    }

    /// The zone map; `None` for a type that has none.
    pub fn stats(&self) -> Option<Stats> {
        let [min, max, mean, std, abs_max] = self.figures;
        let [zeros, nans, infs] = self.counts;
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        Some(Stats {
            count: count(Some(self.element_count))?,
            min: min.unwrap_or(Stats::EMPTY.min),
            max: max.unwrap_or(Stats::EMPTY.max),
            mean: mean.unwrap_or(Stats::EMPTY.mean),
            std: std.unwrap_or(Stats::EMPTY.std),
            abs_max: abs_max.unwrap_or(Stats::EMPTY.abs_max),
            zeros: count(zeros)?,
            nans: count(nans)?,
            infs: count(infs)?,
        })
    }

    /// What is wrong with the zone map; `actual` is none for a type that has no figures.
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
            .zip(self.figures)
            .filter(
                |((_, of), recorded)| match (actual.and_then(of), *recorded) {
                    (Some(a), Some(b)) => a != b && !(a.is_nan() && b.is_nan()),
                    (a, b) => a.is_some() != b.is_some(),
                },
            );
        let counts = COUNTS
            .iter()
            .zip(self.counts)
            .filter(|((_, of), recorded)| actual.map(|stats| of(stats) as i64) != *recorded);
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

/// Returns the problem of the positions of a tensor's pieces.
pub fn wrong_order<'a>(
    tensor: &StoredTensor,
    pieces: impl Iterator<Item = &'a RecordedPiece>,
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
