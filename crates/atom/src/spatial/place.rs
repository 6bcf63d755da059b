//! The place of a point: its cell of the four-dimensional Hilbert curve of order 15.
//!
//! The curve is that of [`hilbert_encode_nd`](crate::hilbert::hilbert_encode_nd), here as a state machine: from the
//! coarsest bit to the finest, a step turns one bit of each coordinate into four bits of the code. The code of four
//! bits is which of the sixteen parts of a cell the point lies in, in the order of the curve; the state is how the curve
//! lies in that part. What Skilling's algorithm does to the lower bits is to exchange axes and to invert them; the codes
//! it inverts are those of the curve backwards, which is the curve with its first axis inverted. So a state is an order
//! of the axes and which of them are inverted, and of these 384 there are 192 that can be reached.

use crate::{AXIS_BITS, Point};

/// Order of the curve of places: a place has 60 bits, so `bigint` holds it, and its cell is 2^13 wide.
pub const PLACE_ORDER: u32 = 15;
/// Bits of a coordinate below those of the place.
pub(super) const CELL_BITS: u32 = AXIS_BITS - PLACE_ORDER;

/// Number of reachable states.
const STATES: usize = 192;

/// Bits of the coordinates (x the highest of four) to bits of the code, by state: at state + bits, with the next state
/// above the bits of the code. A state is a multiple of sixteen, the first is 0.
static ENCODE: [u16; 16 * STATES] = TABLES.0;
/// Bits of the code to bits of the coordinates, otherwise as the above.
static DECODE: [[u16; 16]; STATES] = TABLES.1;
const TABLES: Tables = tables();
type Tables = ([u16; 16 * STATES], [[u16; 16]; STATES]);

/// Returns the place of a point: the code of its cell on the curve of order [`PLACE_ORDER`], from the upper fifteen
/// bits of each coordinate. It is 0 to 2^60 - 1.
#[inline]
pub fn place(point: &Point) -> i64 {
    let upper = point.coordinates().map(|c| c >> CELL_BITS);
    encode(dealt(upper), PLACE_ORDER, 0).0 as i64
}

/// Returns the order of the points of one place along the curve of order 28: its lower 52 bits.
pub(super) fn place_within(point: &Point) -> u64 {
    let coordinates = point.coordinates();
    let (_, state) = encode(dealt(coordinates.map(|c| c >> CELL_BITS)), PLACE_ORDER, 0);
    encode(dealt(coordinates), CELL_BITS, state).0
}

/// Returns the parts of a cell with orientation `state`, in the order of the curve: for each the bits of the
/// coordinates, x the highest of four, and above them the state in it.
#[inline(always)]
pub(super) fn parts(state: u16) -> &'static [u16; 16] {
    &DECODE[usize::from(state >> 4)]
}

/// The code of so many steps, and the state behind them. The bits of a step are four of `dealt`, the last step's the
/// lowest; what is above the first step's is left alone.
#[inline(always)]
fn encode(dealt: u64, steps: u32, mut state: u16) -> (u64, u16) {
    let mut code = 0;
    for step in (0..steps).rev() {
        let bits = (dealt >> (4 * step)) as u16 & 15;
        let entry = ENCODE[usize::from(state | bits)];
        code = code << 4 | u64::from(entry & 15);
        state = entry & !15;
    }
    (code, state)
}

/// The lower sixteen bits of the coordinates, dealt out in turn: the lowest four bits are the lowest of each, x first.
#[inline(always)]
fn dealt(coordinates: [u32; 4]) -> u64 {
    let spread = |coordinate: u32| {
        let mut bits = u64::from(coordinate) & 0xffff;
        bits = (bits | bits << 24) & 0x0000_00ff_0000_00ff;
        bits = (bits | bits << 12) & 0x000f_000f_000f_000f;
        bits = (bits | bits << 6) & 0x0303_0303_0303_0303;
        (bits | bits << 3) & 0x1111_1111_1111_1111
    };
    let [x, y, z, m] = coordinates.map(spread);
    x << 3 | y << 2 | z << 1 | m
}

