//! What well-formed requests do: data, status, used length, counters.

use super::*;

#[test]
fn what_is_written_is_read_back_and_is_in_the_file() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let sent: Vec<u8> = (0..4096u32).map(|i| (i * 13 % 256) as u8).collect();
        rig.ram.write_slice(&sent, GuestAddress(DATA)).unwrap();
        assert_eq!(rig.request(OUT, 5, DATA, 4096), (STATUS_OK, 1), "{engine}");
        assert_eq!(rig.request(FLUSH, 0, 0, 0), (STATUS_OK, 1));
        assert_eq!(rig.on_disk()[5 * 512..13 * 512], sent);
        assert_eq!(rig.request(IN, 5, DATA + 0x4000, 4096), (STATUS_OK, 4097));
        assert_eq!(rig.bytes(DATA + 0x4000, 4096), sent);

        // Nothing else was touched, in memory or in the file.
        assert_eq!(rig.bytes(DATA + 0x5000, 16), [0; 16]);
        let disk = rig.on_disk();
        let outside = (0..5 * 512).chain(13 * 512..disk.len());
        assert!(outside.into_iter().all(|i| disk[i] == pattern(i)));

        let counts = rig.counts();
        assert_eq!((counts.reads, counts.writes, counts.flushes), (1, 1, 1));
        assert_eq!((counts.bytes_read, counts.bytes_written, counts.errors), (4096, 4096, 0));
        assert_eq!((counts.kicks, counts.interrupts, counts.completed()), (3, 3, 3));
    }
}

#[test]
fn the_whole_disk_in_one_request_and_its_last_sector_alone() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let all = (SECTORS * SECTOR) as u32;
        assert_eq!(rig.request(IN, 0, DATA, all), (STATUS_OK, all + 1));
        let want: Vec<u8> = (0..all as usize).map(pattern).collect();
        assert_eq!(rig.bytes(DATA, all as usize), want);
        assert_eq!(rig.request(IN, SECTORS - 1, DATA, 512), (STATUS_OK, 513));
        assert_eq!(rig.bytes(DATA, 512), want[want.len() - 512..]);
    }
}

#[test]
fn sectors_beyond_the_end_fail_without_a_trace() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let before = rig.on_disk();
        for sector in [
            SECTORS - 1,
            SECTORS,
            u64::MAX,
            u64::MAX - 1,
            u64::MAX / 512,
            u64::MAX / 512 + 1,
            u64::MAX / 512 + 2,
            i64::MAX as u64 / 512,
            1 << 55,
            1 << 63,
        ] {
            for kind in [IN, OUT] {
                rig.poke(DATA, 0x1122_3344u32);
                assert_eq!(rig.request(kind, sector, DATA, 1024), (STATUS_IOERR, 1), "{sector:#x}");
                assert_eq!(rig.peek::<u32>(DATA), 0x1122_3344);
            }
        }
        assert_eq!(rig.on_disk(), before);
        assert_eq!(rig.counts().errors, 20);
        rig.assert_alive();
    }
}

#[test]
fn data_is_whole_sectors_and_may_be_none() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        for len in [1, 511, 513, 1000] {
            assert_eq!(rig.request(IN, 0, DATA, len), (STATUS_IOERR, 1), "{len}");
            assert_eq!(rig.request(OUT, 0, DATA, len), (STATUS_IOERR, 1), "{len}");
        }
        assert_eq!(rig.request(IN, 0, DATA, 0), (STATUS_OK, 1));
        assert_eq!(rig.request(OUT, SECTORS, DATA, 0), (STATUS_OK, 1));
        assert_eq!(rig.request(OUT, SECTORS + 1, DATA, 0), (STATUS_IOERR, 1));
        let counts = rig.counts();
        assert_eq!((counts.reads, counts.writes, counts.bytes_read, counts.bytes_written), (1, 1, 0, 0));
    }
}

#[test]
fn the_name_is_twenty_bytes() {
    let mut rig = Rig::new(EngineChoice::Threads);
    assert_eq!(rig.request(GET_ID, 0, DATA, 20), (STATUS_OK, 21));
    assert_eq!(rig.bytes(DATA, 20), b"refault-test\0\0\0\0\0\0\0\0");
    // Room for more is left alone; room for less is an error.
    rig.poke(DATA + 20, 0xabu8);
    assert_eq!(rig.request(GET_ID, 0, DATA, 512), (STATUS_OK, 21));
    assert_eq!(rig.peek::<u8>(DATA + 20), 0xab);
    assert_eq!(rig.request(GET_ID, 0, DATA, 19), (STATUS_IOERR, 1));
    assert_eq!(rig.counts().ids, 2);
}

