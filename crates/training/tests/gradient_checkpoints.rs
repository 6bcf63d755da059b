//! Plans against brute force over all cuts and policies, on small chains; size and speed on long ones.
#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;

use modelstore_training::Error;
use modelstore_training::gradient_checkpoints::{Layer, MAX_LAYERS, Plan, Policy, plan};
use proptest::prelude::*;

fn layer(activation_bytes: u64, output_bytes: u64, forward_cost: u64) -> Layer {
    Layer {
        activation_bytes,
        output_bytes,
        forward_cost,
    }
}

fn best(input: u64, layers: &[Layer], budget: Option<u64>) -> Result<Plan, Error> {
    plan(input, layers, budget, &mut || ControlFlow::Continue(()))
}

/// Peak and extra work of every plan: layer by layer, stored, or recomputed in a new segment or the same one.
fn brute_force(input: u64, layers: &[Layer]) -> Vec<(u64, u64)> {
    let mut all = Vec::new();
    let mut choices = vec![0u8; layers.len()];
    loop {
        if choices[0] != 2 {
            all.push(measure(input, layers, &choices));
        }
        let Some(place) = choices.iter().position(|&c| c < 2) else {
            return all;
        };
        choices[place] += 1;
        choices[..place].fill(0);
    }
}

/// What the choices cost, by walking the backward pass: 0 stores, 1 starts a recomputed segment, 2 continues one.
fn measure(input: u64, layers: &[Layer], choices: &[u8]) -> (u64, u64) {
    let mut work = 0;
    // What is kept when the forward pass is over: bytes, and the activations to recompute beside them.
    let mut kept: Vec<(u64, u64)> = Vec::new();
    for (i, (l, choice)) in layers.iter().zip(choices).enumerate() {
        let before = if i == 0 {
            input
        } else {
            layers[i - 1].output_bytes
        };
        let continues = *choice == 2 && choices[i - 1] != 0;
        match choice {
            0 => kept.push((l.activation_bytes, 0)),
            _ if continues => kept.last_mut().unwrap().1 += l.activation_bytes,
            _ => kept.push((before, l.activation_bytes)),
        }
        work += if *choice == 0 { 0 } else { l.forward_cost };
    }
    let mut peak = 0;
    while let Some((bytes, transient)) = kept.pop() {
        let before: u64 = kept.iter().map(|k| k.0).sum();
        peak = peak.max(before + bytes + transient);
    }
    (peak, work)
}

/// Walks a plan as the documentation of the module describes it, and checks its figures.
fn check_figures(input: u64, layers: &[Layer], found: &Plan) {
    assert_eq!(found.layers.len(), layers.len());
    let mut choices = Vec::new();
    for (i, l) in found.layers.iter().enumerate() {
        let new = i == 0 || found.layers[i - 1].segment != l.segment;
        if i > 0 {
            assert_eq!(l.segment, found.layers[i - 1].segment + usize::from(new));
            assert!(new || l.policy == found.layers[i - 1].policy);
        } else {
            assert_eq!(l.segment, 0);
        }
        let before = if i == 0 {
            input
        } else {
            layers[i - 1].output_bytes
        };
        let (choice, kept, extra) = match l.policy {
            Policy::Store => (0, layers[i].activation_bytes, 0),
            Policy::Recompute if new => (1, before, layers[i].forward_cost),
            Policy::Recompute => (2, 0, layers[i].forward_cost),
        };
        assert_eq!((l.kept_bytes, l.extra_work), (kept, extra));
        choices.push(choice);
    }
    let measured = measure(input, layers, &choices);
    assert_eq!((found.peak_bytes, found.extra_work), measured);
    let forward: u64 = layers.iter().map(|l| l.forward_cost).sum();
    assert_eq!(found.total_work, forward + found.extra_work);
}

fn check(input: u64, layers: &[Layer]) {
    let all = brute_force(input, layers);
    let smallest = *all.iter().min().unwrap();
    let found = best(input, layers, None).unwrap();
    check_figures(input, layers, &found);
    assert!(found.exact);
    assert_eq!((found.peak_bytes, found.extra_work), smallest);
    let mut budgets: Vec<u64> = all.iter().map(|p| p.0).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let step = budgets.len().div_ceil(12);
    for budget in budgets.iter().copied().step_by(step).chain([u64::MAX]) {
        let fitting = all.iter().filter(|p| p.0 <= budget);
        let (work, peak) = fitting.map(|p| (p.1, p.0)).min().unwrap();
        let found = best(input, layers, Some(budget)).unwrap();
        check_figures(input, layers, &found);
        assert_eq!(
            (found.extra_work, found.peak_bytes),
            (work, peak),
            "{budget} {layers:?}"
        );
    }
    if let Some(budget) = smallest.0.checked_sub(1) {
        let error = Error::BudgetTooSmall {
            budget,
            smallest_peak: smallest.0,
        };
        assert_eq!(best(input, layers, Some(budget)), Err(error));
    }
}

