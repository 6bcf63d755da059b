//! Worker threads of this session: started on first use, reused, and never in contact with the database.
//!
//! They block every signal, because PostgreSQL's handlers belong on the main thread. An ERROR (including a cancel)
//! unwinds through the pipeline, which waits for its jobs; a terminated session exits without unwinding, so an exit
//! callback waits instead.
#![allow(unsafe_code)]

use crate::error::{Failure, Result};
use crate::pg::allocator::run_job;
use crate::pg::progress::Progress;
use modelstore_chunk::{Pipeline, Session, Workers};
use pgrx::pg_sys;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Jobs running now, in all pipelines.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
/// Set when the session exits: jobs that have not started do not start.
static EXITING: AtomicBool = AtomicBool::new(false);

/// The threads of this session.
struct Pool {
    threads: usize,
    workers: &'static Workers,
    /// Every pipeline holds a clone: if there is no other, nobody uses the pool.
    users: Arc<()>,
}

thread_local! {
    static POOL: Cell<Option<Pool>> = const { Cell::new(None) };
    static EXIT_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

/// This session, as the algorithms of `modelstore_chunk` see it: its threads, cancellation, and progress if it is
/// reported.
pub struct Backend(Option<Progress>);

impl Backend {
    /// Creates one that reports progress.
    pub fn reporting(progress: Progress) -> Backend {
        Backend(Some(progress))
    }

    /// Creates one that does not report progress.
    pub fn silent() -> Backend {
        Backend(None)
    }
}

impl Session for Backend {
    type Error = Failure;

    fn pipeline<S, J, R>(
        &self,
        make: impl Fn() -> S + Send + Sync + 'static,
        run: impl Fn(&mut S, J) -> R + Send + Sync + 'static,
    ) -> Result<Pipeline<'static, J, R>>
    where
        S: Send + 'static,
        J: Send + 'static,
        R: Send + 'static,
    {
        let (workers, user) = workers()?;
        Ok(Pipeline::with_state(workers, make, move |state, job| {
            let _user = &user;
            let _running = Running::enter();
            run_job(|| run(state, job))
        }))
    }

    fn check(&self) -> Result<()> {
        pgrx::check_for_interrupts!();
        Ok(())
    }

    fn advance(&self, bytes: u64) {
        if let Some(progress) = &self.0 {
            progress.advance(bytes);
        }
    }
}

/// Returns the pool for the current setting. A result that streams across calls keeps its pool; a changed setting takes
/// effect when the last of them ends, so that a session never has more than one pool.
fn workers() -> Result<(&'static Workers, Arc<()>)> {
    let threads = crate::settings::threads();
    let pool = match POOL.take() {
        Some(pool) if pool.threads == threads || Arc::strong_count(&pool.users) > 1 => pool,
        Some(pool) => {
            end(pool);
            begin(threads)?
        }
        None => begin(threads)?,
    };
    let user = (pool.workers, Arc::clone(&pool.users));
    POOL.set(Some(pool));
    Ok(user)
}

fn begin(threads: usize) -> Result<Pool> {
    if !EXIT_CALLBACK.replace(true) {
        // SAFETY: main thread; the callback is a static function.
        unsafe { pg_sys::on_proc_exit(Some(wait_for_jobs), pg_sys::Datum::from(0)) }
    }
    keep_freed_memory();
    let workers = without_signals(|| Workers::new(threads, || ()))?;
    Ok(Pool {
        threads,
        workers: Box::leak(Box::new(workers)),
        users: Arc::default(),
    })
}

/// Ends the threads of a pool that is not in use.
fn end(pool: Pool) {
    // SAFETY: the workers were leaked by `begin`, and without another user there is no reference to them.
    drop(unsafe { Box::from_raw(std::ptr::from_ref(pool.workers).cast_mut()) });
}

/// glibc returns freed blocks of a mebibyte to the system and faults every page in again at the next use. A session
/// that has streamed chunks keeps up to 64 MB for the next ones instead: enough for an append of 8 MiB, whose message PostgreSQL
/// reads into 16 MiB.
fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: sets two parameters of the allocator; any value is allowed.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 64 << 20);
    }
}

/// Runs something with every signal blocked: threads started meanwhile inherit the mask, so no signal reaches them
/// before they could block it themselves.
fn without_signals<T>(run: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are on this stack, and the mask of the session's thread is restored. `run` starts threads and
    // does not call PostgreSQL, so it neither raises nor waits.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = run();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, std::ptr::null_mut());
        result
    }
}

/// Counts a job while it runs.
struct Running;

impl Running {
    fn enter() -> Running {
        RUNNING.fetch_add(1, Ordering::SeqCst);
        let running = Running;
        // Count first, so that the exit sees the job or the job sees the exit. The panic becomes the job's error, which
        // nobody reads.
        assert!(!EXITING.load(Ordering::SeqCst), "the session is exiting");
        running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A job takes milliseconds; the limit only guards against a bug that would keep the session from ending.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn wait_for_jobs(_code: i32, _argument: pg_sys::Datum) {
    EXITING.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    while RUNNING.load(Ordering::SeqCst) > 0 && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_micros(200));
    }
}
