//! One request's way from token to token: stops, text, details. Shared by every engine of ours.
/// Stop rules.
pub struct StopRules {}
/// Generation.
pub struct Generation {}
