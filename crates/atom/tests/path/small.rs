//! Paths in graphs small enough to see the answer or to try all paths; what can go wrong.

use crate::graphs::{Net, cost, limited};
use modelstore_atom::path::{Edges, PathError, Step, Strategy, find_path};
use modelstore_atom::{Error, Key, Point};
use proptest::prelude::*;

fn line(places: &[u32]) -> Net {
    let point = |x: &u32| Point {
        x: *x,
        y: 5,
        z: 5,
        m: 5,
    };
    let mut net = Net::new(places.iter().map(point));
    for b in 1..net.len() {
        net.join(b - 1, b);
    }
    net
}

#[test]
fn the_limit_may_demand_the_dearer_way_to_a_node() {
    // 0 - 1 - 2 - 3 runs straight; 4 lies aside and joins 0 with 2. From 2 on there is one way.
    let point = |x, y| Point { x, y, z: 0, m: 0 };
    let mut net = Net::new([
        point(0, 0),
        point(10, 0),
        point(20, 0),
        point(30, 0),
        point(10, 50),
    ]);
    for (a, b) in [(0, 1), (1, 2), (2, 3), (0, 4), (4, 2)] {
        net.join(a, b);
    }
    assert_eq!(cost(&net.find((0, 3), 3, Strategy::AStar, 1).0), 30.0);
    assert_eq!(net.find((0, 3), 2, Strategy::AStar, 1).0, None);
    // Seven straight hops from 0 to 7, and a detour of two past the first five. With six allowed, the cheapest way to 5
    // has been gone on from when it is found too long.
    let mut net = line(&[0, 10, 20, 30, 40, 50, 60, 70]);
    net.join(0, 5);
    let mut bent = Net::new(net.points.iter().copied().chain([Point {
        y: 100,
        ..net.points[2]
    }]));
    for node in 1..8 {
        bent.join(node - 1, node);
    }
    bent.join(0, 8);
    bent.join(8, 5);
    for strategy in [Strategy::AStar, Strategy::Dijkstra] {
        for batch in [1, 32] {
            assert_eq!(bent.find((0, 7), 7, strategy, batch).0.unwrap().len(), 8);
            for max_hops in [4, 5, 6] {
                let short = bent.find((0, 7), max_hops, strategy, batch).0.unwrap();
                assert_eq!(short.len(), 5);
            }
            assert_eq!(bent.find((0, 7), 3, strategy, batch).0, None);
        }
    }
    // The same with 6 far away: all other ways have been tried by the time the limit cuts the way there. Then with a
    // way around that is worse than the detour: it must not be taken for the best because it is found first.
    for far in [5, 1000] {
        for around in [false, true] {
            let mut points = bent.points.clone();
            points[6].y = far;
            points.push(Point {
                y: 9000,
                ..points[3]
            });
            let mut net = Net::new(points);
            for (a, b) in [
                (0, 1),
                (1, 2),
                (2, 3),
                (3, 4),
                (4, 5),
                (5, 6),
                (6, 7),
                (0, 8),
                (8, 5),
            ] {
                net.join(a, b);
            }
            if around {
                net.join(0, 9);
                net.join(9, 7);
            }
            for strategy in [Strategy::AStar, Strategy::Dijkstra] {
                let path = net.find((0, 7), 6, strategy, 1).0.unwrap();
                assert_eq!((path.len(), path[1].key), (5, net.keys[8]));
            }
        }
    }
    // On one line the direct edge costs the same and has fewer hops.
    assert_eq!(net.find((0, 5), 9, Strategy::AStar, 1).0.unwrap().len(), 2);
}

#[test]
fn ends_that_are_equal_apart_or_at_the_same_point() {
    let mut net = line(&[7, 7, 7, 3, 3, 9]);
    net.neighbours[5].clear();
    net.neighbours[4].retain(|other| *other != 5);
    for strategy in Strategy::ALL {
        for max_hops in [0, 1, 9] {
            let (path, asked) = net.find((2, 2), max_hops, strategy, 4);
            assert_eq!(
                path,
                Some(vec![Step {
                    key: net.keys[2],
                    cost: 0.0
                }])
            );
            assert_eq!(asked.calls, 0);
            assert_eq!(net.find((0, 5), max_hops, strategy, 4).0, None);
        }
        assert_eq!(net.find((0, 2), 0, strategy, 4).0, None);
        assert_eq!(net.find((0, 2), 1, strategy, 4).0, None);
        let path = net.find((0, 2), 2, strategy, 4).0.unwrap();
        assert_eq!(
            path.iter().map(|step| step.cost).collect::<Vec<_>>(),
            [0.0; 3]
        );
        assert_eq!(cost(&net.find((0, 4), 4, strategy, 4).0), 4.0);
    }
}

#[test]
fn names_lead_back() {
    for strategy in Strategy::ALL {
        assert_eq!(Strategy::from_name(strategy.name()), Some(strategy));
    }
    assert_eq!(Strategy::from_name("AStar"), None);
}

