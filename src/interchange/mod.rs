//! Others' files: runs written as other tools write theirs, and their results read as runs. `export.rs` lists what is written, `import.rs`
//! what is read; a folder a tool has how it lays its files out.

mod export;
mod file;
mod inspect;
mod lm_eval;
mod parquet;
mod rows;

pub use export::{EXPORT_FORMATS, Export, ExportFormat, Exported, export};
pub use rows::ExportedRow;
