//! Divides a layer's attention into heads.

use super::config::Config;
use super::family::Family;
use super::sizes::{Parts, Sizes};
use super::{Heads, MAX_HEADS};

/// Head counts of a layer. All are above zero and at most [`MAX_HEADS`].
#[derive(Default)]
pub(super) struct HeadCounts {
    pub(super) query: Option<u64>,
    pub(super) key_value: Option<u64>,
    pub(super) dim: Option<u64>,
}

impl HeadCounts {
    /// Computes the counts from the configuration, completed by the shapes. Counts that contradict the shapes are
    /// dropped.
    pub(super) fn new(
        family: Option<Family>,
        parts: &Parts<'_>,
        sizes: &Sizes,
        config: &Config<'_>,
    ) -> HeadCounts {
        let (query_width, key_width) = widths(family, parts, sizes.hidden);
        let (query, dim) = match (config.num_heads(), config.head_dim(), query_width) {
            (Some(n), Some(d), Some(width)) if is_gated(n, d, width) => (Some(n), Some(d)),
            (Some(n), _, Some(width)) => split(width, n),
            (Some(n), Some(d), None) => (Some(n), Some(d)),
            (Some(n), None, None) => sizes.hidden.map_or((None, None), |hidden| split(hidden, n)),
            (None, Some(d), Some(width)) => {
                let (dim, n) = split(width, d);
                (n, dim)
            }
            (None, _, _) => (None, None),
        };
        let (Some(query), Some(dim)) = (query.filter(|&n| n <= MAX_HEADS), dim) else {
            return HeadCounts::default();
        };
        let from_shape = key_width.filter(|w| w.is_multiple_of(dim)).map(|w| w / dim);
        let key_value = from_shape
            .or(config.num_kv_heads())
            // By default, every query head has a key head.
            .unwrap_or(query);
        HeadCounts {
            query: Some(query),
            key_value: Some(key_value).filter(|&kv| kv > 0 && query.is_multiple_of(kv)),
            dim: Some(dim),
        }
    }

    /// All of them, if all are known.
    pub(super) fn heads(&self) -> Option<Heads> {
        let count = |n: u64| u32::try_from(n).ok();
        Some(Heads {
            count: count(self.query?)?,
            kv_count: count(self.key_value?)?,
            dim: self.dim.filter(|&dim| dim <= u32::MAX.into())?,
        })
    }
}

/// Returns whether the queries of `n` heads of `d` are stored together with a gate of the same size.
fn is_gated(n: u64, d: u64, width: u64) -> bool {
    n.checked_mul(d).and_then(|w| w.checked_mul(2)) == Some(width)
}

/// Returns `parts` and the size of each, if they divide `whole`.
fn split(whole: u64, parts: u64) -> (Option<u64>, Option<u64>) {
    match whole.checked_rem(parts) {
        Some(0) if whole > 0 => (Some(parts), Some(whole / parts)),
        _ => (None, None),
    }
}

/// Returns the widths of all queries and of all keys of a layer, if the shapes show them.
fn widths(
    family: Option<Family>,
    parts: &Parts<'_>,
    hidden: Option<u64>,
) -> (Option<u64>, Option<u64>) {
    match family {
        None => (None, None),
        Some(Family::Gpt2) => {
            let all = parts.width("attention.qkv", hidden);
            let keys_and_values = all.zip(hidden).and_then(|(all, h)| all.checked_sub(h));
            let key = keys_and_values
                .filter(|kv| *kv > 0 && kv.is_multiple_of(2))
                .map(|kv| kv / 2);
            (key.and(hidden), key)
        }
        Some(Family::Bert | Family::Llama) => (
            parts.width("attention.query", hidden),
            parts.width("attention.key", hidden),
        ),
    }
}
