use refault_abi::vfs::{O_CREAT, O_RDWR};

use super::*;

fn processes() -> Processes {
    Processes::new(OpenFile::new(Object::Device(Device::Terminal), O_RDWR))
}

#[test]
fn the_lowest_descriptor_is_taken_and_the_table_is_bounded() {
    let mut processes = processes();
    let user = Endpoint::new(1, 20);
    assert!(processes.admit(user).unwrap().is_none());
    let process = processes.get(user).unwrap();
    let file = || Rc::new(OpenFile::new(Object::Device(Device::Terminal), O_RDONLY));
    for expected in 3..OPEN_MAX as u64 {
        assert_eq!(process.install(file()), Ok(expected));
    }
    assert_eq!(process.install(file()), Err(Errno::EMFILE));
    assert!(process.close(1).is_ok());
    assert!(process.close(40).is_ok());
    assert_eq!(process.close(40).unwrap_err(), Errno::EBADF);
    assert_eq!((process.install(file()), process.install(file())), (Ok(1), Ok(40)));
    for wrong in [-1, i32::MIN, OPEN_MAX as i32, i32::MAX] {
        assert_eq!(process.open_file(wrong).unwrap_err(), Errno::EBADF);
        assert_eq!(process.close(wrong).unwrap_err(), Errno::EBADF);
    }
}

#[test]
fn another_generation_inherits_nothing() {
    let mut processes = processes();
    let (old, new) = (Endpoint::new(1, 20), Endpoint::new(2, 20));
    assert!(processes.admit(old).unwrap().is_none());
    processes.get(old).unwrap().close(0).unwrap();
    assert_eq!(processes.get(new).err(), Some(Errno::ESRCH));
    assert_eq!(processes.admit(new).unwrap().map(|process| process.endpoint), Some(old));
    assert!(processes.get(new).unwrap().open_file(0).is_ok());
    assert!(processes.remove(old).is_none());
    assert!(processes.remove(new).is_some());
    for nobody in [Endpoint::ANY, Endpoint::NONE, Endpoint::CLOCK, Endpoint::from_raw(i32::MIN)] {
        assert_eq!(processes.admit(nobody).err(), Some(Errno::ESRCH));
    }
}

#[test]
fn open_modes() {
    let check = |flags| {
        let file = OpenFile::new(Object::Device(Device::Terminal), flags);
        (file.check_readable().is_ok(), file.check_writable().is_ok(), file.appends())
    };
    assert_eq!(check(O_RDONLY | O_CREAT), (true, false, false));
    assert_eq!(check(O_WRONLY | O_APPEND), (false, true, true));
    assert_eq!(check(O_RDWR), (true, true, false));
}

#[test]
fn a_child_shares_the_open_files_and_not_the_table() {
    let mut processes = processes();
    let (parent, child) = (Endpoint::new(1, 20), Endpoint::new(1, 21));
    assert!(processes.admit(parent).unwrap().is_none());
    let shared = Rc::new(OpenFile::new(Object::Device(Device::Terminal), O_RDONLY));
    assert_eq!(processes.get(parent).unwrap().install(Rc::clone(&shared)), Ok(3));
    assert!(processes.fork(parent, child).unwrap().is_none());
    assert!(Rc::ptr_eq(&processes.get(child).unwrap().open_file(3).unwrap(), &shared));
    processes.get(child).unwrap().close(3).unwrap();
    assert!(processes.get(parent).unwrap().open_file(3).is_ok());
    // The slot's next owner has nothing of it, whoever its parent is.
    let next = Endpoint::new(2, 21);
    assert!(processes.fork(Endpoint::new(5, 30), next).unwrap().is_some());
    assert!(processes.get(child).is_err() && processes.get(next).unwrap().open_file(2).is_ok());
    assert_eq!(processes.fork(parent, Endpoint::ANY).err(), Some(Errno::ESRCH));
}

#[test]
fn duplicates() {
    let mut processes = processes();
    let user = Endpoint::new(1, 20);
    assert!(processes.admit(user).unwrap().is_none());
    let process = processes.get(user).unwrap();
    let file = Rc::new(OpenFile::new(Object::Device(Device::Terminal), O_RDONLY));
    assert_eq!(process.install(Rc::clone(&file)), Ok(3));
    assert!(matches!(process.duplicate(3, -1), Ok((4, None))));
    assert!(matches!(process.duplicate(3, 1), Ok((1, Some(_)))));
    assert!(matches!(process.duplicate(3, 3), Ok((3, Some(_)))), "onto itself");
    assert!(matches!(process.duplicate(3, 60), Ok((60, None))));
    assert_eq!(Rc::strong_count(&file), 5);
    assert!(matches!(process.install(Rc::clone(&file)), Ok(5)), "the gap is free");
    for (descriptor, wanted) in [(3, OPEN_MAX as i32), (3, -2), (3, i32::MAX), (6, 7), (-1, 3), (61, -1)] {
        assert_eq!(process.duplicate(descriptor, wanted).err(), Some(Errno::EBADF));
    }
}
