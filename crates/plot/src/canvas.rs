//! The drawing surface: an SVG whose inner unit is a tenth of a pixel, as the drawing library only has integer
//! coordinates.

use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBAColor, RGBColor, ShapeStyle, TextStyle};

use crate::reduce::Pixel;
use crate::{Error, Result};

/// Inner units per pixel.
pub(crate) const SCALE: i32 = 10;

/// The drawing library takes a font size as the height of the line, and divides by this.
const LINE_HEIGHT: f64 = 1.24;

pub(crate) const WHITE: RGBColor = RGBColor(255, 255, 255);
pub(crate) const TEXT: RGBColor = RGBColor(51, 51, 51);
pub(crate) const AXIS: RGBColor = RGBColor(120, 120, 120);
pub(crate) const GRID: RGBColor = RGBColor(228, 228, 228);

/// A point in pixels.
pub(crate) type Point = (f64, f64);

/// A rectangle in pixels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Area {
    pub(crate) left: f64,
    pub(crate) top: f64,
    pub(crate) right: f64,
    pub(crate) bottom: f64,
}

impl Area {
    pub(crate) fn width(&self) -> f64 {
        self.right - self.left
    }

    pub(crate) fn height(&self) -> f64 {
        self.bottom - self.top
    }

    pub(crate) fn contains(&self, (x, y): Point) -> bool {
        (self.left..=self.right).contains(&x) && (self.top..=self.bottom).contains(&y)
    }
}

/// The anchor point of a text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Anchor {
    Left,
    Center,
    Right,
    /// The center, with the text rotated upwards.
    Upwards,
}

/// Draws in pixels.
pub(crate) struct Canvas<'a> {
    backend: SVGBackend<'a>,
}

/// Lets `draw` draw an SVG of a size in pixels, and returns it.
pub(crate) fn svg(
    (width, height): (u32, u32),
    draw: impl FnOnce(&mut Canvas<'_>) -> Result<()>,
) -> Result<String> {
    let scale = SCALE.unsigned_abs();
    let mut svg = String::new();
    let mut canvas = Canvas {
        backend: SVGBackend::with_string(&mut svg, (width * scale, height * scale)),
    };
    draw(&mut canvas)?;
    canvas.backend.present().map_err(failed)?;
    drop(canvas);
    // The outer size is in pixels. Round joins, as a spike would otherwise look higher than it is.
    let inner = format!(
        r#"<svg width="{}" height="{}""#,
        width * scale,
        height * scale
    );
    let rest = svg.strip_prefix(&inner);
    let rest = rest.ok_or_else(|| Error::Drawing("unexpected start of the SVG".into()))?;
    Ok(format!(
        r#"<svg width="{width}" height="{height}" stroke-linejoin="round" stroke-linecap="round"{rest}"#
    ))
}

impl Canvas<'_> {
    pub(crate) fn line(&mut self, from: Point, to: Point, color: RGBColor) -> Result<()> {
        let style = stroke(color, 1.0);
        let drawn = self.backend.draw_line(units(from), units(to), &style);
        drawn.map_err(failed)
    }

    /// Draws a line through points in inner units.
    pub(crate) fn path(&mut self, points: &[Pixel], color: RGBColor, width: f64) -> Result<()> {
        let drawn = self
            .backend
            .draw_path(points.iter().copied(), &stroke(color, width));
        drawn.map_err(failed)
    }

    /// Draws a dot around a point in inner units.
    pub(crate) fn dot(&mut self, center: Pixel, color: RGBColor, radius: f64) -> Result<()> {
        let radius = unit(radius).unsigned_abs();
        let drawn = self.backend.draw_circle(center, radius, &color, true);
        drawn.map_err(failed)
    }

    pub(crate) fn fill(&mut self, area: Area, color: RGBAColor) -> Result<()> {
        let (from, to) = ((area.left, area.top), (area.right, area.bottom));
        let drawn = self.backend.draw_rect(units(from), units(to), &color, true);
        drawn.map_err(failed)
    }

    /// Draws a text whose anchor is at half its height.
    pub(crate) fn text(&mut self, text: &str, at: Point, size: f64, anchor: Anchor) -> Result<()> {
        let height = size * LINE_HEIGHT * f64::from(SCALE);
        let font = ("sans-serif", height).into_font();
        let (font, horizontal) = match anchor {
            Anchor::Left => (font, HPos::Left),
            Anchor::Center => (font, HPos::Center),
            Anchor::Right => (font, HPos::Right),
            Anchor::Upwards => (font.transform(FontTransform::Rotate270), HPos::Center),
        };
        let style = TextStyle::from(font)
            .color(&TEXT)
            .pos(Pos::new(horizontal, VPos::Center));
        let drawn = self.backend.draw_text(text, &style, units(at));
        drawn.map_err(failed)
    }
}

fn stroke(color: RGBColor, width: f64) -> ShapeStyle {
    color.stroke_width(unit(width).unsigned_abs())
}

pub(crate) fn unit(pixels: f64) -> i32 {
    (pixels * f64::from(SCALE)).round() as i32
}

pub(crate) fn units((x, y): Point) -> Pixel {
    (unit(x), unit(y))
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::Drawing(error.to_string())
}
