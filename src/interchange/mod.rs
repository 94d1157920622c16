//! Others' files: runs written as other tools write theirs, and their results read as runs. `export.rs` lists what is written, `import.rs`
//! what is read; a folder a tool has how it lays its files out.

mod export;
mod file;
mod import;
mod inspect;
mod lm_eval;
mod origin;
mod parquet;
mod rows;
mod told;

pub use export::{EXPORT_FORMATS, Export, ExportFormat, Exported, export};
pub use import::{Import, import};
pub use rows::ExportedRow;
