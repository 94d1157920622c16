//! What filters and methods do alike with their arguments.

use minijinja::value::{ArgType, Kwargs};
use minijinja::{Error, ErrorKind};

/// Longer than any layout of a prompt.
const WIDEST: usize = 1 << 16;

/// An argument that comes by place or by name.
pub(super) fn either<T>(placed: Option<T>, named: &Kwargs, name: &str) -> Result<Option<T>, Error>
where
    T: for<'a> ArgType<'a, Output = T>,
{
    match placed {
        Some(value) => Ok(Some(value)),
        None => named.get::<Option<T>>(name),
    }
}

/// The width, where a layout may have it.
pub(super) fn bounded(width: usize) -> Result<usize, Error> {
    if width > WIDEST {
        return Err(failed(&format!("a width of {width} characters")));
    }
    Ok(width)
}

pub(super) fn failed(what: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, what.to_owned())
}
