//! Lower bounds of all plans, which let the search drop partial plans early without losing the best one.

use super::Chain;
use super::search::Ticker;
use crate::Result;

/// More bytes than any plan: marks a prefix that does not fit.
const NEVER: u64 = u64::MAX;

/// Relative bound of the rounding error of floating-point sums of one chain.
pub(super) const SLACK: f64 = 1e-9;

/// Returns the smallest peak of any plan. O(layers²), like the bounds below for each price.
pub(super) fn smallest_peak(chain: &Chain<'_>, ticker: &mut Ticker<'_>) -> Result<u64> {
    let n = chain.len();
    let mut peaks = vec![0u64; n + 1];
    for start in (0..n).rev() {
        let mut best = chain.activations(start, start + 1) + peaks[start + 1];
        for (end, after) in peaks.iter().enumerate().skip(start + 1) {
            let activations = chain.activations(start, end);
            best = best.min(chain.inputs[start] + activations.max(*after));
            if chain.inputs[start] + activations >= best {
                break;
            }
        }
        peaks[start] = best;
        ticker.count(n)?;
    }
    Ok(peaks[0])
}

/// Lower bounds for the layers before each layer, under a budget.
pub(super) struct Bounds {
    budget: u64,
    /// The fewest bytes that the layers before each can keep.
    fewest_kept: Vec<u64>,
    /// For each price of a byte: the least sum of work and price of kept bytes, of the layers before each.
    priced: Vec<(f64, Vec<f64>)>,
}

impl Bounds {
    pub(super) fn new(chain: &Chain<'_>, budget: u64, ticker: &mut Ticker<'_>) -> Result<Bounds> {
        let mut bounds = Bounds {
            budget,
            fewest_kept: fewest_kept(chain, budget, ticker)?,
            priced: Vec::new(),
        };
        // Any price gives a bound. The best are near the price of a byte of the whole chain, and then near the best so
        // far.
        let n = chain.len();
        let typical = chain.work(0, n) as f64 / chain.activations(0, n).max(1) as f64;
        let mut best = (bounds.add_price(chain, typical, ticker)?, typical);
        for step in [2.0, 0.5, 0.125, 0.03, 0.008, 0.002, 0.0005] {
            let around = best.1;
            for steps in [-4, -3, -2, -1, 1, 2, 3, 4] {
                let price = around * (f64::from(steps) * step).exp2();
                let bound = bounds.add_price(chain, price, ticker)?;
                if bound > best.0 {
                    best = (bound, price);
                }
            }
        }
        Ok(bounds)
    }

    /// Returns whether a peak of `peak` bytes from layer `start` on leaves room for the layers before.
    pub(super) fn fits(&self, start: usize, peak: u64) -> bool {
        let kept = self.fewest_kept[start];
        peak <= self.budget && kept <= self.budget - peak
    }

    /// Returns the least work that the layers before `start` add if those from it on peak at `peak`.
    pub(super) fn work_before(&self, start: usize, peak: u64) -> f64 {
        let room = self.budget.saturating_sub(peak) as f64 * (1.0 + SLACK);
        let bounds = self.priced.iter();
        bounds.fold(0.0, |most, (price, least)| {
            f64::max(most, least[start] * (1.0 - SLACK) - price * room)
        })
    }

    /// Returns the bound for the whole chain.
    fn add_price(&mut self, chain: &Chain<'_>, price: f64, ticker: &mut Ticker<'_>) -> Result<f64> {
        let n = chain.len();
        let mut least = vec![f64::INFINITY; n + 1];
        least[0] = 0.0;
        for start in 0..n {
            let before = least[start];
            let stored = before + price * chain.activations(start, start + 1) as f64;
            least[start + 1] = least[start + 1].min(stored);
            let recomputed = before + price * chain.inputs[start] as f64;
            let mut steps = 0;
            for (end, least) in least.iter_mut().enumerate().skip(start + 1) {
                let own = chain.inputs[start] + chain.activations(start, end);
                if !self.fits(start, own) {
                    break;
                }
                let sum = recomputed + chain.work(start, end) as f64;
                *least = least.min(sum);
                steps += 1;
            }
            ticker.count(steps)?;
        }
        let bound = least[n] - price * self.budget as f64;
        self.priced.push((price, least));
        Ok(bound)
    }
}

fn fewest_kept(chain: &Chain<'_>, budget: u64, ticker: &mut Ticker<'_>) -> Result<Vec<u64>> {
    let n = chain.len();
    let mut fewest = vec![NEVER; n + 1];
    fewest[0] = 0;
    for start in 0..n {
        let before = fewest[start];
        if before == NEVER {
            continue;
        }
        let stored = before + chain.activations(start, start + 1);
        if stored <= budget {
            fewest[start + 1] = fewest[start + 1].min(stored);
        }
        let recomputed = before + chain.inputs[start];
        for (end, fewest) in fewest.iter_mut().enumerate().skip(start + 1) {
            if recomputed + chain.activations(start, end) > budget {
                break;
            }
            *fewest = recomputed.min(*fewest);
        }
        ticker.count(n)?;
    }
    Ok(fewest)
}
