//! A free list of byte buffers.
//!
//! Buffers of a mebibyte that pass between threads are neither zeroed nor, after the allocator has returned them to the
//! system, faulted in again.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::SMALL_CHUNK;

/// A free list shared by its clones. Buffers keep their content, so that a decoder need not zero them.
#[derive(Clone, Debug)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
    capacities: RangeInclusive<usize>,
}

impl Buffers {
    /// Creates a list that keeps at most `keep` buffers with capacities in this range of bytes. Smaller buffers are as
    /// cheap to allocate, and would have to grow.
    pub fn new(keep: usize, capacities: RangeInclusive<usize>) -> Buffers {
        Buffers {
            free: Arc::default(),
            keep,
            capacities,
        }
    }

    /// Creates a list for chunks of the usual sizes.
    pub fn for_chunks() -> Buffers {
        Buffers::new(32, SMALL_CHUNK + 1..=8 << 20)
    }

    /// Returns a used buffer with its content, or a new empty one.
    pub fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_default()
    }

    /// Returns a buffer to the list.
    pub fn give(&self, buffer: Vec<u8>) {
        if !self.capacities.contains(&buffer.capacity()) {
            return;
        }
        let mut free = self.lock();
        if free.len() < self.keep {
            free.push(buffer);
        }
    }

    /// A panic while the lock is held leaves the list intact.
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_may() {
        let buffers = Buffers::new(2, 100..=1000);
        assert!(buffers.take().is_empty());
        for bytes in [500, 2000, 99, 600, 700] {
            buffers.clone().give(vec![1; bytes]);
        }
        assert_eq!(buffers.take().len(), 600);
        assert_eq!(buffers.take().len(), 500);
        assert_eq!(buffers.take().capacity(), 0);
    }
}
