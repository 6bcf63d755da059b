//! Work that must see its items in order, done by whichever thread comes by.
//!
//! Threads hand over numbered items in any order; each item is worked on once all before it have been, by one thread
//! at a time. A hash over a file is such work: the threads that hash its pieces feed it, and the owner's thread is
//! free for the database.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Numbered items, from 0, and what is done with each in turn.
pub struct InOrder<T> {
    queue: Mutex<Queue<T>>,
    work: Mutex<Box<dyn FnMut(T) + Send>>,
}

struct Queue<T> {
    next: usize,
    waiting: BTreeMap<usize, T>,
    /// Whether a thread is at work; it takes what comes meanwhile.
    busy: bool,
}

impl<T> InOrder<T> {
    /// Nothing handed over yet.
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

    /// Hands over item `number`, and works on all that are due unless another thread does.
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

    /// Items worked on so far.
    pub fn done(&self) -> usize {
        lock(&self.queue).next
    }
}

/// A panic of the work leaves the queue busy for ever, so that nothing more is done: the owner sees the panic as the
/// error of the job that met it.
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