#[test]
fn every_chain_of_small_costs_is_as_brute_force_says() {
    let kinds: Vec<Layer> = (0..12).map(|k| layer(k % 3, k / 3 % 2, k / 6)).collect();
    for n in 1..=3u32 {
        for mut code in 0..12usize.pow(n) {
            let mut layers = Vec::new();
            for _ in 0..n {
                layers.push(kinds[code % 12]);
                code /= 12;
            }
            check(0, &layers);
            check(1, &layers);
        }
    }
    let kinds = [layer(1, 1, 1), layer(3, 1, 1), layer(4, 2, 3)];
    for mut code in 0..3usize.pow(6) {
        let mut layers = Vec::new();
        for _ in 0..6 {
            layers.push(kinds[code % 3]);
            code /= 3;
        }
        check(1, &layers);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_chains_are_as_brute_force_says(
        input in 0u64..30,
        costs in proptest::collection::vec((0u64..40, 0u64..20, 0u64..20), 1..9),
        scale in prop_oneof![Just(1u64), Just(1 << 50)],
    ) {
        let layers: Vec<Layer> = costs
            .iter()
            .map(|&(a, o, f)| layer(a * scale, o * scale, f * scale))
            .collect();
        check(input * scale, &layers);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn random_chains_of_twelve_are_as_brute_force_says(
        input in 0u64..30,
        costs in proptest::collection::vec((0u64..40, 0u64..20, 0u64..20), 10..=12),
    ) {
        let layers: Vec<Layer> = costs.iter().map(|&(a, o, f)| layer(a, o, f)).collect();
        check(input, &layers);
    }
}

#[test]
fn equal_layers_need_about_the_square_root_of_their_number() {
    for n in (4..=64).chain([100, 256, 400, 1000, 1024]) {
        let layers = vec![layer(1, 1, 1); n];
        let found = best(1, &layers, None).unwrap();
        let root = (n as f64).sqrt();
        let kept: u64 = found.layers.iter().map(|l| l.kept_bytes).sum();
        for bytes in [kept, found.peak_bytes] {
            let factor = bytes as f64 / root;
            assert!((0.5..=2.0).contains(&factor), "{n} layers: {bytes}");
        }
        assert!(found.extra_work <= n as u64);
    }
}

#[test]
fn a_large_budget_stores_all() {
    let layers = vec![layer(10, 1, 5); 30];
    let found = best(1, &layers, Some(300)).unwrap();
    assert_eq!((found.peak_bytes, found.extra_work), (300, 0));
    assert!(
        found
            .layers
            .iter()
            .all(|l| l.policy == Policy::Store && l.segment == 0)
    );
    let found = best(1, &layers, Some(299)).unwrap();
    assert!(found.extra_work == 5, "{}", found.extra_work);
}

/// Numbers below 2^24 without a pattern (SplitMix64).
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    (1u64..).map(move |i| {
        let mut z = (seed + i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 40
    })
}

fn check_budgets(layers: &[Layer]) {
    let all: u64 = layers.iter().map(|l| l.activation_bytes).sum();
    for percent in [None, Some(20), Some(50), Some(70), Some(90), Some(99)] {
        let budget = percent.map(|p| all / 100 * p);
        let found = match best(10, layers, budget) {
            Err(Error::BudgetTooSmall { .. }) => continue,
            found => found.unwrap(),
        };
        check_figures(10, layers, &found);
        assert!(budget.is_none_or(|budget| found.peak_bytes <= budget));
        assert!(found.exact, "{percent:?}");
    }
}

#[test]
fn long_chains_are_planned() {
    for outputs in [1_000, 1_000_000, 1 << 24] {
        let values: Vec<u64> = noise(7).take(600).collect();
        let costs = values.chunks(3);
        let unequal = costs.map(|c| layer(1000 + c[0], 100 + c[1] % outputs, 1 + c[2]));
        check_budgets(&unequal.collect::<Vec<_>>());
    }
    for n in [96, 300] {
        check_budgets(&vec![layer(17, 1, 24); n]);
        check_budgets(&vec![layer(17, 5, 24); n]);
    }
}

#[test]
fn the_caller_can_stop() {
    let layers = vec![layer(17, 1, 24); 1000];
    let mut questions = 0;
    let mut go_on = || {
        questions += 1;
        if questions < 50 {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    };
    let stopped = plan(10, &layers, Some(9000), &mut go_on);
    assert_eq!(stopped, Err(Error::Cancelled));
    assert_eq!(questions, 50);
}

#[test]
fn what_is_no_chain_is_an_error() {
    assert_eq!(best(1, &[], None), Err(Error::NoLayers));
    let layers = vec![layer(1, 1, 1); MAX_LAYERS + 1];
    assert_eq!(
        best(1, &layers, None),
        Err(Error::TooManyLayers(MAX_LAYERS + 1))
    );
    let huge = u64::MAX / 2 + 1;
    for layers in [[layer(huge, 1, 1); 2], [layer(1, huge, 1); 2]] {
        assert_eq!(best(1, &layers, None), Err(Error::CostOverflow("memory")));
    }
    assert_eq!(
        best(huge, &[layer(huge, 0, 1)], None),
        Err(Error::CostOverflow("memory"))
    );
    assert_eq!(
        best(1, &[layer(1, 1, huge)], None),
        Err(Error::CostOverflow("work"))
    );
    assert!(best(1, &[layer(u64::MAX - 2, 1, u64::MAX / 2)], None).is_ok());
}
