//! Plans that are built in. They are files under `tests/plans/`, and can be used from there as well.

use super::plan::{Plan, PlanError};

/// Names and texts.
pub static ALL: &[(&str, &str)] = &[
    ("floor", include_str!("../../../tests/plans/floor.toml")),
    ("level1", include_str!("../../../tests/plans/level1.toml")),
    ("level2", include_str!("../../../tests/plans/level2.toml")),
    ("random", include_str!("../../../tests/plans/random.toml")),
    ("million", include_str!("../../../tests/plans/million.toml")),
    ("poison", include_str!("../../../tests/plans/poison.toml")),
    ("contrast", include_str!("../../../tests/plans/contrast.toml")),
    ("escapes", include_str!("../../../tests/plans/escapes.toml")),
];

/// The text of the preset of this name.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(of, _)| *of == name).map(|(_, text)| *text)
}

/// The preset of this name; `None` if there is none.
///
/// # Errors
/// Its text cannot be read: a mistake in this repository.
pub fn find(name: &str) -> Option<Result<Plan, PlanError>> {
    text(name).map(|text| Plan::read(name, text))
}

/// Names, for messages.
pub fn names() -> String {
    ALL.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}
