//! The search for the best plan: dynamic programming from the last layer to the first.
//!
//! For the layers from `start` on, a partial plan has a peak (with nothing kept before them) and extra work. Prepending
//! a segment keeps the order of both, so only plans that no other beats in both can be part of the best one: the Pareto
//! front of `start`.

use std::ops::ControlFlow;

use super::bounds::{Bounds, SLACK, smallest_peak};
use super::{Chain, Layer, MAX_PARTIAL_PLANS, Plan, Policy, Segment};
use crate::{Error, Result};

/// Steps between two checks for cancellation, well below a millisecond.
const STEPS_BETWEEN_QUESTIONS: usize = 4096;

/// Steps that an estimate of the work before a plan counts for.
const STEPS_OF_ESTIMATE: usize = 32;

/// A front is sorted when it has grown to twice its size, or to twice this.
const COMPACT_AT: usize = 256;

/// The size of fronts in the first search, and the factor by which each further search increases it.
const FIRST_WIDTH: usize = 2;
const WIDENING: usize = 16;

/// Finds the best plan for a chain of layers.
///
/// With a budget in bytes: among the plans whose peak fits, one of the least extra work, and among these one of the
/// smallest peak. Without: among the plans of the smallest peak, one of the least extra work. Equal input gives an
/// equal result. `go_on` is called every few thousand steps.
///
/// Time and memory depend on the size of the Pareto fronts: small for layers that are equal, of a few kinds, or whose
/// costs are unrelated; exponential if work is proportional to bytes and no two layers are alike. A search that reaches
/// [`MAX_PARTIAL_PLANS`] returns the best plan so far, which fits but is not [`Plan::exact`].
pub fn plan(
    input_bytes: u64,
    layers: &[Layer],
    budget: Option<u64>,
    go_on: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Plan> {
    let chain = Chain::new(input_bytes, layers)?;
    let mut ticker = Ticker { go_on, steps: 0 };
    let smallest_peak = smallest_peak(&chain, &mut ticker)?;
    let budget = budget.unwrap_or(smallest_peak);
    let too_small = Error::BudgetTooSmall {
        budget,
        smallest_peak,
    };
    if budget < smallest_peak {
        return Err(too_small);
    }
    let bounds = Bounds::new(&chain, budget, &mut ticker)?;
    let mut search = Search {
        chain: &chain,
        bounds: &bounds,
        ticker,
        width: FIRST_WIDTH,
        cut: false,
        work_limit: u64::MAX,
    };
    // A narrow search soon finds a good plan, whose cost lets the next search drop more. When nothing was truncated,
    // the last search was exact.
    let mut best = None;
    loop {
        search.cut = false;
        match search.run()? {
            Outcome::Found(found) => {
                search.work_limit = found.extra_work;
                best = Some(found);
            }
            Outcome::Nothing => {}
            Outcome::TooLarge => break,
        }
        if !search.cut {
            if let Some(best) = &mut best {
                best.exact = true;
            }
            break;
        }
        search.width = search.width.saturating_mul(WIDENING);
    }
    best.ok_or(too_small)
}

/// Asks the caller from time to time whether to continue.
pub(super) struct Ticker<'a> {
    go_on: &'a mut dyn FnMut() -> ControlFlow<()>,
    steps: usize,
}

impl Ticker<'_> {
    pub(super) fn count(&mut self, steps: usize) -> Result<()> {
        self.steps += steps;
        if self.steps >= STEPS_BETWEEN_QUESTIONS {
            self.steps = 0;
            if (self.go_on)().is_break() {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }
}

/// A plan for the layers from one on: its first segment, and the plan that follows.
#[derive(Clone, Copy)]
struct Partial {
    peak: u64,
    work: u64,
    /// The index in the front after the first segment.
    rest: u32,
    /// The end of the first segment; [`super::MAX_LAYERS`] fits.
    end: u16,
    policy: Policy,
}

/// How a search ended.
enum Outcome {
    Found(Plan),
    /// No plan within the limit on work.
    Nothing,
    /// More plans than [`MAX_PARTIAL_PLANS`].
    TooLarge,
}

struct Search<'a> {
    chain: &'a Chain<'a>,
    bounds: &'a Bounds,
    ticker: Ticker<'a>,
    /// Maximum number of plans that stay in a front.
    width: usize,
    /// Whether a plan was dropped only for that.
    cut: bool,
    /// The work of the best known plan.
    work_limit: u64,
}

