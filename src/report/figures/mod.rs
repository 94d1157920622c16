//! Measurements of several records side by side, whatever they measured: each kind of record gives its [`Figures`], and tables,
//! charts, the page, CSV and JSON are made of these alone.

mod chart;
mod csv;
mod measured;
mod scale;
mod view;

pub use csv::csv;
pub use measured::{FIGURES_FORMAT, FigurePart, Figures, MeasuredFigure, RecordFacts, Series};
pub use view::{ChartView, FiguresView, LegendView, TableView, render_figures};
