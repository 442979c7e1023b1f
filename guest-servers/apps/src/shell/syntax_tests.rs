use alloc::string::{String, ToString};
use alloc::vec;

use super::super::lexer::Part;
use super::*;

fn word(text: &str) -> Word {
    vec![Part::Text(text.to_string())]
}

/// The names of a job's commands, with when they run.
fn names(job: &Job) -> Vec<(When, Vec<String>)> {
    let name = |command: &Command| match command.words.first().map(Vec::as_slice) {
        Some([Part::Text(text)]) => text.clone(),
        other => panic!("{other:?}"),
    };
    job.pipelines.iter().map(|(when, pipeline)| (*when, pipeline.iter().map(name).collect())).collect()
}

#[test]
fn what_belongs_together_and_when_it_runs() {
    let jobs = parse("a | b && c || d; e & f\n").unwrap();
    assert_eq!(jobs.len(), 3);
    assert_eq!(
        names(&jobs[0]),
        [
            (When::Always, vec!["a".to_string(), "b".to_string()]),
            (When::Succeeded, vec!["c".to_string()]),
            (When::Failed, vec!["d".to_string()]),
        ]
    );
    assert_eq!((jobs[0].background, jobs[1].background, jobs[2].background), (false, true, false));
    // The next job does not depend on the last one.
    assert_eq!(names(&jobs[1])[0].0, When::Always);
    assert_eq!(parse(""), Ok(vec![]));
    assert_eq!(parse("; ;\n;"), Ok(vec![]));
}

#[test]
fn redirections_belong_to_their_command() {
    let jobs = parse("cat < in 2>&1 > out | sum >> 'all of it'").unwrap();
    let pipeline = &jobs[0].pipelines[0].1;
    assert_eq!(
        pipeline[0].redirections,
        [(0, Target::Read(word("in"))), (2, Target::Descriptor(1)), (1, Target::Write(word("out")))]
    );
    assert_eq!(pipeline[1].redirections, [(1, Target::Append(word("all of it")))]);
    assert_eq!(pipeline[0].words, [word("cat")]);
}

#[test]
fn lines_that_mean_nothing() {
    for line in ["| a", "a |", "a && ", "&& a", "a || | b", "&", "a | ; b", "> f"] {
        assert_eq!(parse(line), Err(Error::CommandMissing), "{line}");
    }
    for line in ["a >", "a > | b", "a < ; b", "a >> > c"] {
        assert_eq!(parse(line), Err(Error::FileMissing), "{line}");
    }
    assert_eq!(parse("a 'b"), Err(Error::Words(Wrong::Quote('\''))));
}
