//! Tests of the serial line and its input, with a real event loop and pipes.

use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;

use event_manager::{EventManager, SubscriberOps};

use super::input::SerialInput;
use super::*;

const DATA: u64 = 0;
const IER: u64 = 1;
const IIR: u64 = 2;
const LSR: u64 = 5;

#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Broken;

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line() -> (Arc<Serial>, EventFd, Output) {
    let irq = EventFd::new(EFD_NONBLOCK).unwrap();
    let out = Output::default();
    let serial = Serial::new(irq.try_clone().unwrap(), Box::new(out.clone())).unwrap();
    (Arc::new(serial), irq, out)
}

fn get(serial: &Serial, offset: u64) -> u8 {
    let mut data = [0xff];
    assert_eq!(Device::<()>::read(serial, offset, &mut data), Access::Done);
    data[0]
}

fn put(serial: &Serial, offset: u64, value: u8) {
    assert_eq!(Device::<()>::write(serial, offset, &[value]), Access::Done);
}

fn drain(serial: &Serial) -> Vec<u8> {
    let mut got = Vec::new();
    while get(serial, LSR) & 1 != 0 {
        got.push(get(serial, DATA));
    }
    got
}

#[test]
fn output_reaches_the_writer() {
    let (serial, _irq, out) = line();
    for byte in b"hello\n" {
        put(&serial, DATA, *byte);
    }
    assert_eq!(*out.0.lock().unwrap(), b"hello\n");
    assert_eq!(serial.counts().out, 6);
}

#[test]
fn output_that_fails_is_counted_not_reported_to_the_guest() {
    let serial = Serial::new(EventFd::new(EFD_NONBLOCK).unwrap(), Box::new(Broken)).unwrap();
    put(&serial, DATA, b'x');
    assert_eq!((serial.counts().out, serial.counts().lost), (0, 1));
}

#[test]
fn input_interrupts_when_enabled() {
    let (serial, irq, _out) = line();
    put(&serial, IER, 1);
    assert!(irq.read().is_err(), "no interrupt before there is input");
    assert_eq!(serial.enqueue(b"ab"), 2);
    assert_eq!(irq.read().unwrap(), 1);
    assert_eq!(drain(&serial), b"ab");
}

#[test]
fn input_stops_at_a_full_fifo_and_room_is_signalled() {
    let (serial, _irq, _out) = line();
    assert_eq!(serial.enqueue(&[7; 100]), 64);
    assert_eq!(serial.enqueue(&[7; 36]), 0);
    assert!(serial.room().read().is_err());
    assert_eq!(drain(&serial).len(), 64);
    assert!(serial.room().read().is_ok());
    assert_eq!(serial.enqueue(&[7; 36]), 36);
}

#[test]
fn wide_accesses_are_refused() {
    let (serial, _irq, _out) = line();
    let mut data = [0xff; 2];
    assert_eq!(Device::<()>::read(&*serial, 0, &mut data), Access::Refused(Refusal::Width));
    assert_eq!(Device::<()>::write(&*serial, 0, &data), Access::Refused(Refusal::Width));
}

/// Feeds `from` to a line through a real loop, reading as the guest would, until `want` bytes have come.
fn feed(from: OwnedFd, want: usize) -> Vec<u8> {
    let (serial, _irq, _out) = line();
    let mut manager = EventManager::<SerialInput>::new().unwrap();
    manager.add_subscriber(SerialInput::new(serial.clone(), from).unwrap());
    let mut got = Vec::new();
    for _ in 0..10_000 {
        if got.len() >= want {
            break;
        }
        manager.run_with_timeout(0).unwrap();
        got.extend(drain(&serial));
    }
    got
}

#[test]
fn a_pipe_longer_than_the_fifo_arrives_whole_and_in_order() {
    let (read, mut write) = io::pipe().unwrap();
    let sent: Vec<u8> = (0..1000u32).map(|i| (i % 251) as u8).collect();
    write.write_all(&sent).unwrap();
    drop(write);
    assert_eq!(feed(read.into(), sent.len()), sent);
}

#[test]
fn a_regular_file_is_read_too() {
    let mut file = tempfile::tempfile().unwrap();
    let sent: Vec<u8> = (0..500u32).map(|i| (i % 251) as u8).collect();
    file.write_all(&sent).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    assert_eq!(feed(file.into(), sent.len()), sent);
}

