//! Chat templates as transformers renders them: minijinja, with what Python and Jinja2 have beyond it.

mod arguments;
mod builtins;
mod json;
mod methods;
mod number;
mod source;
mod template;

pub(super) use template::Compiled;
pub use template::Message;
