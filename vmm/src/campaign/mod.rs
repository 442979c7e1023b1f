//! Campaigns: many runs, each with its faults, each judged.

pub mod baseline;
pub mod experiment;
pub mod kind;
pub mod oracle;
pub mod plan;
pub mod presets;
pub mod record;
pub mod tree;
pub mod workload;