impl Search<'_> {
    fn run(&mut self) -> Result<Outcome> {
        let n = self.chain.len();
        let mut fronts: Vec<Vec<Partial>> = vec![Vec::new(); n + 1];
        fronts[n].push(Partial {
            peak: 0,
            work: 0,
            rest: 0,
            end: 0,
            policy: Policy::Store,
        });
        let mut total = 0usize;
        for start in (0..n).rev() {
            let Some(front) = self.front(start, &fronts, total)? else {
                return Ok(Outcome::TooLarge);
            };
            fronts[start] = self.hopeful(start, &front)?;
            total += fronts[start].len();
        }
        // Sorted by peak, so the last has the least work; of equal work only the smallest peak is left.
        let Some(root) = fronts[0].last() else {
            return Ok(Outcome::Nothing);
        };
        Ok(Outcome::Found(self.chain.plan(&segments(root, &fronts, n))))
    }

    /// Drops plans that are known to end above the work limit, and all but the most promising of too many.
    fn hopeful(&mut self, start: usize, plans: &[Partial]) -> Result<Vec<Partial>> {
        let most = self.work_limit as f64 * (1.0 + SLACK);
        let mut hopeful: Vec<(f64, Partial)> = Vec::new();
        for plan in plans {
            let least = self.bounds.work_before(start, plan.peak) + plan.work as f64;
            if least * (1.0 - SLACK) <= most {
                hopeful.push((least, *plan));
            }
            self.ticker.count(STEPS_OF_ESTIMATE)?;
        }
        if hopeful.len() > self.width {
            // The first leaves most room, so that at least one plan is always left in the end.
            hopeful[1..].select_nth_unstable_by(self.width - 1, |a, b| a.0.total_cmp(&b.0));
            hopeful.truncate(self.width);
            hopeful.sort_by_key(|(_, plan)| plan.peak);
            self.cut = true;
        }
        Ok(hopeful.into_iter().map(|(_, plan)| plan).collect())
    }

    /// Returns the front of `start` without bounds on work; `None` if there are too many plans.
    fn front(
        &mut self,
        start: usize,
        fronts: &[Vec<Partial>],
        total: usize,
    ) -> Result<Option<Vec<Partial>>> {
        let mut front = Front::default();
        let own = self.chain.activations(start, start + 1);
        let stored = fronts[start + 1].iter().enumerate();
        front.merge(stored.map_while(|(rest, after)| {
            let peak = own + after.peak;
            self.bounds.fits(start, peak).then_some(Partial {
                peak,
                work: after.work,
                rest: rest as u32,
                end: (start + 1) as u16,
                policy: Policy::Store,
            })
        }));
        let input = self.chain.inputs[start];
        for (end, after) in fronts.iter().enumerate().skip(start + 1) {
            let activations = self.chain.activations(start, end);
            if !self.bounds.fits(start, input + activations) {
                break;
            }
            let work = self.chain.work(start, end);
            // Of those that the segment itself tops, the last has the least work.
            let topped = after.partition_point(|after| after.peak <= activations);
            let first = topped.saturating_sub(1);
            let recomputed = after.iter().enumerate().skip(first);
            let steps = front.merge(recomputed.map_while(|(rest, after)| {
                let peak = input + activations.max(after.peak);
                self.bounds.fits(start, peak).then_some(Partial {
                    peak,
                    work: work + after.work,
                    rest: rest as u32,
                    end: end as u16,
                    policy: Policy::Recompute,
                })
            }));
            self.ticker.count(steps)?;
            if total + front.len() > MAX_PARTIAL_PLANS {
                front.compact();
                if total + front.len() > MAX_PARTIAL_PLANS {
                    return Ok(None);
                }
            }
        }
        front.compact();
        Ok(Some(front.plans))
    }
}

/// A growing Pareto front: plans by peak, each with less work than all before it, and newer ones at the end.
#[derive(Default)]
struct Front {
    plans: Vec<Partial>,
    /// How many are sorted.
    sorted: usize,
}

impl Front {
    fn len(&self) -> usize {
        self.plans.len()
    }

    /// Adds plans in the order of peaks, and returns their number.
    fn merge(&mut self, plans: impl Iterator<Item = Partial>) -> usize {
        let mut count = 0;
        let mut smaller = None;
        for plan in plans {
            count += 1;
            let sorted = &self.plans[..self.sorted];
            let mut place =
                smaller.unwrap_or_else(|| sorted.partition_point(|p| p.peak <= plan.peak));
            while sorted.get(place).is_some_and(|p| p.peak <= plan.peak) {
                place += 1;
            }
            smaller = Some(place);
            let rival = place.checked_sub(1).map(|place| sorted[place].work);
            if rival.is_none_or(|work| plan.work < work) {
                self.plans.push(plan);
            }
        }
        if self.plans.len() > 2 * self.sorted.max(COMPACT_AT) {
            self.compact();
        }
        count
    }

    fn compact(&mut self) {
        self.plans.sort_by_key(|p| (p.peak, p.work));
        let mut least = None;
        self.plans.retain(|p| {
            let better = least.is_none_or(|least| p.work < least);
            if better {
                least = Some(p.work);
            }
            better
        });
        self.sorted = self.plans.len();
    }
}

fn segments(root: &Partial, fronts: &[Vec<Partial>], n: usize) -> Vec<Segment> {
    let mut segments = Vec::new();
    let (mut start, mut partial) = (0, *root);
    while start < n {
        let end = usize::from(partial.end);
        segments.push(Segment {
            start,
            end,
            policy: partial.policy,
        });
        partial = fronts[end][partial.rest as usize];
        start = end;
    }
    segments
}
