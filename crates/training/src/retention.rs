//! Retention: which checkpoints of a training run to keep.

use std::collections::HashSet;

use crate::{Error, Result};

/// A saved checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkpoint {
    /// The training step it was saved at.
    pub step: i64,
    /// The metric to choose the best by, where it was measured.
    pub metric: Option<f64>,
    /// Whether it is kept in any case.
    pub pinned: bool,
}

/// Which metric is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The smaller, as of a loss.
    Min,
    /// The larger, as of an accuracy.
    Max,
}

/// What to keep. A checkpoint is kept if any rule keeps it; the default keeps only what is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest.
    pub keep_last: usize,
    /// Those whose step this divides; of several checkpoints of one step the newest.
    pub keep_every: Option<i64>,
    /// How many with the best metric; of equal ones the newer. NaN is never best.
    pub keep_best: usize,
    /// Which metric is better.
    pub mode: Mode,
}

impl Default for Retention {
    fn default() -> Retention {
        Retention {
            keep_last: 0,
            keep_every: None,
            keep_best: 0,
            mode: Mode::Min,
        }
    }
}

/// Why a checkpoint is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is among the newest.
    Last,
    /// Its step is one of those to keep.
    Every,
    /// It is among the best.
    Best,
    /// It is pinned.
    Pinned,
}

/// Why each checkpoint is kept, in the order of [`Reason`]; one without a reason goes. The checkpoints stand from the
/// oldest to the newest, whatever their steps: a run that was resumed goes through steps again.
pub fn reasons_to_keep(
    checkpoints: &[Checkpoint],
    retention: &Retention,
) -> Result<Vec<Vec<Reason>>> {
    if let Some(interval) = retention.keep_every.filter(|&interval| interval < 1) {
        return Err(Error::Interval(interval));
    }
    let mut reasons = vec![Vec::new(); checkpoints.len()];
    for of_one in reasons.iter_mut().rev().take(retention.keep_last) {
        of_one.push(Reason::Last);
    }
    if let Some(interval) = retention.keep_every {
        let mut seen = HashSet::new();
        for (checkpoint, of_one) in checkpoints.iter().zip(&mut reasons).rev() {
            if checkpoint.step % interval == 0 && seen.insert(checkpoint.step) {
                of_one.push(Reason::Every);
            }
        }
    }
    for index in best(checkpoints, retention.mode).take(retention.keep_best) {
        reasons[index].push(Reason::Best);
    }
    for (checkpoint, of_one) in checkpoints.iter().zip(&mut reasons) {
        if checkpoint.pinned {
            of_one.push(Reason::Pinned);
        }
    }
    Ok(reasons)
}

/// Places of the checkpoints with a metric, the best first.
fn best(checkpoints: &[Checkpoint], mode: Mode) -> impl Iterator<Item = usize> {
    // Newer ones first, which a stable sort keeps so. Adding 0 makes one zero of the two.
    let newest_first = checkpoints.iter().enumerate().rev();
    let mut measured: Vec<(f64, usize)> = newest_first
        .filter_map(|(index, c)| Some((c.metric.filter(|m| !m.is_nan())? + 0.0, index)))
        .collect();
    measured.sort_by(|a, b| match mode {
        Mode::Min => a.0.total_cmp(&b.0),
        Mode::Max => b.0.total_cmp(&a.0),
    });
    measured.into_iter().map(|(_, index)| index)
}
