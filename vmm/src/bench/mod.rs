//! Benchmarks of the guest, and the document that all of them make.
//!
//! The one thing to hold in mind: a figure is worth something together with its host and with how it was got, so the
//! document carries the host, and instruction counts are preferred to times: they are the same on every host.

pub mod compare;
pub mod costs;
pub mod document;
pub mod inject;
pub mod samples;
pub mod table;

/// The benchmarks by name, each with what it is about.
pub const ALL: [(&str, &str); 2] = [
    ("costs", "what operations cost: ring-0 instructions, messages and copies, under each policy"),
    (
        "inject",
        "what injection costs: a mechanism's steps, runs and faults per second, restoring, nothing armed",
    ),
];
