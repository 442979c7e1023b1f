//! Campaigns: many runs, each with its faults, each judged.

pub mod record;
