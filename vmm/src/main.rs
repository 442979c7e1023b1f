//! `refault`
fn main() {}