#[test]
fn names_of_disks() {
    for good in ["a", "vda 1", "12345678901234567890"] {
        let DiskId(bytes) = good.parse().unwrap();
        assert!(bytes.starts_with(good.as_bytes()));
    }
    for bad in ["", "123456789012345678901", "tab\t", "é", "nul\0"] {
        assert_eq!(bad.parse::<DiskId>(), Err(BadDiskId(bad.to_owned())));
    }
}

#[test]
fn types_that_the_disk_does_not_have_are_unsupported() {
    let mut rig = Rig::new(EngineChoice::Threads);
    for kind in
        [2, 3, 5, abi::VIRTIO_BLK_T_DISCARD, abi::VIRTIO_BLK_T_WRITE_ZEROES, 16, 0x8000_0000, u32::MAX]
    {
        assert_eq!(rig.request(kind, 0, DATA, 512), (STATUS_UNSUPP, 1), "{kind}");
    }
    assert_eq!(rig.counts().unsupported, 8);
}

#[test]
fn a_read_only_disk_says_so_and_takes_no_write() {
    for engine in engines() {
        let features = ALL_FEATURES | 1 << abi::VIRTIO_BLK_F_RO;
        let mut rig = Rig::with(engine, true, features, 16);
        let before = rig.on_disk();
        assert_eq!(rig.request(OUT, 0, DATA, 512), (STATUS_IOERR, 1));
        assert_eq!(rig.request(FLUSH, 0, 0, 0), (STATUS_OK, 1));
        rig.assert_alive();
        assert_eq!(rig.on_disk(), before);
    }
}

#[test]
fn writes_without_negotiated_flush_succeed_durably() {
    for engine in engines() {
        let features = ALL_FEATURES & !(1 << abi::VIRTIO_BLK_F_FLUSH);
        let mut rig = Rig::with(engine, false, features, 16);
        rig.ram.write_slice(&[0x77; 512], GuestAddress(DATA)).unwrap();
        assert_eq!(rig.request(OUT, 9, DATA, 512), (STATUS_OK, 1));
        assert_eq!(rig.on_disk()[9 * 512..10 * 512], [0x77; 512]);
    }
}

#[test]
fn a_file_that_shrank_gives_an_error_not_zeroes() {
    for engine in engines().into_iter().filter(|on| matches!(on, On::File(_))) {
        let mut rig = Rig::new(engine);
        rig.file.as_file().set_len(8 * SECTOR).unwrap();
        assert_eq!(rig.request(IN, 7, DATA, 1024), (STATUS_IOERR, 1), "{engine}");
        assert_eq!(rig.request(IN, 20, DATA, 512), (STATUS_IOERR, 1));
        rig.assert_alive();
    }
}

#[test]
fn configuration_space() {
    let rig = Rig::new(EngineChoice::Threads);
    let read = |offset: u64, len: usize| {
        let mut data = vec![0xff; len];
        assert_eq!(Device::<()>::read(&*rig.mmio, 0x100 + offset, &mut data), Access::Done);
        data.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b))
    };
    assert_eq!(read(0, 8), SECTORS);
    assert_eq!((read(0, 4), read(4, 4)), (SECTORS, 0));
    assert_eq!(read(8, 4), 0, "size_max");
    assert_eq!(read(12, 4), 254, "seg_max");
    assert_eq!(read(20, 4), 512, "blk_size");
    assert_eq!(read(24, 8), 0);
    assert_eq!(read(0xf8, 8), 0);
    assert_eq!(rig.get(reg::VIRTIO_MMIO_DEVICE_ID), 2);
    assert_eq!(rig.get(reg::VIRTIO_MMIO_QUEUE_NUM_MAX), 256);
}

#[test]
fn many_requests_at_once_all_come_back_once() {
    for engine in engines() {
        let mut rig = Rig::with(engine, false, ALL_FEATURES, 256);
        let mut heads = Vec::new();
        for i in 0..64u64 {
            rig.put_header(HEADER + i * 16, IN, i);
            let head =
                rig.chain(&[(HEADER + i * 16, 16, 0), (DATA + i * 512, 512, WRITE), (STATUS + i, 1, WRITE)]);
            rig.poke(STATUS + i, 0xeeu8);
            rig.offer(head);
            heads.push(u32::from(head));
        }
        rig.notify();
        let mut used = rig.collect(64);
        used.sort_unstable();
        assert_eq!(used, heads.iter().map(|h| (*h, 513)).collect::<Vec<_>>(), "{engine}");
        assert_eq!(rig.bytes(STATUS, 64), [STATUS_OK; 64]);
        let want: Vec<u8> = (0..64 * 512).map(pattern).collect();
        assert_eq!(rig.bytes(DATA, 64 * 512), want);
        assert_eq!(rig.counts().kicks, 1);
    }
}
