//! A GGUF file, or the parts of one that was split: `x-00001-of-00003.gguf` to `x-00003-of-00003.gguf`, of which the first
//! says what the model is and each holds some of its tensors.

use std::path::{Path, PathBuf};

use super::Header;
use crate::EngineError;
use crate::files::Blob;
use crate::model::files::read_failure;

/// An opened file with all its parts.
pub(in crate::model) struct OpenedGguf {
    /// Of the first part, with the tensors of all.
    pub(in crate::model) header: Header,
    /// The parts.
    pub(in crate::model) blobs: Vec<Blob>,
    /// Where they are.
    pub(in crate::model) paths: Vec<PathBuf>,
}

/// Opens a file and, where it is one part of several, the others beside it.
pub(in crate::model) fn open(path: &Path) -> Result<OpenedGguf, EngineError> {
    let (header, blob) = read(path)?;
    let count = parts(&header)?;
    if count < 2 {
        return Ok(OpenedGguf { header, blobs: vec![blob], paths: vec![path.to_path_buf()] });
    }
    let paths: Vec<PathBuf> = part_names(path, &header)?.iter().map(|name| path.with_file_name(name)).collect();
    if let Some(missing) = paths.iter().find(|path| !path.is_file()) {
        let number = paths.iter().position(|part| part == path).map_or(1, |index| index + 1);
        return Err(EngineError::invalid(
            format!(
                "{} is part {number} of {count} (`split.count`), and {} is not beside it",
                path.display(),
                missing.display()
            ),
            "fetch every part into one folder, under the names that they were published with",
        ));
    }
    let mut opened: Option<OpenedGguf> = None;
    for (index, path) in paths.iter().enumerate() {
        let (mut part, blob) = read(path)?;
        let number = part.count("split.no")?;
        let found = parts(&part)?;
        if found != count || number != Some(index) {
            let what = format!("{number:?} of {found} parts, not {index} of {count} as its name says");
            return Err(part.refused("split.no", &what, "take all parts from one repository and one revision"));
        }
        for tensor in part.tensors.values_mut() {
            tensor.file = index;
        }
        match &mut opened {
            None => opened = Some(OpenedGguf { header: part, blobs: vec![blob], paths: paths.clone() }),
            Some(opened) => {
                opened.header.tensors.extend(part.tensors);
                opened.blobs.push(blob);
            }
        }
    }
    let opened = opened.ok_or_else(|| header.missing("split.count"))?;
    let (held, promised) = (opened.header.tensors.len(), opened.header.count("split.tensors.count")?);
    match promised {
        Some(promised) if promised != held => Err(opened.header.refused(
            "split.tensors.count",
            &format!("{promised}, but its {count} parts hold {held} tensors"),
            "take all parts from one repository and one revision",
        )),
        _ => Ok(opened),
    }
}

/// The names of the parts that a file belongs to; none where it is whole.
pub(in crate::model) fn split_names(path: &Path) -> Result<Vec<String>, EngineError> {
    let (header, _) = read(path)?;
    if parts(&header)? < 2 { Ok(Vec::new()) } else { part_names(path, &header) }
}

fn read(path: &Path) -> Result<(Header, Blob), EngineError> {
    let blob = Blob::open(path).map_err(|source| read_failure(path, source))?;
    Ok((Header::read(&blob)?, blob))
}

fn parts(header: &Header) -> Result<usize, EngineError> {
    match header.count("split.count")? {
        Some(count) if count > usize::from(u16::MAX) => {
            Err(header.refused("split.count", &count.to_string(), "fetch the file again; it may be damaged"))
        }
        count => Ok(count.unwrap_or(1)),
    }
}

fn part_names(path: &Path, header: &Header) -> Result<Vec<String>, EngineError> {
    let count = parts(header)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(&format!("-of-{count:05}.gguf")).and_then(|rest| {
        let (stem, number) = rest.rsplit_once('-')?;
        number.parse::<usize>().is_ok_and(|number| (1..=count).contains(&number)).then_some(stem)
    });
    let stem = stem.ok_or_else(|| {
        let what = format!("{count}: it is one of so many parts, but is not named like `x-00001-of-{count:05}.gguf`");
        header.refused("split.count", &what, "give every part the name that it was published with")
    })?;
    Ok((1..=count).map(|number| format!("{stem}-{number:05}-of-{count:05}.gguf")).collect())
}
