//! The ordered parallel map: order, bound, cancellation, panics and leaving early.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use modelstore_chunk::{Decoder, Encoder, Error, Pipeline, Workers};

fn workers(threads: usize) -> Workers {
    Workers::new(threads, || ()).expect("threads")
}

fn no_check() -> Result<(), Error> {
    Ok(())
}

#[test]
fn what_a_job_needs_goes_to_threads() {
    fn sendable<T: Send + 'static>() {}
    sendable::<Encoder>();
    sendable::<Decoder>();
}

#[test]
fn results_come_in_the_order_of_submission() {
    for threads in [0, 1, 2, 5] {
        let workers = workers(threads);
        assert_eq!(workers.threads(), threads.max(1));
        let mut pipeline = Pipeline::new(&workers, |i: u64| {
            std::thread::sleep(Duration::from_millis((i * 7) % 5));
            i * i
        });
        let mut seen = Vec::new();
        pipeline
            .drive((0..60).map(Ok), &mut no_check, |r| {
                seen.push(r);
                Ok::<(), Error>(())
            })
            .expect("runs");
        assert_eq!(seen, (0..60).map(|i| i * i).collect::<Vec<u64>>());
        assert!(pipeline.is_empty() && pipeline.try_next().is_none());
    }
}

#[test]
fn the_number_in_flight_is_bounded() {
    let workers = workers(2);
    let mut pipeline = Pipeline::new(&workers, |i: u32| i);
    for i in 0..workers.in_flight() as u32 {
        assert_eq!(pipeline.submit(i), Ok(()));
    }
    assert!(pipeline.is_full());
    assert_eq!(pipeline.submit(99), Err(99));
    assert_eq!(pipeline.next(&mut no_check), Ok(Some(0)));
    assert_eq!(pipeline.submit(99), Ok(()));
    assert_eq!(pipeline.len(), 6);
}

#[test]
fn each_thread_starts_with_the_handler() {
    let started = Arc::new(AtomicUsize::new(0));
    let count = started.clone();
    let workers = Workers::new(3, move || {
        count.fetch_add(1, SeqCst);
    })
    .expect("threads");
    let mut pipeline = Pipeline::new(&workers, |()| std::thread::sleep(Duration::from_millis(5)));
    let jobs = (0..8).map(|_| Ok(()));
    pipeline
        .drive(jobs, &mut no_check, |()| Ok(()))
        .expect("runs");
    drop(pipeline);
    drop(workers);
    let patience = Instant::now();
    while started.load(SeqCst) < 3 && patience.elapsed() < Duration::from_secs(5) {
        std::thread::yield_now();
    }
    assert_eq!(started.load(SeqCst), 3);
}

#[test]
fn states_are_used_again_and_lost_in_a_panic() {
    let workers = workers(1);
    let made = Arc::new(AtomicUsize::new(0));
    let count = made.clone();
    let mut pipeline = Pipeline::with_state(
        &workers,
        move || count.fetch_add(1, SeqCst),
        |_, i: u32| assert!(i != 3, "three"),
    );
    for i in 0..6 {
        pipeline.submit(i).expect("room for 4");
        let got = pipeline.next(&mut no_check);
        assert_eq!(got.is_err(), i == 3);
    }
    assert_eq!(made.load(SeqCst), 2);
}

#[test]
fn a_panic_is_the_error_of_its_job() {
    let workers = workers(2);
    let mut pipeline = Pipeline::new(&workers, |i: u32| match i {
        1 => panic!("job {i} went wrong"),
        2 => std::panic::panic_any(5u8),
        _ => i,
    });
    (0..4).for_each(|i| pipeline.submit(i).expect("room for 6"));
    assert_eq!(pipeline.next(&mut no_check), Ok(Some(0)));
    let text = |t: &str| Err(Error::WorkerPanic(t.into()));
    assert_eq!(pipeline.next(&mut no_check), text("job 1 went wrong"));
    assert_eq!(pipeline.next(&mut no_check), text("panic without text"));
    assert_eq!(pipeline.next(&mut no_check), Ok(Some(3)));
    assert_eq!(pipeline.next(&mut no_check), Ok(None));
}

#[test]
fn waiting_looks_around_and_stops() {
    let workers = workers(1);
    let finished = Arc::new(AtomicUsize::new(0));
    let count = finished.clone();
    let mut pipeline = Pipeline::new(&workers, move |()| {
        std::thread::sleep(Duration::from_millis(300));
        count.fetch_add(1, SeqCst);
    });
    for _ in 0..3 {
        pipeline.submit(()).expect("room for 4");
    }
    let start = Instant::now();
    let mut checks = 0;
    let got = pipeline.next(&mut || {
        checks += 1;
        if start.elapsed() > Duration::from_millis(60) {
            return Err(Error::WorkerPanic("cancelled".into()));
        }
        Ok(())
    });
    assert_eq!(got, Err(Error::WorkerPanic("cancelled".into())));
    assert!(checks >= 2 && start.elapsed() < Duration::from_millis(250));
    drop(pipeline);
    // The running job was waited for, the two others never began.
    assert_eq!(finished.load(SeqCst), 1);
}

#[test]
fn leaving_early_drops_jobs_and_results() {
    struct Counted(Arc<AtomicUsize>);
    impl Counted {
        fn new(alive: &Arc<AtomicUsize>) -> Counted {
            alive.fetch_add(1, SeqCst);
            Counted(alive.clone())
        }
    }
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_sub(1, SeqCst);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let workers = workers(2);
    for taken in 0..3 {
        let mut pipeline = Pipeline::new(&workers, |job: Counted| {
            std::thread::sleep(Duration::from_millis(3));
            Counted::new(&job.0)
        });
        while pipeline.submit(Counted::new(&alive)).is_ok() {}
        for _ in 0..taken {
            assert!(pipeline.next(&mut no_check).expect("no panic").is_some());
        }
        drop(pipeline);
        assert_eq!(alive.load(SeqCst), 0);
    }
}
