//! Retention: which checkpoints of a training run to keep.

use std::collections::{HashMap, HashSet};

use crate::{Error, Result};

/// A saved checkpoint.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Checkpoint {
    /// The training step it was saved at.
    pub step: i64,
    /// The metric that ranks it, if it was recorded.
    pub metric: Option<f64>,
    /// Whether it is always kept.
    pub pinned: bool,
    /// Its run, by number; `None` for a checkpoint without a run.
    pub run: Option<usize>,
    /// Its position in the order of creation, which differs from that of steps once a run was resumed.
    pub made: i64,
    /// Whether its run is running.
    pub running: bool,
    /// Whether another run, or a model, continues it.
    pub continued: bool,
}

/// Which values of the metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Smaller ones, as for a loss.
    Min,
    /// Larger ones, as for an accuracy.
    Max,
}

/// What to keep of each run. A checkpoint is kept if any rule keeps it; the default keeps only those that are always
/// kept: pinned ones, the newest of a running run, and those that another run continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How many of the newest.
    pub keep_last: usize,
    /// Those whose step is divisible by this; of several checkpoints of one step the newest.
    pub keep_every: Option<i64>,
    /// How many with the best metric; of equal ones the newer. NaN is never best.
    pub keep_best: usize,
    /// Which values of the metric are better.
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
    /// Its step is divisible by the interval.
    Every,
    /// It is among the best.
    Best,
    /// It is pinned.
    Pinned,
    /// It is the newest of a running run, by step or by creation: what that run would be resumed from.
    Running,
    /// Another run or a model continues it.
    Branch,
}

/// Returns why each checkpoint is kept, in the order of [`Reason`]; one without a reason is to be deleted. The
/// checkpoints are ordered from the oldest to the newest. Each run is pruned separately, and so are the checkpoints
/// without a run: what is kept of one does not depend on another. O(checkpoints · log checkpoints).
pub fn reasons_to_keep(
    checkpoints: &[Checkpoint],
    retention: &Retention,
) -> Result<Vec<Vec<Reason>>> {
    if let Some(interval) = retention.keep_every.filter(|&interval| interval < 1) {
        return Err(Error::Interval(interval));
    }
    let mut runs: HashMap<Option<usize>, Vec<usize>> = HashMap::new();
    for (index, checkpoint) in checkpoints.iter().enumerate() {
        runs.entry(checkpoint.run).or_default().push(index);
    }
    let mut reasons = vec![Vec::new(); checkpoints.len()];
    for places in runs.into_values() {
        let of_run: Vec<Checkpoint> = places.iter().map(|&place| checkpoints[place]).collect();
        for (place, of_one) in places.into_iter().zip(of_one_run(&of_run, retention)) {
            reasons[place] = of_one;
        }
    }
    Ok(reasons)
}

fn of_one_run(checkpoints: &[Checkpoint], retention: &Retention) -> Vec<Vec<Reason>> {
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
    let made_last = checkpoints.iter().map(|checkpoint| checkpoint.made).max();
    let newest = checkpoints.len().saturating_sub(1);
    for (index, (checkpoint, of_one)) in checkpoints.iter().zip(&mut reasons).enumerate() {
        if checkpoint.pinned {
            of_one.push(Reason::Pinned);
        }
        if checkpoint.running && (index == newest || Some(checkpoint.made) == made_last) {
            of_one.push(Reason::Running);
        }
        if checkpoint.continued {
            of_one.push(Reason::Branch);
        }
    }
    reasons
}

/// Returns the indexes of the checkpoints with a metric, the best first.
fn best(checkpoints: &[Checkpoint], mode: Mode) -> impl Iterator<Item = usize> {
    // Newer ones first; the stable sort keeps that order. Adding 0 turns -0 into 0.
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
