//! Which checkpoints are kept: examples, and what holds for any.
#![allow(clippy::unwrap_used)]

use modelstore_training::Error;
use modelstore_training::retention::{Checkpoint, Mode, Reason, Retention, reasons_to_keep};
use proptest::prelude::*;

use Reason::{Best, Every, Last, Pinned};

fn saved(step: i64, metric: Option<f64>) -> Checkpoint {
    Checkpoint {
        step,
        metric,
        pinned: false,
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
    (step, metric, prop::bool::weighted(0.1)).prop_map(|(step, metric, pinned)| Checkpoint {
        step,
        metric,
        pinned,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn rules_hold_for_any_run(
        run in proptest::collection::vec(any_checkpoint(), 0..30),
        keep_last in prop_oneof![0usize..8, Just(usize::MAX)],
        keep_every in proptest::option::of(1i64..8),
        keep_best in prop_oneof![0usize..8, Just(usize::MAX)],
        mode in prop_oneof![Just(Mode::Min), Just(Mode::Max)],
    ) {
        let retention = Retention { keep_last, keep_every, keep_best, mode };
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
}
