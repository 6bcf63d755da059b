//! A free list of byte buffers.
//!
//! Buffers of a mebibyte that go round between threads are neither zeroed nor, where the allocator gave them back to
//! the system, faulted in again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A free list that clones share. Buffers come back with what they held, so that a decoder need not zero them.
#[derive(Clone, Debug)]
pub struct Buffers {
    free: Arc<Mutex<Vec<Vec<u8>>>>,
    keep: usize,
    largest: usize,
}

impl Buffers {
    /// A list that keeps at most `keep` buffers, none of them with a capacity above `largest` bytes.
    pub fn new(keep: usize, largest: usize) -> Buffers {
        Buffers {
            free: Arc::default(),
            keep,
            largest,
        }
    }

    /// A used buffer as it was given back, or a new empty one.
    pub fn take(&self) -> Vec<u8> {
        self.lock().pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&self, buffer: Vec<u8>) {
        if buffer.capacity() == 0 || buffer.capacity() > self.largest {
            return;
        }
        let mut free = self.lock();
        if free.len() < self.keep {
            free.push(buffer);
        }
    }

    /// A panic while the lock is held leaves a list of good buffers.
    fn lock(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_it_may() {
        let buffers = Buffers::new(2, 1000);
        assert!(buffers.take().is_empty());
        for bytes in [500, 2000, 0, 600, 700] {
            buffers.clone().give(vec![1; bytes]);
        }
        assert_eq!(buffers.take().len(), 600);
        assert_eq!(buffers.take().len(), 500);
        assert_eq!(buffers.take().capacity(), 0);
    }
}