/// The orientation of the curve in a cell.
#[derive(Clone, Copy)]
struct Lie {
    /// The coordinate that Skilling's word of this number holds.
    axes: [u8; 4],
    /// Whether the word holds it inverted.
    inverted: [u8; 4],
}

impl Lie {
    /// Runs one step of the algorithm on the bits of the coordinates: returns the bits of the code, and the orientation
    /// of the curve in that part.
    const fn step(mut self, bits: u8) -> (u8, Lie) {
        let mut words = [0; 4];
        let (mut axis, mut gray, mut digit) = (0, 0, 0);
        while axis < 4 {
            words[axis] = (bits >> (3 - self.axes[axis]) & 1) ^ self.inverted[axis];
            gray ^= words[axis];
            digit = digit << 1 | gray;
            axis += 1;
        }
        axis = 0;
        while axis < 4 {
            if words[axis] == 1 {
                self.inverted[0] ^= 1;
            } else {
                (self.axes[0], self.axes[axis]) = (self.axes[axis], self.axes[0]);
                (self.inverted[0], self.inverted[axis]) = (self.inverted[axis], self.inverted[0]);
            }
            axis += 1;
        }
        self.inverted[0] ^= gray;
        (digit, self)
    }

    /// Returns a unique number.
    const fn number(&self) -> usize {
        let (mut number, mut axis) = (0, 0);
        while axis < 4 {
            number = number << 3 | (self.axes[axis] << 1 | self.inverted[axis]) as usize;
            axis += 1;
        }
        number
    }
}

/// Builds both tables by following every part of every state, in the order of discovery.
const fn tables() -> Tables {
    let start = Lie {
        axes: [0, 1, 2, 3],
        inverted: [0; 4],
    };
    let (mut found, mut count) = ([start; STATES], 1);
    // By number: one more than the place in `found`.
    let mut seen = [0; 1 << 12];
    seen[start.number()] = 1;
    let (mut encode, mut decode) = ([0; 16 * STATES], [[0; 16]; STATES]);
    let mut state = 0;
    while state < count {
        let mut bits = 0;
        while bits < 16 {
            let (digit, next) = found[state].step(bits);
            if seen[next.number()] == 0 {
                found[count] = next;
                count += 1;
                seen[next.number()] = count;
            }
            let above = (seen[next.number()] as u16 - 1) << 4;
            encode[state << 4 | bits as usize] = above | digit as u16;
            decode[state][digit as usize] = above | bits as u16;
            bits += 1;
        }
        state += 1;
    }
    assert!(count == STATES);
    (encode, decode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hilbert::hilbert_encode_nd;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_is_the_code_of_the_upper_bits(coordinates in proptest::array::uniform4(0u32..1 << AXIS_BITS)) {
            let [x, y, z, m] = coordinates;
            let point = Point { x, y, z, m };
            let upper = coordinates.map(|c| c >> CELL_BITS);
            let expected = hilbert_encode_nd(&upper, PLACE_ORDER as i32).unwrap();
            prop_assert_eq!(place(&point) as u64, expected);
        }

        #[test]
        fn inside_a_place_the_curve_goes_on(coordinates in proptest::array::uniform4(0u32..1 << AXIS_BITS)) {
            let [x, y, z, m] = coordinates;
            let code = place(&Point { x, y, z, m }) as u128;
            let code = code << (4 * CELL_BITS) | u128::from(place_within(&Point { x, y, z, m }));
            let (mut state, mut corner) = (0, [0; 4]);
            for level in (0..AXIS_BITS).rev() {
                let entry = parts(state)[(code >> (4 * level)) as usize & 15];
                let (bits, next) = (entry & 15, entry & !15);
                for (axis, c) in corner.iter_mut().enumerate() {
                    *c = *c << 1 | u32::from(bits >> (3 - axis) & 1);
                }
                state = next;
            }
            prop_assert_eq!(corner, coordinates);
        }
    }

    #[test]
    fn a_part_leads_back() {
        for state in (0..16 * STATES as u16).step_by(16) {
            for (digit, entry) in (0..).zip(parts(state)) {
                assert_eq!(ENCODE[usize::from(state | entry & 15)], entry & !15 | digit);
            }
        }
    }
}
