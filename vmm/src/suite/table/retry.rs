//! F1 to F14 for each of the eight requests that VFS repeats. `sys_retry`.
//!
//! What does not exist, and why: F3 of RDLINK, SLINK and STAT looks at the mapped file's position only, because the requests have
//! none; F4 is an append, so it is WRITE's; F6 and F7 are READ's and BREAD's, because `fs=restart` and `fs=efault` refuse
//! reads; F10 is SLINK's; F11 is `sys_pipes`; F12 is GETDENTS's; F13 needs an end that comes before the end of the buffer:
//! WRITE and BWRITE (an error there), SLINK and STAT have none; F14 shows the short result where there is a count to be short.

use crate::suite::{Expect, Test};

/// The requests; whether a file system moves their bytes in several copies.
const REQUESTS: [(&str, bool); 8] = [
    ("READ", true),
    ("WRITE", true),
    ("BREAD", true),
    ("BWRITE", true),
    ("GETDENTS", false),
    ("RDLINK", false),
    ("SLINK", false),
    ("STAT", false),
];

/// Schedules of each request and stage: five positions of the absent pages, each with the boundary of a page one byte before, at, and
/// one byte behind the byte that it is about.
const SCHEDULES: usize = 5 * 3;

/// Cases of a stage: those that are judgements on each schedule, and at least one of any other.
fn cases(numbers: &str) -> usize {
    let of = |number| match number {
        "F1" | "F2" | "F3" | "F5" | "F14" => SCHEDULES,
        // Appends: three positions of the absent pages, two other lengths of the file, and one that made the file longer.
        "F4" => 3 + 2 + 1,
        _ => 1,
    };
    numbers.split_whitespace().map(of).sum()
}

fn first(name: String, request: &str, numbers: &str) -> Test {
    Test::new(format!("{name}.first-stage"), &format!("sys_retry {request} first {numbers}"))
        .cases(cases(numbers))
        .faults()
}

fn second(name: String, request: &str, numbers: &str) -> Test {
    Test::new(format!("{name}.second-stage"), &format!("sys_retry {request} second {numbers}"))
        .cases(cases(numbers))
        .faults()
        .monitor()
}

/// The tests.
pub fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    for (request, in_pieces) in REQUESTS {
        tests.push(first(format!("F1-F3.{request}"), request, "F1 F2 F3"));
        tests.push(second(format!("F1-F3.{request}"), request, "F1 F2 F3"));
        let faithful = format!("F1-F3.{request}.faithful");
        // The seed's page-ins move positions: F3 is not for them.
        tests.push(first(faithful, request, "F1 F2").words("mode=faithful"));
        for fs in ["whole", "swallow"] {
            if fs == "swallow" && request == "SLINK" {
                // A file system that says it made a link, and did not, is believed: repeating would meet EEXIST.
                continue;
            }
            let name = format!("F5.{request}.{fs}");
            let words = format!("fs={fs}");
            tests.push(first(name.clone(), request, "F5 F2").words(&words));
            tests.push(second(name, request, "F5 F2").words(&words));
        }
        tests.push(
            Test::new(format!("F9.{request}"), &format!("sys_retry {request} first F9")).cases(2).faults(),
        );
        let name = format!("F14.{request}");
        let words = "retry=efault";
        let old =
            |test: Test| if in_pieces { test.words(words).expect(Expect::Short) } else { test.words(words) };
        tests.push(old(first(name.clone(), request, "F14")));
        tests.push(old(second(name.clone(), request, "F14")));
        // With a file system that fails the call, the old policy is enough.
        tests.push(first(format!("{name}.whole"), request, "F14").words("retry=efault fs=whole"));
    }
    tests.extend(special());
    tests
}

/// What is special about one request.
fn special() -> Vec<Test> {
    let mut tests = vec![
        first("F4.WRITE".into(), "WRITE", "F4"),
        second("F4.WRITE".into(), "WRITE", "F4"),
        first("F4.WRITE.whole".into(), "WRITE", "F4").words("fs=whole"),
        first("F4.WRITE.mark".into(), "WRITE", "F4").words("retry=mark"),
        first("F10.SLINK".into(), "SLINK", "F10"),
        second("F10.SLINK".into(), "SLINK", "F10"),
        first("F12.GETDENTS".into(), "GETDENTS", "F12"),
        second("F12.GETDENTS".into(), "GETDENTS", "F12"),
        first("F13.READ".into(), "READ", "F13"),
        second("F13.READ".into(), "READ", "F13"),
        first("F13.BREAD".into(), "BREAD", "F13"),
        second("F13.BREAD".into(), "BREAD", "F13"),
        Test::new("F13.RDLINK", "sys_retry RDLINK first F13"),
        Test::new("F13.GETDENTS", "sys_retry GETDENTS first F13"),
    ];
    for request in ["READ", "BREAD"] {
        tests.extend([
            Test::new(format!("F6.{request}"), &format!("sys_retry {request} F6")).words("fs=restart"),
            Test::new(format!("F7.{request}"), &format!("sys_retry {request} F7")).words("fs=efault"),
            Test::new(format!("F7.{request}.efault"), &format!("sys_retry {request} F7"))
                .words("fs=efault retry=efault"),
        ]);
    }
    for (request, in_pieces) in REQUESTS {
        let operation = request.to_ascii_lowercase();
        let page = u32::from(in_pieces);
        let test = |name: String| {
            Test::new(name, &format!("sys_retry {request} F8"))
                .rule(&format!("{operation} attempt=1 page={page} side=granter: reflect"))
                .rule(&format!("{operation} attempt=2 page=0 side=grantee: reflect"))
                .faults()
        };
        tests.push(test(format!("F8.{request}")));
        tests.push(test(format!("F8.{request}.mark")).words("retry=mark"));
    }
    tests
}
