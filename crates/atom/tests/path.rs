//! Paths in graphs of 10 000 nodes against petgraph, and against Dijkstra and Bellman and Ford written down plainly.

#![allow(clippy::unwrap_used)]

#[path = "path/graphs.rs"]
mod graphs;
#[path = "path/small.rs"]
mod small;

use graphs::{Net, Random, close, cost};
use modelstore_atom::path::Strategy;

const NODES: usize = 10_000;
const MANY_HOPS: u32 = 1_000_000;

fn nets() -> [(&'static str, Net); 4] {
    [
        ("random, 4 axes", Net::random(NODES, 4, 8, 1)),
        ("random, 2 axes", Net::random(NODES, 2, 4, 2)),
        ("geometric, 4 axes", Net::geometric(NODES, 4, 8, 3)),
        ("geometric, 2 axes", Net::geometric(NODES, 2, 6, 4)),
    ]
}

fn pairs(net: &Net, seed: u64, number: usize) -> Vec<(usize, usize)> {
    let mut random = Random(seed);
    let mut node = move || random.below(net.len());
    (0..number).map(|_| (node(), node())).collect()
}

#[test]
fn the_cost_is_that_of_petgraph_and_of_plain_dijkstra() {
    for (name, net) in nets() {
        let graph = net.petgraph();
        for (from, to) in pairs(&net, 7, 4) {
            let (astar, _) = net.find((from, to), MANY_HOPS, Strategy::AStar, 32);
            let (dijkstra, _) = net.find((from, to), MANY_HOPS, Strategy::Dijkstra, 32);
            assert_eq!(astar, dijkstra, "{name}: {from} to {to}");
            let ours = cost(&astar);
            assert!(
                close(ours, net.dijkstra(from)[to]),
                "{name}: {from} to {to}"
            );
            let length = |edge: petgraph::graph::EdgeReference<f64, usize>| *edge.weight();
            let theirs = petgraph::algo::dijkstra(&graph, from.into(), Some(to.into()), length);
            let theirs = theirs
                .get(&petgraph::graph::NodeIndex::new(to))
                .copied()
                .unwrap_or(f64::INFINITY);
            assert!(close(ours, theirs), "{name}: {ours} and {theirs}");
            let straight = |node: petgraph::graph::NodeIndex<usize>| {
                net.length(node.index(), to) * (1.0 - 1e-12)
            };
            let goal = |node: petgraph::graph::NodeIndex<usize>| node.index() == to;
            let theirs = petgraph::algo::astar(&graph, from.into(), goal, length, straight);
            let theirs = theirs.map_or(f64::INFINITY, |(cost, _)| cost);
            assert!(close(ours, theirs), "{name}: {ours} and {theirs}");
        }
    }
}

#[test]
fn a_limit_of_hops_is_exact() {
    let (mut dearer, mut none) = (0, 0);
    for (name, net) in nets() {
        let number = if name.starts_with("random") { 10 } else { 2 };
        for (from, to) in pairs(&net, 8, number) {
            let reference = net.by_hops(from);
            let last = reference.len() - 1;
            let fewest = reference.iter().position(|round| round[to].is_finite());
            let fewest = fewest.unwrap_or(last);
            let enough = (0..=last).find(|hops| reference[*hops][to] == reference[last][to]);
            let enough = enough.unwrap();
            // From one too few to one more than is of use, at most some 12 of them.
            let step = (enough.saturating_sub(fewest) / 10).max(1);
            let limits =
                (fewest.max(1) - 1..enough)
                    .step_by(step)
                    .chain([fewest, enough, enough + 1]);
            for limit in limits {
                let best = reference[limit.min(last)][to];
                let (astar, _) = net.find((from, to), limit as u32, Strategy::AStar, 32);
                let (dijkstra, _) = net.find((from, to), limit as u32, Strategy::Dijkstra, 32);
                assert_eq!(astar, dijkstra, "{name}: {from} to {to} by {limit}");
                assert!(
                    close(cost(&astar), best),
                    "{name}: {from} to {to} by {limit}"
                );
                none += usize::from(best.is_infinite());
                dearer += usize::from(best.is_finite() && !close(best, reference[last][to]));
            }
        }
    }
    eprintln!("limits that make a path dearer: {dearer}, that leave none: {none}");
    assert!(dearer > 20 && none > 10);
}

#[test]
fn fewest_hops_and_of_those_the_cheapest() {
    for (name, net) in nets() {
        for (from, to) in pairs(&net, 9, 3) {
            let reference = net.by_hops(from);
            let hops = reference.iter().position(|round| round[to].is_finite());
            let (path, _) = net.find((from, to), MANY_HOPS, Strategy::Hops, 32);
            assert_eq!(path.as_ref().map(|path| path.len() - 1), hops, "{name}");
            let Some(hops) = hops else { continue };
            assert!(close(cost(&path), reference[hops][to]), "{name}");
            let (exact, _) = net.find((from, to), hops as u32, Strategy::Hops, 32);
            assert_eq!(exact, path);
            for strategy in Strategy::ALL {
                let (exact, _) = net.find((from, to), hops as u32, strategy, 32);
                assert!(close(cost(&exact), reference[hops][to]), "{name}");
                let (less, _) = net.find((from, to), hops as u32 - 1, strategy, 32);
                assert_eq!(less, None, "{name}");
            }
        }
    }
}

#[test]
fn batches_change_the_calls_and_not_the_path() {
    for (name, net) in nets() {
        let ends = pairs(&net, 10, 1)[0];
        for strategy in Strategy::ALL {
            let hops = net
                .find(ends, MANY_HOPS, strategy, 1)
                .0
                .map_or(9, |path| path.len() - 1);
            for max_hops in [hops as u32 - 1, MANY_HOPS] {
                let (alone, one) = net.find(ends, max_hops, strategy, 1);
                assert_eq!(one.calls, one.nodes);
                for batch in [0, 7, 32, 1000] {
                    let (path, asked) = net.find(ends, max_hops, strategy, batch);
                    assert_eq!(path, alone, "{name}: {strategy:?} by {batch}");
                    assert!(asked.calls <= one.calls && asked.nodes >= one.nodes);
                    eprintln!(
                        "{name}, {} by at most {max_hops}, batch {batch}: {} calls, {} nodes",
                        strategy.name(),
                        asked.calls,
                        asked.nodes
                    );
                }
            }
        }
    }
}

#[test]
fn the_estimate_saves_nodes_on_geometric_graphs() {
    for (axes, k) in [(2, 6), (4, 8)] {
        let net = Net::geometric(NODES, axes, k, 5);
        let (mut astar, mut dijkstra) = (0, 0);
        for ends in pairs(&net, 11, 8) {
            astar += net.find(ends, MANY_HOPS, Strategy::AStar, 1).1.nodes;
            dijkstra += net.find(ends, MANY_HOPS, Strategy::Dijkstra, 1).1.nodes;
        }
        eprintln!(
            "{axes} axes, nodes left in 8 searches: A* {astar}, Dijkstra {dijkstra}, ratio {:.3}",
            astar as f64 / dijkstra as f64
        );
        assert!(astar * 2 < dijkstra);
    }
}
