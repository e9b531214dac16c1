//! `univi-nano`: the small model that ships with the project, from nothing.

pub mod blueprint;
pub mod data;
pub mod eval;
pub mod recipe;
pub mod vision_pretraining;
