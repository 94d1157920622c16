//! candle-transformers as it is.
