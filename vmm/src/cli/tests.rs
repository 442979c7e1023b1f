//! The command line as clap sees it.

use super::*;
use clap::CommandFactory;

#[test]
fn the_definition_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_has_an_example() {
    let mut command = Cli::command();
    command.build();
    for verb in command.get_subcommands().filter(|v| v.get_name() != "help") {
        let help = verb.clone().render_long_help().to_string();
        assert!(help.contains("Example"), "{} has no example", verb.get_name());
        // What `export` gives are the files themselves.
        assert!(verb.get_name() == "export" || help.contains("--json"), "{} has no --json", verb.get_name());
    }
}

#[test]
fn causes_are_shown_once() {
    let inner = std::io::Error::other("disk on fire");
    let error = anyhow::Error::new(inner).context("the image cannot be read");
    assert_eq!(chain(&error), "the image cannot be read\n  because: disk on fire");
    let repeated = anyhow::anyhow!("disk on fire").context("broken: disk on fire");
    assert_eq!(chain(&repeated), "broken: disk on fire");
}