#[test]
fn a_search_that_grows_too_large_ends() {
    let net = Net::geometric(2000, 2, 6, 6);
    assert_eq!(limited(&net, 100, 32), Err(PathError::TooLarge(100)));
    // Nodes fetched ahead do not count: the limit that suffices is the same for every batch.
    let enough = (100..4000)
        .step_by(100)
        .find(|limit| limited(&net, *limit, 1).is_ok())
        .unwrap();
    for batch in [7, 1000] {
        assert!(limited(&net, enough, batch).is_ok());
        assert!(limited(&net, enough - 100, batch).is_err());
    }
}

/// Answers wrongly, each in its way.
enum Bad {
    Short,
    Failing,
    NoKey,
    Cancelled(Vec<Key>),
}

const NO_KEY: Key = Key {
    h_xy: -1,
    h_yz: 0,
    h_zm: 0,
};

impl Edges for Bad {
    type Error = std::fmt::Error;

    fn of(&mut self, nodes: &[Key]) -> Result<Vec<Vec<Key>>, std::fmt::Error> {
        match self {
            Bad::Short => Ok(Vec::new()),
            Bad::Failing => Err(std::fmt::Error),
            Bad::NoKey => Ok(vec![vec![NO_KEY]; nodes.len()]),
            Bad::Cancelled(_) if nodes.is_empty() => Err(std::fmt::Error),
            Bad::Cancelled(list) => Ok(vec![std::mem::take(list); nodes.len()]),
        }
    }
}

#[test]
fn what_goes_wrong_is_told() {
    let net = line(&[1, 2]);
    let [a, b] = [net.keys[0], net.keys[1]];
    let find = |mut edges: Bad, a, b| find_path(&mut edges, a, b, 9, Strategy::AStar, 4, 100_000);
    let no_key = Err(PathError::Key(Error::Key(NO_KEY)));
    assert_eq!(find(Bad::Failing, NO_KEY, b), no_key);
    assert_eq!(find(Bad::Failing, a, NO_KEY), no_key);
    assert_eq!(find(Bad::Failing, NO_KEY, NO_KEY), no_key);
    assert_eq!(find(Bad::NoKey, a, b), no_key);
    assert_eq!(
        find(Bad::Failing, a, b),
        Err(PathError::Edges(std::fmt::Error))
    );
    assert_eq!(
        find(Bad::Short, a, b),
        Err(PathError::Answer { asked: 1, given: 0 })
    );
    // One node of many edges gives the chance to cancel in the middle of them.
    let hub = line(&(3..20_000).collect::<Vec<_>>()).keys;
    assert_eq!(
        find(Bad::Cancelled(hub), a, b),
        Err(PathError::Edges(std::fmt::Error))
    );
}

/// Least (cost, hops) by every path that visits no node twice, in units of the test: coordinates are on a line, so that
/// costs are whole numbers and ties are many.
fn all_paths(
    net: &Net,
    at: usize,
    to: usize,
    left: u32,
    seen: &mut Vec<usize>,
    so_far: f64,
    out: &mut Vec<(f64, Vec<usize>)>,
) {
    seen.push(at);
    if at == to {
        out.push((so_far, seen.clone()));
    } else if left > 0 {
        for next in &net.neighbours[at] {
            if !seen.contains(next) {
                all_paths(
                    net,
                    *next,
                    to,
                    left - 1,
                    seen,
                    so_far + net.length(at, *next),
                    out,
                );
            }
        }
    }
    seen.pop();
}

/// Cost, hops, and keys from the end: what decides between paths.
type Rank = (u64, usize, Vec<Key>);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn it_is_the_best_of_all_paths(
        places in prop::collection::vec((0u32..8, 0u32..4), 2..10),
        edges in prop::collection::vec((0usize..10, 0usize..10), 0..14),
        max_hops in 0u32..9,
        batch in 1usize..9,
        flat: bool,
        chain: bool,
    ) {
        let mut places = places;
        if chain {
            // Cheap ways of many hops, which is where a limit of hops bites.
            places.sort();
        }
        let mut net = Net::new(places.iter().map(|(x, y)| Point { x: *x, y: if flat { 0 } else { *y }, z: 1, m: 1 }));
        for node in (1..net.len()).filter(|_| chain) {
            net.join(node - 1, node);
        }
        for (a, b) in edges {
            if a < net.len() && b < net.len() {
                net.join(a, b);
            }
        }
        let to = net.len() - 1;
        let mut paths = Vec::new();
        all_paths(&net, 0, to, max_hops, &mut Vec::new(), 0.0, &mut paths);
        let ranks: Vec<Rank> = paths.iter().map(|(cost, path)| {
            // Costs that differ do so by far more than 2^-20 here; those that do not may by rounding.
            let keys = path.iter().rev().map(|node| net.keys[*node]).collect();
            ((cost * 1048576.0).round() as u64, path.len(), keys)
        }).collect();
        let best = ranks.iter().min().cloned();
        let fewest = ranks.iter().min_by_key(|(cost, hops, keys)| (*hops, *cost, keys.clone())).cloned();
        for (strategy, best) in [(Strategy::AStar, &best), (Strategy::Dijkstra, &best), (Strategy::Hops, &fewest)] {
            let (path, _) = net.find((0, to), max_hops, strategy, batch);
            let keys = path.map(|path| path.iter().rev().map(|step| step.key).collect::<Vec<_>>());
            prop_assert_eq!(keys.as_ref(), best.as_ref().map(|best| &best.2), "{:?}", strategy);
        }
    }
}
