//! The state machine of the curve in the plane, one bit of each coordinate per step, and tables for four bits.
//!
//! From the coarsest bit to the finest, a step turns one bit of x and of y into two bits of the code: the quadrant's
//! number in the order of the curve. The orientation of the curve inside a quadrant is the state. It consists of two
//! operations that commute, so two bits are enough.
//!
//! | code | quadrant (x, y) | how the curve lies in it |
//! | --- | --- | --- |
//! | 0 | (0, 0) | x and y swapped |
//! | 1 | (0, 1) | as the whole |
//! | 2 | (1, 1) | as the whole |
//! | 3 | (1, 0) | x and y swapped, both counted from the other end |

/// Bits of each coordinate per table lookup: 2 KiB per table, well inside a first-level cache.
pub(super) const TABLE_BITS: u32 = 4;

/// Position of the state in an entry of a table, and in a table's index: above eight bits of input.
pub(super) const STATE_MASK: u16 = 0x300;

/// x and y are swapped.
const SWAPPED: u8 = 1;

/// x and y both count from the other end.
const FLIPPED: u8 = 2;

/// Bits of a pair of coordinates (x above y) to bits of the code, by state.
pub(super) static ENCODE: [u16; 1024] = table(true);

/// Bits of a code to bits of the pair, by state.
pub(super) static DECODE: [u16; 1024] = table(false);

/// Returns the `digit`-th quadrant of a square with orientation `state`: the quadrant's bit of x, its bit of y, the
/// state in it.
pub(super) const fn quadrant(state: u8, digit: u8) -> (u8, u8, u8) {
    let (mut x, mut y) = (digit >> 1, (digit >> 1) ^ (digit & 1));
    let turn = match digit {
        0 => SWAPPED,
        3 => SWAPPED | FLIPPED,
        _ => 0,
    };
    if state & SWAPPED != 0 {
        (x, y) = (y, x);
    }
    if state & FLIPPED != 0 {
        (x, y) = (1 - x, 1 - y);
    }
    (x, y, state ^ turn)
}

/// Returns the state before the first table lookup. Lookups take four bits, so an order that is not a multiple of four
/// is padded with leading zeros. Each of them is a step to quadrant 0, which swaps; swapping in advance compensates.
pub(super) const fn start(order: u32) -> u16 {
    if order % 2 == 1 {
        (SWAPPED as u16) << 8
    } else {
        0
    }
}

/// Builds both tables by following every code of eight bits through [`quadrant`] in every state.
const fn table(encode: bool) -> [u16; 1024] {
    let mut table = [0; 1024];
    let mut index = 0;
    while index < 1024 {
        let (first, code) = ((index >> 8) as u8, (index & 0xff) as u8);
        let (mut x, mut y, mut state) = (0, 0, first);
        let mut shift = 2 * TABLE_BITS;
        while shift > 0 {
            shift -= 2;
            let (x_bit, y_bit, next) = quadrant(state, (code >> shift) & 3);
            (x, y, state) = (x << 1 | x_bit, y << 1 | y_bit, next);
        }
        let (pair, after) = ((x << TABLE_BITS | y) as u16, (state as u16) << 8);
        if encode {
            table[(first as usize) << 8 | pair as usize] = after | code as u16;
        } else {
            table[index] = after | pair;
        }
        index += 1;
    }
    table
}
