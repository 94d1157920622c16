//! Datasets: bundled, from the hub, or from a parquet, JSON or CSV file or a folder of them.

mod container;
mod csv;
mod data_file;
mod json;
mod locate;
mod names;
mod open;
mod parquet;
mod read;
mod row;
mod sources;
mod spec;

pub(super) use locate::train_split;
pub use open::Dataset;
pub(super) use read::read_examples;
pub use spec::DatasetSpec;
