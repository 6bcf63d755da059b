//! Worker threads for an owner that alone may access the database.
//!
//! The owner submits jobs and takes results in the same order. Jobs and results own their data, at most
//! [`Workers::in_flight`] of them exist at once, and while the owner waits it calls a check every few milliseconds, so
//! that a query can be cancelled. A panic in a job is an error of that job. If the owner leaves early, by error or
//! unwinding, dropping the pipeline waits until no job is running.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::{Error, Result};

/// How long the owner waits between two checks.
const LOOK_AROUND: Duration = Duration::from_millis(10);

/// Threads for pipelines.
pub struct Workers {
    pool: ThreadPool,
    threads: usize,
}

impl Workers {
    /// Starts `threads` threads (at least one). Each runs `on_start` first: in a server, to block signals, which only
    /// the main thread may handle.
    pub fn new(threads: usize, on_start: impl Fn() + Send + Sync + 'static) -> Result<Workers> {
        let threads = threads.max(1);
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("modelstore {i}"))
            .start_handler(move |_| on_start())
            .build()
            .map(|pool| Workers { pool, threads })
            .map_err(|e| Error::Threads {
                threads,
                reason: e.to_string(),
            })
    }

    /// Returns the number of threads.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Returns the maximum number of jobs and results of a pipeline that exist at once: enough to keep the threads busy
    /// while the owner handles a result.
    pub fn in_flight(&self) -> usize {
        2 * self.threads + 2
    }
}

/// A thread's message: the number of the job, and the result unless the job was dropped.
type Message<R> = (usize, Option<Result<R>>);

/// An ordered parallel map. See the [module](self).
pub struct Pipeline<'w, J, R> {
    workers: &'w Workers,
    run: Arc<dyn Fn(J) -> R + Send + Sync>,
    cancelled: Arc<AtomicBool>,
    sender: Sender<Message<R>>,
    receiver: Receiver<Message<R>>,
    /// Results of the jobs in flight, oldest first; `None` while one runs.
    slots: VecDeque<Option<Result<R>>>,
    /// Number of the job in the first slot.
    first: usize,
    /// Jobs whose message has not arrived.
    outstanding: usize,
}

impl<'w, J: Send + 'static, R: Send + 'static> Pipeline<'w, J, R> {
    /// Creates a pipeline that runs `run` on each job.
    pub fn new(workers: &'w Workers, run: impl Fn(J) -> R + Send + Sync + 'static) -> Self {
        let (sender, receiver) = channel();
        Pipeline {
            workers,
            run: Arc::new(run),
            cancelled: Arc::default(),
            sender,
            receiver,
            slots: VecDeque::with_capacity(workers.in_flight()),
            first: 0,
            outstanding: 0,
        }
    }

    /// Creates a pipeline with states, such as encoders: a job has one for itself while it runs, later jobs reuse it.
    pub fn with_state<S: Send + 'static>(
        workers: &'w Workers,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Self {
        let states = StatePool {
            idle: Mutex::new(Vec::new()),
        };
        Pipeline::new(workers, move |job| {
            let mut state = states.take().unwrap_or_else(&make);
            let result = run(&mut state, job);
            // After a panic the state is dropped, as it may be inconsistent.
            states.give(state);
            result
        })
    }

    /// Returns whether the bound is reached, so that a result must be taken before the next job.
    pub fn is_full(&self) -> bool {
        self.slots.len() >= self.workers.in_flight()
    }

    /// Returns the number of submitted jobs whose result has not been taken.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether every result has been taken.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Submits a job to the threads; returns it if the pipeline is full.
    pub fn submit(&mut self, job: J) -> Result<(), J> {
        if self.is_full() {
            return Err(job);
        }
        let number = self.first + self.slots.len();
        self.slots.push_back(None);
        self.outstanding += 1;
        let (run, cancelled, sender) = (
            self.run.clone(),
            self.cancelled.clone(),
            self.sender.clone(),
        );
        self.workers.pool.spawn(move || {
            let result = if cancelled.load(Ordering::Acquire) {
                // Dropping a job may panic as well.
                let _ = catch_unwind(AssertUnwindSafe(|| drop(job)));
                None
            } else {
                let done = catch_unwind(AssertUnwindSafe(|| run(job)));
                Some(done.map_err(|panic| Error::WorkerPanic(panic_text(panic))))
            };
            // Drop before sending: after the message the owner may destroy what the closure refers to.
            drop(run);
            // Fails only if the pipeline is gone, which waits for this message first.
            let _ = sender.send((number, result));
        });
        Ok(())
    }

    /// Returns the next result in the order of submission if it is ready; `None` while its job runs and if there is
    /// none.
    pub fn try_next(&mut self) -> Option<Result<R>> {
        while let Ok(message) = self.receiver.try_recv() {
            self.sort_in(message);
        }
        self.pop()
    }

    /// Waits for the next result in the order of submission; `None` if every result has been taken. Meanwhile calls
    /// `check` at once and then at least every 20 ms, and stops with its error.
    pub fn next<E: From<Error>>(
        &mut self,
        check: &mut impl FnMut() -> Result<(), E>,
    ) -> Result<Option<R>, E> {
        loop {
            check()?;
            if let Some(result) = self.try_next() {
                return Ok(Some(result?));
            }
            if self.slots.is_empty() {
                return Ok(None);
            }
            if let Ok(message) = self.receiver.recv_timeout(LOOK_AROUND) {
                self.sort_in(message);
            }
        }
    }

    /// Runs all jobs of an iterator and passes each result to `sink`, in order.
    pub fn drive<E: From<Error>>(
        &mut self,
        jobs: impl IntoIterator<Item = Result<J, E>>,
        check: &mut impl FnMut() -> Result<(), E>,
        mut sink: impl FnMut(R) -> Result<(), E>,
    ) -> Result<(), E> {
        for job in jobs {
            let mut job = job?;
            while let Err(back) = self.submit(job) {
                job = back;
                if let Some(result) = self.next(check)? {
                    sink(result)?;
                }
            }
        }
        while let Some(result) = self.next(check)? {
            sink(result)?;
        }
        Ok(())
    }

    fn sort_in(&mut self, (number, result): Message<R>) {
        self.outstanding -= 1;
        if let Some(slot) = self.slots.get_mut(number.wrapping_sub(self.first)) {
            *slot = result;
        }
    }

    fn pop(&mut self) -> Option<Result<R>> {
        let result = self.slots.front_mut()?.take()?;
        self.slots.pop_front();
        self.first += 1;
        Some(result)
    }
}

impl<J, R> Drop for Pipeline<'_, J, R> {
    /// Drops jobs that have not started; waits for those that have.
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Release);
        while self.outstanding > 0 {
            // Cannot fail, as `self.sender` lives.
            if self.receiver.recv().is_err() {
                break;
            }
            self.outstanding -= 1;
        }
    }
}

struct StatePool<S> {
    idle: Mutex<Vec<S>>,
}

impl<S> StatePool<S> {
    fn take(&self) -> Option<S> {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop()
    }

    fn give(&self, state: S) {
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(state);
    }
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    if let Some(text) = panic.downcast_ref::<&str>() {
        (*text).into()
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text.clone()
    } else {
        "panic without text".into()
    }
}
