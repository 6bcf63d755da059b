//! Plots of numbers as text: [`line_plot`] draws SVG, [`sparkline`] one line of block characters.
//!
//! Equal input gives equal output, byte by byte.

mod axis;
mod canvas;
pub mod error;
mod legend;
pub mod line_plot;
mod reduce;
pub mod smooth;
pub mod sparkline;
mod text;
mod ticks;

pub use error::{Error, Result};
pub use line_plot::{LinePlot, Series};
pub use smooth::smooth;
pub use sparkline::sparkline;
