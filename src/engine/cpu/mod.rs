//! The reference engine on the CPU.
