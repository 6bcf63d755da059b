//! The cost of an edge, as a whole number.
//!
//! Sums of floating-point numbers depend on their order, and a straight line may come out longer than a detour. So the
//! search counts in units of 2^-34, every edge rounded up. Sums are then exact, and because rounding up keeps ⌈a⌉ + ⌈b⌉
//! ≥ ⌈a + b⌉, the triangle inequality holds to the last unit: the straight line to the goal is an admissible and
//! consistent estimate without a margin. Distinct points are at least 1 apart, so no cost is too high by more than a
//! relative 2^-34 (6e-11).

use crate::key::Point;

/// Cost of a path in units of 2^-34. One edge is below 2^63; sums of any number of edges fit.
pub(super) type Cost = u128;

/// Fractional binary digits. The square of an edge, shifted by twice as many, must stay below 2^128.
const FRACTION_BITS: u32 = 34;

/// Returns the Euclidean distance of two points, rounded up to a unit; below 2^63.
pub(super) fn length(a: &Point, b: &Point) -> u64 {
    let scaled = u128::from(a.distance_squared(b)) << (2 * FRACTION_BITS);
    let root = scaled.isqrt();
    (root + u128::from(root * root < scaled)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn points() -> impl Strategy<Value = Point> {
        // Small ranges give collinear points, for which a rounding error would show.
        (0u32..29).prop_flat_map(|bits| {
            let c = move || 0u32..1 << bits.min(28);
            (c(), c(), c(), c()).prop_map(|(x, y, z, m)| Point { x, y, z, m })
        })
    }

    proptest! {
        #[test]
        fn a_detour_is_never_shorter(a in points(), b in points(), c in points()) {
            let (ab, bc, ac) = (length(&a, &b), length(&b, &c), length(&a, &c));
            prop_assert!(u128::from(ab) + u128::from(bc) >= u128::from(ac));
            prop_assert_eq!(ab, length(&b, &a));
        }

        #[test]
        fn it_is_the_distance(a in points(), b in points()) {
            let exact = (a.distance_squared(&b) as f64).sqrt();
            let ours = length(&a, &b) as f64 / (1u64 << FRACTION_BITS) as f64;
            prop_assert!((ours - exact).abs() <= 1e-10 * exact, "{} {}", ours, exact);
        }
    }

    #[test]
    fn the_longest_edge_fits() {
        let last = (1 << 28) - 1;
        let (a, b) = (
            Point {
                x: 0,
                y: 0,
                z: 0,
                m: 0,
            },
            Point {
                x: last,
                y: last,
                z: last,
                m: last,
            },
        );
        assert_eq!(length(&a, &b), u64::from(last) << (FRACTION_BITS + 1));
        assert_eq!(length(&a, &a), 0);
    }
}
