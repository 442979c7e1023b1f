//! Servers and processes that die while others wait for them.
//!
//! The one thing to hold in mind: after each death everybody who waited has been answered, with the right result or with a
//! defined error, and the system goes on.

pub mod parties;
pub mod servers;
