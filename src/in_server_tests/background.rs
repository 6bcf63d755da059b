//! Work on threads while the main thread fails, is interrupted, or the work itself fails.

#[pgrx::pg_schema]
mod tests {
    use crate::in_server_tests::message;
    use crate::pg::background::Backend;
    use modelstore_chunk::Session;
    use pgrx::prelude::*;
    use std::panic::AssertUnwindSafe;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    fn square_all(numbers: std::ops::Range<u64>) -> Vec<u64> {
        let mut pipeline = Backend::silent()
            .pipeline(|| (), |(), n: u64| n * n)
            .expect("threads");
        let mut squares = Vec::new();
        for n in numbers {
            while pipeline.is_full() {
                squares.extend(Backend::silent().next(&mut pipeline).expect("a result"));
            }
            assert!(pipeline.submit(n).is_ok());
        }
        while let Some(square) = Backend::silent().next(&mut pipeline).expect("a result") {
            squares.push(square);
        }
        squares
    }

    #[pg_test]
    fn results_come_in_the_order_of_the_jobs() {
        for threads in [1, 2, 5] {
            Spi::run(&format!("SET LOCAL modelstore.threads = {threads}")).expect("set");
            assert_eq!(
                square_all(0..1000),
                (0..1000).map(|n| n * n).collect::<Vec<_>>()
            );
        }
    }

    /// Starts jobs that take a while, then raises an ERROR with the pipeline on the stack.
    fn fail_with_jobs_under_way(running: &Arc<AtomicUsize>) {
        let (outside, inside) = (Arc::clone(running), Arc::clone(running));
        let caught = PgTryBuilder::new(AssertUnwindSafe(move || {
            let mut pipeline = Backend::silent()
                .pipeline(
                    || (),
                    move |(), n: u64| {
                        inside.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(20));
                        inside.fetch_sub(1, Ordering::SeqCst);
                        n
                    },
                )
                .expect("threads");
            while pipeline.submit(1).is_ok() {}
            Backend::silent()
                .wait_until(|| outside.load(Ordering::SeqCst) > 0)
                .expect("a job starts");
            // Division by zero, raised by the server.
            Spi::run("SELECT 1 / 0").expect("does not return");
            false
        }))
        .catch_when(PgSqlErrorCode::ERRCODE_DIVISION_BY_ZERO, |_| true)
        .execute();
        assert!(caught);
    }

    #[pg_test]
    fn an_error_of_the_server_leaves_no_job_behind() {
        let running = Arc::new(AtomicUsize::new(0));
        for _ in 0..5 {
            fail_with_jobs_under_way(&running);
            assert_eq!(
                running.load(Ordering::SeqCst),
                0,
                "the pipeline has waited for its jobs"
            );
        }
        // The threads still work.
        assert_eq!(square_all(0..10).last(), Some(&81));
    }

    #[pg_test]
    fn a_panic_in_a_job_is_an_error_of_that_job_alone() {
        let mut pipeline = Backend::silent()
            .pipeline(
                || (),
                |(), n: u32| {
                    assert!(n != 2, "two is too much");
                    n
                },
            )
            .expect("threads");
        for n in 0..4 {
            assert!(pipeline.submit(n).is_ok());
        }
        assert_eq!(Backend::silent().next(&mut pipeline).expect("0"), Some(0));
        assert_eq!(Backend::silent().next(&mut pipeline).expect("1"), Some(1));
        assert!(message(Backend::silent().next(&mut pipeline)).contains("two is too much"));
        assert_eq!(Backend::silent().next(&mut pipeline).expect("3"), Some(3));
        assert_eq!(
            Backend::silent().next(&mut pipeline).expect("the end"),
            None
        );
        assert_eq!(square_all(3..4), [9]);
    }

    /// The signal is sent by a thread that blocks all signals, so that the main thread handles it.
    #[pg_test(error = "canceling statement due to user request")]
    fn a_cancel_is_answered_while_jobs_run() {
        let begun = std::time::Instant::now();
        let mut pipeline = Backend::silent()
            .pipeline(
                || (),
                |(), ()| {
                    // SAFETY: SIGINT is what pg_cancel_backend sends; this is the backend.
                    unsafe { libc::kill(libc::getpid(), libc::SIGINT) };
                    std::thread::sleep(Duration::from_millis(50));
                },
            )
            .expect("threads");
        assert!(pipeline.submit(()).is_ok());
        while begun.elapsed() < Duration::from_secs(5) {
            crate::error::or_raise(Backend::silent().next(&mut pipeline));
            assert!(pipeline.submit(()).is_ok());
        }
    }

    #[pg_test]
    fn a_job_has_its_state_for_itself() {
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        let mut pipeline = Backend::silent()
            .pipeline(
                move || {
                    count.fetch_add(1, Ordering::SeqCst);
                    Vec::<u8>::new()
                },
                |buffer, n: u8| {
                    buffer.clear();
                    buffer.resize(100_000, n);
                    std::thread::yield_now();
                    buffer.iter().all(|&b| b == n)
                },
            )
            .expect("threads");
        for n in 0..200 {
            while pipeline.is_full() {
                assert_eq!(
                    Backend::silent().next(&mut pipeline).expect("a result"),
                    Some(true)
                );
            }
            assert!(pipeline.submit(n).is_ok());
        }
        while let Some(alone) = Backend::silent().next(&mut pipeline).expect("a result") {
            assert!(alone);
        }
        assert!(
            (1..=2).contains(&made.load(Ordering::SeqCst)),
            "one a thread at most"
        );
    }
}
