//! Nearest neighbours, boxes and balls of atoms in SQL.

use crate::atom::argument::{AtomArgument, key_argument};
use crate::atom::key::modality_argument;
use crate::atom::many::nearest_of_many;
use crate::atom::places::StoredPlaces;
use crate::atom::store_for_reading;
use crate::error::{Code, Failure, Result, or_raise, required};
use crate::pg::array::{IntegerArray, read};
use modelstore_atom::spatial::{self, NearAtom, Region, within};
use modelstore_atom::{Key, Point};
use pgrx::prelude::*;

/// Upper bound of the distance between two atoms: 2^29.
const FARTHEST: f64 = 536_870_912.0;

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn nearest(
    atom: Option<AtomArgument>,
    k: default!(Option<i32>, 10),
    modality: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(h_xy, i64),
        name!(h_yz, i64),
        name!(h_zm, i64),
        name!(distance, f64),
    ),
> {
    let found = or_raise((|| {
        let (own, point) = key_argument(atom, "atom")?.parts()?;
        let modality = modality_argument(modality)?.unwrap_or(own);
        let k = count(k)?;
        let store = store_for_reading()?;
        store
            .snapshot()
            .with(|| spatial::nearest(&mut StoredPlaces::open(&store)?, &point, k, Some(modality)))
    })());
    TableIterator::new(
        found
            .into_iter()
            .map(|n| (n.key.h_xy, n.key.h_yz, n.key.h_zm, distance(&n))),
    )
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn nearest_points(
    points: Option<IntegerArray<'_>>,
    k: default!(Option<i32>, 10),
    modality: default!(Option<&str>, "NULL"),
) -> TableIterator<
    'static,
    (
        name!(point_index, i64),
        name!(h_xy, i64),
        name!(h_yz, i64),
        name!(h_zm, i64),
        name!(distance, f64),
    ),
> {
    let found = or_raise((|| {
        let points = points_argument(points, "points")?;
        let (k, modality) = (count(k)?, modality_argument(modality)?);
        let store = store_for_reading()?;
        store
            .snapshot()
            .with(|| nearest_of_many(&store, &points, k, modality))
    })());
    TableIterator::new(found.into_iter().enumerate().flat_map(|(index, found)| {
        found.into_iter().map(move |n| {
            (
                index as i64 + 1,
                n.key.h_xy,
                n.key.h_yz,
                n.key.h_zm,
                distance(&n),
            )
        })
    }))
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn within_box(
    min: Option<IntegerArray<'_>>,
    max: Option<IntegerArray<'_>>,
    modality: default!(Option<&str>, "NULL"),
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    let found = or_raise((|| {
        let (min, max) = (corner(min, "min")?, corner(max, "max")?);
        let names = ["x", "y", "z", "m"];
        for ((name, low), high) in names.iter().zip(min.coordinates()).zip(max.coordinates()) {
            if low > high {
                return Err(Failure::new(
                    Code::ERRCODE_INVALID_PARAMETER_VALUE,
                    format!("box from {low} to {high} along {name} is empty"),
                ));
            }
        }
        inside(&Region::Box { min, max }, modality)
    })());
    TableIterator::new(found.into_iter().map(|key| (key.h_xy, key.h_yz, key.h_zm)))
}

#[pg_extern(stable, parallel_restricted)]
#[search_path(pg_catalog, pg_temp)]
fn within_radius(
    point: Option<IntegerArray<'_>>,
    radius: Option<f64>,
    modality: default!(Option<&str>, "NULL"),
) -> TableIterator<'static, (name!(h_xy, i64), name!(h_yz, i64), name!(h_zm, i64))> {
    let found = or_raise((|| {
        let center = corner(point, "point")?;
        let radius = required(radius, "radius")?;
        if radius.is_nan() || radius < 0.0 {
            return Err(Failure::new(
                Code::ERRCODE_INVALID_PARAMETER_VALUE,
                format!("radius {radius} is out of range"),
            )
            .detail("A radius is 0 or more."));
        }
        let radius_squared = square(radius.min(FARTHEST));
        inside(
            &Region::Ball {
                center,
                radius_squared,
            },
            modality,
        )
    })());
    TableIterator::new(found.into_iter().map(|key| (key.h_xy, key.h_yz, key.h_zm)))
}

fn inside(region: &Region, modality: Option<&str>) -> Result<Vec<Key>> {
    let modality = modality_argument(modality)?;
    let store = store_for_reading()?;
    store
        .snapshot()
        .with(|| within(&mut StoredPlaces::open(&store)?, region, modality))
}

fn distance(neighbour: &NearAtom) -> f64 {
    root(neighbour.distance_squared)
}

fn root(squared: u64) -> f64 {
    (squared as f64).sqrt()
}

/// Returns the largest square whose rounded root is at most the radius. Results then agree with the distances that
/// [`nearest`] returns.
fn square(radius: f64) -> u64 {
    let mut squared = radius.powi(2) as u64;
    while root(squared) > radius {
        squared -= 1;
    }
    while root(squared + 1) <= radius {
        squared += 1;
    }
    squared
}

fn count(k: Option<i32>) -> Result<usize> {
    let k = required(k, "k")?;
    usize::try_from(k).map_err(|_| {
        Failure::new(
            Code::ERRCODE_INVALID_PARAMETER_VALUE,
            format!("number of neighbours {k} is out of range"),
        )
        .detail("It is 0 or more.")
    })
}

/// Reads an argument of one point.
fn corner(point: Option<IntegerArray<'_>>, name: &str) -> Result<Point> {
    let points = points_argument(point, name)?;
    match points[..] {
        [point] => Ok(point),
        _ => Err(wrong_shape(name)),
    }
}

/// Reads the points in an array of four numbers, or of rows of four.
fn points_argument(points: Option<IntegerArray<'_>>, name: &str) -> Result<Vec<Point>> {
    let points = required(points, name)?;
    let (shape, bytes) = read(points.0.bytes(), 4)?;
    match shape.dims() {
        [4] | [_, 4] | [0] => {}
        _ => return Err(wrong_shape(name)),
    }
    let coordinate = |bytes: [u8; 4]| i64::from(i32::from_ne_bytes(bytes));
    let (coordinates, _) = bytes.as_chunks::<4>();
    let (rows, _) = coordinates.as_chunks::<4>();
    rows.iter()
        .map(|row| Ok(Point::new(row.map(coordinate))?))
        .collect()
}

fn wrong_shape(name: &str) -> Failure {
    Failure::new(
        Code::ERRCODE_ARRAY_ELEMENT_ERROR,
        format!("argument \"{name}\" has the wrong number of coordinates"),
    )
    .detail("A point is an array of four: x, y, z and m.")
}
