//! Work that must process its items in order, done by any of several threads.
//!
//! Threads pass numbered items in any order; each item is processed after all before it, by one thread at a time.
//! Hashing a file is such work: the threads that hash its pieces also do this, and the owner's thread stays free for
//! the database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbered items, from 0, and the work to do on each in turn.
pub struct InOrder<T> {
    queue: Mutex<Queue<T>>,
    work: Mutex<Box<dyn FnMut(T) + Send>>,
}

struct Queue<T> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    /// Whether a thread is working; it also takes items that arrive meanwhile.
    busy: bool,
}

impl<T> InOrder<T> {
    /// Creates an empty queue.
    pub fn new(work: impl FnMut(T) + Send + 'static) -> InOrder<T> {
        InOrder {
            queue: Mutex::new(Queue {
                next: 0,
                waiting: BTreeMap::new(),
                busy: false,
            }),
            work: Mutex::new(Box::new(work)),
        }
    }

    /// Passes item `number`, and processes all that are due unless another thread is doing so.
    pub fn give(&self, number: usize, item: T) {
        let mut queue = lock(&self.queue);
        queue.waiting.insert(number, item);
        if queue.busy {
            return;
        }
        queue.busy = true;
        loop {
            let next = queue.next;
            let Some(item) = queue.waiting.remove(&next) else {
                break;
            };
            drop(queue);
            lock(&self.work)(item);
            queue = lock(&self.queue);
            queue.next += 1;
        }
        queue.busy = false;
    }

    /// Returns the number of items processed.
    pub fn done(&self) -> usize {
        lock(&self.queue).next
    }
}

/// A panic of the work leaves the queue busy forever, so nothing more is done; the owner gets the panic as the error of
/// the job in which it happened.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn any_order_in_numbers_out() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let in_order = InOrder::new(move |n: usize| lock(&sink).push(n));
        for number in [3, 1, 0, 2] {
            in_order.give(number, number);
        }
        assert_eq!(*lock(&seen), [0, 1, 2, 3]);
        assert_eq!(in_order.done(), 4);
        in_order.give(5, 5);
        assert_eq!(in_order.done(), 4);
    }

    #[test]
    fn threads_together_miss_nothing() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let in_order = InOrder::new(move |n: usize| lock(&sink).push(n));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let in_order = &in_order;
                scope.spawn(move || {
                    (0..1000)
                        .rev()
                        .for_each(|i| in_order.give(i * 4 + thread, i * 4 + thread))
                });
            }
        });
        assert_eq!(*lock(&seen), (0..4000).collect::<Vec<_>>());
    }
}
