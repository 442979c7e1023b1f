use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;

use refault_abi::pattern::{FILE_B, fill};

use super::*;

const ASKED: u64 = 10_000;

/// A mapping of file A into which `moved` bytes of file B from `start` were read.
fn mapping(start: u64, moved: usize) -> Vec<u8> {
    let mut mapping = vec![0; 12_288];
    fill(FILE_A, 0, &mut mapping);
    fill(FILE_B, start, &mut mapping[BUFFER_OFFSET..BUFFER_OFFSET + moved]);
    mapping
}

fn observe(got: Result<u64>, position: u64, mapping: &[u8]) -> Observation {
    Observation::of(Case::SecondStage, FILE_B, ASKED, got, 7, position, mapping)
}

#[test]
fn full_and_short_reads_are_consistent() {
    let full = observe(Ok(ASKED), 7 + ASKED, &mapping(7, ASKED as usize));
    assert!(full.consistent());
    assert_eq!(
        full.json().to_string(),
        "{\"case\":\"second-stage\",\"asked\":10000,\"got\":10000,\"error\":null,\"right\":true,\
         \"untouched_ok\":true,\"moved\":10000,\"start\":7,\"position\":10007,\"position_ok\":true}"
    );
    let short = observe(Ok(3_973), 7 + 3_973, &mapping(7, 3_973));
    assert!(short.consistent());
    assert!(short.to_string().contains("got 3973 (SHORT)"), "{short}");
    // More may have been moved than was answered.
    assert!(observe(Ok(100), 107, &mapping(7, 3_973)).consistent());
    let refused = observe(Err(Errno::EFAULT), 7, &mapping(7, 3_973));
    assert!(refused.consistent());
    assert!(refused.json().to_string().contains("\"got\":0,\"error\":\"EFAULT\""));
}

#[test]
fn anything_else_is_not() {
    let good = mapping(7, ASKED as usize);
    let end = BUFFER_OFFSET + ASKED as usize;
    for (index, what) in
        [(0, "before"), (BUFFER_OFFSET, "first"), (5_000, "middle"), (end - 1, "last"), (end, "behind")]
    {
        let mut damaged = good.clone();
        damaged[index] ^= 1;
        assert!(!observe(Ok(ASKED), 7 + ASKED, &damaged).consistent(), "{what}");
    }
    assert!(!observe(Ok(ASKED), 7 + ASKED - 1, &good).consistent(), "position");
    assert!(!observe(Ok(ASKED), 7 + ASKED, &mapping(8, ASKED as usize)).right, "shifted by one");
    assert!(!observe(Ok(4_000), 4_007, &mapping(7, 3_973)).right, "more claimed than moved");
    // A hole: the bytes behind it were moved although those in it were not.
    let mut holed = good.clone();
    fill(FILE_A, 4_096, &mut holed[4_096..8_192]);
    assert!(!observe(Ok(3_973), 3_980, &holed).untouched);
}

#[test]
fn arguments() {
    let default = Arguments::parse([]).unwrap();
    assert_eq!((default.cases.len(), default.bytes, default.offset), (2, 65_536, 0));
    let chosen = Arguments::parse(["--case", "first-stage", "--bytes", "1", "--offset", "513"]).unwrap();
    assert_eq!(chosen, Arguments { cases: &[Case::FirstStage], bytes: 1, offset: 513, same_file: false });
    assert!(Arguments::parse(["--same-file", "--bytes", "7"]).unwrap().same_file);
    assert_eq!(Arguments::parse(["--bytes", "0"]), Err("0"));
    assert_eq!(Arguments::parse(["--bytes", "-1"]), Err("-1"));
    assert_eq!(Arguments::parse(["--case"]), Err(""));
    assert_eq!(Arguments::parse(["--case", "third"]), Err("third"));
    assert_eq!(Arguments::parse(["/a.bin"]), Err("/a.bin"));
}
