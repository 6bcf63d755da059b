//! Which checkpoints are kept: examples, and what holds for any.
#![allow(clippy::unwrap_used)]

use modelstore_training::Error;
use modelstore_training::retention::{Checkpoint, Mode, Reason, Retention, reasons_to_keep};
use proptest::prelude::*;

use Reason::{Best, Branch, Every, Last, Pinned, Running};

fn saved(step: i64, metric: Option<f64>) -> Checkpoint {
    Checkpoint {
        step,
        metric,
        pinned: false,
        run: None,
        made: 0,
        running: false,
        continued: false,
    }
}

fn kept(checkpoints: &[Checkpoint], retention: Retention) -> Vec<Vec<Reason>> {
    reasons_to_keep(checkpoints, &retention).unwrap()
}

#[test]
fn each_rule_keeps_its_own() {
    let mut run: Vec<Checkpoint> = [(100, 0.9), (200, 0.5), (300, 0.7), (400, 0.4), (500, 0.6)]
        .map(|(step, loss)| saved(step, Some(loss)))
        .to_vec();
    run[0].pinned = true;
    let retention = Retention {
        keep_last: 2,
        keep_every: Some(200),
        keep_best: 2,
        mode: Mode::Min,
    };
    let expected = vec![
        vec![Pinned],
        vec![Every, Best],
        vec![],
        vec![Last, Every, Best],
        vec![Last],
    ];
    assert_eq!(kept(&run, retention), expected);
    let largest = Retention {
        keep_best: 1,
        mode: Mode::Max,
        ..Retention::default()
    };
    let expected = vec![vec![Best, Pinned], vec![], vec![], vec![], vec![]];
    assert_eq!(kept(&run, largest), expected);
}

#[test]
fn of_one_step_the_newest_counts() {
    let run = [0, 10, 15, 10, -10, 15].map(|step| saved(step, None));
    let retention = Retention {
        keep_every: Some(10),
        ..Retention::default()
    };
    let expected: Vec<Vec<Reason>> = vec![
        vec![Every],
        vec![],
        vec![],
        vec![Every],
        vec![Every],
        vec![],
    ];
    assert_eq!(kept(&run, retention), expected);
}

#[test]
fn what_is_no_number_is_never_best() {
    let metrics = [
        Some(f64::NAN),
        None,
        Some(f64::INFINITY),
        Some(-f64::NAN),
        Some(3.0),
    ];
    let run = metrics.map(|metric| saved(1, metric));
    for mode in [Mode::Min, Mode::Max] {
        let retention = Retention {
            keep_best: 5,
            mode,
            ..Retention::default()
        };
        let expected = vec![vec![], vec![], vec![Best], vec![], vec![Best]];
        assert_eq!(kept(&run, retention), expected);
    }
}

#[test]
fn of_equal_metrics_the_newer_is_best() {
    for zero in [0.0, -0.0] {
        let run = [0.0, zero, 1.0].map(|metric| saved(1, Some(metric)));
        let retention = Retention {
            keep_best: 1,
            ..Retention::default()
        };
        assert_eq!(kept(&run, retention), vec![vec![], vec![Best], vec![]]);
    }
    let run = [0.0, -0.0].map(|metric| saved(1, Some(metric)));
    let retention = Retention {
        keep_best: 1,
        mode: Mode::Max,
        ..Retention::default()
    };
    assert_eq!(kept(&run, retention), vec![vec![], vec![Best]]);
}

#[test]
fn a_fast_run_does_not_push_out_another() {
    // The case of the issue: A at step 10, B at 10 to 40.
    let of_run = |run, step| Checkpoint {
        run: Some(run),
        made: step,
        running: true,
        ..saved(step, None)
    };
    let both = [
        of_run(0, 10),
        of_run(1, 10),
        of_run(1, 20),
        of_run(1, 30),
        of_run(1, 40),
    ];
    let retention = Retention {
        keep_last: 3,
        ..Retention::default()
    };
    let expected = vec![
        vec![Last, Running],
        vec![],
        vec![Last],
        vec![Last],
        vec![Last, Running],
    ];
    assert_eq!(kept(&both, retention), expected);
    let none = Retention::default();
    let expected = vec![vec![Running], vec![], vec![], vec![], vec![Running]];
    assert_eq!(kept(&both, none), expected);
}

#[test]
fn a_run_resumed_from_a_lower_step_keeps_both_ends() {
    let of_run = |step, made| Checkpoint {
        made,
        running: true,
        ..saved(step, None)
    };
    let run = [of_run(300, 1), of_run(310, 3), of_run(400, 2)];
    let expected = vec![vec![], vec![Running], vec![Running]];
    assert_eq!(kept(&run, Retention::default()), expected);
}

#[test]
fn what_another_run_continues_stays() {
    let mut run = [1, 2, 3].map(|step| saved(step, None));
    run[0].continued = true;
    assert_eq!(
        kept(&run, Retention::default()),
        vec![vec![Branch], vec![], vec![]]
    );
}

