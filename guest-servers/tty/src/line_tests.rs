use std::string::String;

use super::*;

extern crate std;

/// Types a text; answers what was shown.
fn type_in(line: &mut Line, text: &str) -> String {
    let mut echo = Vec::new();
    for byte in text.bytes() {
        line.typed(byte, &mut echo);
    }
    String::from_utf8(echo).unwrap()
}

#[test]
fn a_line_can_be_read_when_it_is_ended_and_in_parts() {
    let mut line = Line::new();
    assert_eq!(type_in(&mut line, "ls"), "ls");
    assert_eq!(line.peek(10), None);
    assert_eq!(type_in(&mut line, " -l\rx"), " -l\nx");
    assert_eq!(line.peek(3), Some(&b"ls "[..]));
    // Looking takes nothing away.
    assert_eq!(line.peek(100), Some(&b"ls -l\n"[..]));
    line.consume(3);
    assert_eq!(line.peek(100), Some(&b"-l\n"[..]));
    line.consume(3);
    assert_eq!(line.peek(100), None);
    type_in(&mut line, "\n");
    assert_eq!(line.peek(100), Some(&b"x\n"[..]));
}

#[test]
fn characters_words_and_lines_can_be_taken_back() {
    let mut line = Line::new();
    assert_eq!(type_in(&mut line, "ab\x7f"), "ab\x08 \x08");
    // All bytes of a character, and two columns for a control character.
    type_in(&mut line, "ü\x08");
    assert_eq!(type_in(&mut line, "\x01\x08"), "^A\x08 \x08\x08 \x08");
    type_in(&mut line, "x yz  \x17w\n");
    assert_eq!(line.peek(100), Some(&b"ax w\n"[..]));
    line.consume(100);
    // Nothing left to take back is shown as nothing.
    assert_eq!(type_in(&mut line, "q\x15\x7f\x15"), "q\x08 \x08");
    type_in(&mut line, "\n");
    assert_eq!(line.peek(100), Some(&b"\n"[..]));
}

#[test]
fn end_of_file_ends_a_line_without_its_end() {
    let mut line = Line::new();
    type_in(&mut line, "abc\x04\x04d\n");
    assert_eq!(line.peek(100), Some(&b"abc"[..]));
    line.consume(3);
    // The end of the input, once.
    assert_eq!(line.peek(100), Some(&b""[..]));
    line.consume(0);
    assert_eq!(line.peek(100), Some(&b"d\n"[..]));
}

#[test]
fn an_interrupt_throws_everything_away() {
    let mut line = Line::new();
    let mut echo = Vec::new();
    type_in(&mut line, "one\ntwo");
    assert_eq!(line.typed(3, &mut echo), Effect::Interrupt);
    assert_eq!(echo, b"^C\n");
    assert_eq!(line.peek(100), None);
    type_in(&mut line, "\n");
    assert_eq!(line.peek(100), Some(&b"\n"[..]));
}

#[test]
fn lines_and_their_number_are_bounded() {
    let mut line = Line::new();
    for _ in 0..LINE_MAX + 50 {
        type_in(&mut line, "x");
    }
    assert_eq!(type_in(&mut line, "x"), "\x07");
    type_in(&mut line, "\n");
    assert_eq!(line.peek(1000).unwrap().len(), LINE_MAX);
    let mut taken = 0;
    while line.has_room(32) {
        // Even empty lines fill it: an end of file costs memory as well.
        type_in(&mut line, "\x04");
        taken += 1;
        assert!(taken <= READY_MAX);
    }
    line.consume(LINE_MAX);
    assert!(line.has_room(32));
}