#[test]
fn a_full_line_is_not_watched_and_the_end_is_noticed() {
    let (serial, _irq, _out) = line();
    let (read, mut write) = io::pipe().unwrap();
    write.write_all(&[1; 80]).unwrap();
    let mut manager = EventManager::<SerialInput>::new().unwrap();
    let id = manager.add_subscriber(SerialInput::new(serial.clone(), read.into()).unwrap());
    manager.run_with_timeout(0).unwrap();
    assert_eq!(serial.input_room(), 0);
    // One more turn notices the full line and stops watching; after that nothing is ready.
    manager.run_with_timeout(0).unwrap();
    assert_eq!(manager.run_with_timeout(0).unwrap(), 0);

    drop(write);
    let mut got = drain(&serial);
    for _ in 0..10 {
        manager.run_with_timeout(0).unwrap();
        got.extend(drain(&serial));
    }
    assert_eq!(got.len(), 80);
    assert!(manager.subscriber_mut(id).unwrap().ended());
    assert_eq!(manager.run_with_timeout(0).unwrap(), 0, "an ended descriptor is not watched");
}

#[test]
fn the_end_is_typed_once_and_again_behind_an_open_line() {
    // 63 and 64 bytes leave room for one of two, and for none.
    let open = |length: usize| (vec![b'x'; length], 2);
    for (text, ends) in [(vec![], 1), (b"a\n".to_vec(), 1), (b"ab".to_vec(), 2), open(63), open(64), open(65)]
    {
        let (serial, _irq, _out) = line();
        let (read, mut write) = io::pipe().unwrap();
        write.write_all(&text).unwrap();
        drop(write);
        let mut manager = EventManager::<SerialInput>::new().unwrap();
        let input = SerialInput::new(serial.clone(), read.into()).unwrap().ending_with(4);
        let id = manager.add_subscriber(input);
        let mut got = Vec::new();
        for _ in 0..20 {
            // The FIFO is emptied only now and then, so that it is full in between.
            manager.run_with_timeout(0).unwrap();
            manager.run_with_timeout(0).unwrap();
            got.extend(drain(&serial));
        }
        assert_eq!(got, [text, vec![4; ends]].concat());
        assert!(manager.subscriber_mut(id).unwrap().ended());
    }
}

#[test]
fn a_descriptor_that_cannot_be_read_has_ended() {
    let (serial, _irq, _out) = line();
    let mut manager = EventManager::<SerialInput>::new().unwrap();
    let directory = std::fs::File::open("/").unwrap();
    let id =
        manager.add_subscriber(SerialInput::new(serial.clone(), directory.into()).unwrap().ending_with(4));
    assert_eq!(drain(&serial), [4]);
    assert!(manager.subscriber_mut(id).unwrap().ended());
}

#[test]
fn a_line_put_back_has_its_registers_and_input_and_is_silent() {
    let (serial, irq, out) = line();
    put(&serial, IER, 3);
    assert_eq!(serial.enqueue(b"abc"), 3);
    put(&serial, DATA, b'1');
    while irq.read().is_ok() {}
    let saved = serial.save();
    assert_eq!(drain(&serial), b"abc");
    assert_eq!(serial.enqueue(b"other"), 5);
    put(&serial, IER, 0);
    let before = serial.counts();
    // Interrupts and room of the time after.
    serial.room().write(1).unwrap();
    irq.write(1).unwrap();
    serial.restore(&saved).unwrap();
    assert_eq!(serial.save(), saved);
    assert!(irq.read().is_err() && serial.room().read().is_err());
    assert_eq!(serial.counts(), before);
    // It works, in both directions.
    assert_eq!(drain(&serial), b"abc");
    // The handler asks what it was, and is told again of the next.
    get(&serial, IIR);
    put(&serial, DATA, b'2');
    assert_eq!(*out.0.lock().unwrap(), b"12");
    assert!(irq.read().is_ok());

    let foreign = SerialState { in_buffer: vec![0; FIFO + 1], ..saved };
    assert_eq!(serial.restore(&foreign), Err(ForeignState));
    put(&serial, DATA, b'3');
    assert_eq!(*out.0.lock().unwrap(), b"123");
}