#[test]
fn an_interval_has_a_step() {
    for interval in [0, -1, i64::MIN] {
        let retention = Retention {
            keep_every: Some(interval),
            ..Retention::default()
        };
        assert_eq!(
            reasons_to_keep(&[], &retention),
            Err(Error::Interval(interval))
        );
    }
}

fn any_checkpoint() -> impl Strategy<Value = Checkpoint> {
    let metric = prop_oneof![
        Just(None),
        Just(Some(f64::NAN)),
        (-3i32..3).prop_map(|m| Some(f64::from(m))),
        any::<f64>().prop_map(Some),
    ];
    let step = prop_oneof![-20i64..20, any::<i64>()];
    let rarely = || prop::bool::weighted(0.1);
    (step, metric, rarely(), -5i64..5, rarely()).prop_map(
        |(step, metric, pinned, made, continued)| Checkpoint {
            step,
            metric,
            pinned,
            run: None,
            made,
            running: false,
            continued,
        },
    )
}

/// Checkpoints of several runs, mixed; whether a run runs is the same for all of its own.
fn any_runs() -> impl Strategy<Value = Vec<Checkpoint>> {
    let one = (any_checkpoint(), proptest::option::of(0usize..3));
    let all = proptest::collection::vec(one, 0..30);
    (all, any::<[bool; 4]>()).prop_map(|(all, running)| {
        all.into_iter()
            .map(|(checkpoint, run)| Checkpoint {
                run,
                running: running[run.map_or(3, |run| run)],
                ..checkpoint
            })
            .collect()
    })
}

fn any_retention() -> impl Strategy<Value = Retention> {
    (
        prop_oneof![0usize..8, Just(usize::MAX)],
        proptest::option::of(1i64..8),
        prop_oneof![0usize..8, Just(usize::MAX)],
        prop_oneof![Just(Mode::Min), Just(Mode::Max)],
    )
        .prop_map(|(keep_last, keep_every, keep_best, mode)| Retention {
            keep_last,
            keep_every,
            keep_best,
            mode,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rules_hold_for_any_run(
        run in proptest::collection::vec(any_checkpoint(), 0..30),
        runs in any::<bool>(),
        retention in any_retention(),
    ) {
        let run: Vec<Checkpoint> =
            run.into_iter().map(|c| Checkpoint { running: runs, ..c }).collect();
        let Retention { keep_last, keep_every, keep_best, mode } = retention;
        let reasons = kept(&run, retention);
        prop_assert_eq!(reasons.len(), run.len());
        let has = |i: usize, reason| reasons[i].contains(&reason);
        let metric = |i: usize| run[i].metric.filter(|m| !m.is_nan());
        let better = |a: f64, b: f64| if mode == Mode::Min { a < b } else { a > b };
        let measured = (0..run.len()).filter(|&i| metric(i).is_some()).count();
        let best = (0..run.len()).filter(|&i| has(i, Best)).count();
        prop_assert_eq!(best, measured.min(keep_best));
        for i in 0..run.len() {
            prop_assert!(reasons[i].is_sorted());
            prop_assert_eq!(has(i, Last), run.len() - i <= keep_last);
            prop_assert_eq!(has(i, Pinned), run[i].pinned);
            prop_assert_eq!(has(i, Branch), run[i].continued);
            let made_last = run.iter().all(|c| c.made <= run[i].made);
            prop_assert_eq!(has(i, Running), runs && (i + 1 == run.len() || made_last));
            let newest = run[i + 1..].iter().all(|c| c.step != run[i].step);
            let every = keep_every.is_some_and(|n| run[i].step % n == 0);
            prop_assert_eq!(has(i, Every), every && newest);
            let Some(mine) = metric(i) else {
                prop_assert!(!has(i, Best));
                continue;
            };
            let ahead = |j: &usize| {
                metric(*j).is_some_and(|m| better(m, mine) || (m == mine && *j > i))
            };
            let place = (0..run.len()).filter(ahead).count();
            prop_assert_eq!(has(i, Best), place < keep_best);
        }
    }

    #[test]
    fn each_run_is_pruned_as_if_it_were_alone(all in any_runs(), retention in any_retention()) {
        let together = kept(&all, retention);
        for run in [None, Some(0), Some(1), Some(2)] {
            let places: Vec<usize> = (0..all.len()).filter(|&i| all[i].run == run).collect();
            let alone: Vec<Checkpoint> = places.iter().map(|&i| all[i]).collect();
            for (place, reasons) in places.into_iter().zip(kept(&alone, retention)) {
                prop_assert_eq!(&together[place], &reasons);
            }
        }
    }

    #[test]
    fn what_must_stay_stays_whatever_is_asked(all in any_runs(), retention in any_retention()) {
        let reasons = kept(&all, retention);
        for (i, checkpoint) in all.iter().enumerate() {
            let newest = all[i + 1..].iter().all(|c| c.run != checkpoint.run);
            if checkpoint.pinned || checkpoint.continued || (checkpoint.running && newest) {
                prop_assert!(!reasons[i].is_empty());
            }
        }
    }
}
