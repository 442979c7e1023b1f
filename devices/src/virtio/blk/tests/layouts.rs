//! Where one descriptor ends and the next begins means nothing.

use super::*;

/// Writes `sent` with the given readable pieces (which hold header and data), reads it back with the given
/// writable ones (which hold data and status).
fn round_trip(rig: &mut Rig, gives: &[(u64, u32)], takes: &[(u64, u32)]) {
    let len: u32 = gives.iter().map(|p| p.1).sum::<u32>() - 16;
    let sent: Vec<u8> = (0..len).map(|i| (i * 31 % 253) as u8).collect();
    let mut stream = OUT.to_le_bytes().to_vec();
    stream.extend([0; 4]);
    stream.extend(2u64.to_le_bytes());
    stream.extend(&sent);
    let mut rest = stream.as_slice();
    for (at, len) in gives {
        let (piece, after) = rest.split_at(*len as usize);
        rig.ram.write_slice(piece, GuestAddress(*at)).unwrap();
        rest = after;
    }
    let mut pieces: Vec<Piece> = gives.iter().map(|(at, len)| (*at, *len, 0)).collect();
    pieces.push((STATUS, 1, WRITE));
    assert_eq!(rig.run(&pieces), 1);
    assert_eq!(rig.peek::<u8>(STATUS), STATUS_OK);
    assert_eq!(rig.on_disk()[1024..1024 + sent.len()], sent);

    rig.put_header(HEADER, IN, 2);
    let mut pieces: Vec<Piece> = vec![(HEADER, 16, 0)];
    pieces.extend(takes.iter().map(|(at, len)| (*at, *len, WRITE)));
    assert_eq!(takes.iter().map(|p| p.1).sum::<u32>(), len + 1, "the test's own arithmetic");
    let (last, last_len) = *takes.iter().rfind(|p| p.1 > 0).unwrap();
    let status = last + u64::from(last_len) - 1;
    rig.poke(status, 0xeeu8);
    assert_eq!(rig.run(&pieces), len + 1);
    let mut got = Vec::new();
    for (at, len) in takes {
        got.extend(rig.bytes(*at, *len as usize));
    }
    assert_eq!(got.pop(), Some(STATUS_OK));
    assert_eq!(got, sent);
}

#[test]
fn header_and_data_in_one_descriptor_data_and_status_in_one() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        round_trip(&mut rig, &[(DATA, 16 + 1024)], &[(DATA + 0x8000, 1025)]);
    }
}

#[test]
fn header_split_and_data_in_odd_pieces() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        round_trip(
            &mut rig,
            &[(DATA, 1), (DATA + 0x101, 7), (DATA + 0x203, 100), (DATA + 0x1001, 900), (DATA + 0x2000, 32)],
            &[(DATA + 0x8001, 3), (DATA + 0x9003, 1000), (DATA + 0xa000, 21), (STATUS, 1)],
        );
    }
}

#[test]
fn buffers_across_two_mappings() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        round_trip(
            &mut rig,
            &[(SEAM - 5, 16), (SEAM - 100 + 0x4000, 512)],
            &[(SEAM - 0x100, 512), (STATUS, 1)],
        );
        round_trip(&mut rig, &[(SEAM - 700, 16 + 1024)], &[(SEAM - 1024, 1025)]);
    }
}

#[test]
fn empty_descriptors_carry_nothing_wherever_they_point() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        round_trip(
            &mut rig,
            &[(DATA, 0), (DATA, 16), (DATA + 0x100, 512), (DATA, 0)],
            &[(DATA, 0), (DATA + 0x8000, 512), (STATUS, 1), (DATA, 0)],
        );
        rig.put_header(HEADER, IN, 3);
        let nowhere = (u64::MAX, 0, WRITE);
        assert_eq!(rig.run(&[(HEADER, 16, 0), nowhere, (DATA, 513, WRITE), nowhere]), 513);
        assert_eq!(rig.peek::<u8>(DATA + 512), STATUS_OK);
    }
}

#[test]
fn indirect_tables_alone_and_after_direct_descriptors() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let table = 0xa000;
        rig.put_header(HEADER, IN, 3);
        rig.table(table, 0, &[(HEADER, 16, 0), (DATA, 512, WRITE), (STATUS, 1, WRITE)]);
        assert_eq!(rig.run(&[(table, 48, INDIRECT)]), 513);
        assert_eq!(rig.peek::<u8>(STATUS), STATUS_OK);

        rig.poke(DATA, 0u64);
        rig.table(table, 0, &[(DATA, 512, WRITE), (STATUS, 1, WRITE)]);
        assert_eq!(rig.run(&[(HEADER, 16, 0), (table, 32, INDIRECT)]), 513);
        assert_eq!(rig.peek::<u8>(STATUS), STATUS_OK);
        assert_eq!(rig.bytes(DATA, 512), (3 * 512..4 * 512).map(pattern).collect::<Vec<_>>());
    }
}

#[test]
fn as_many_segments_as_are_offered() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        let table = 0xa000;
        // 254 pieces of data, the first longer to make whole sectors: 32 of them.
        let mut pieces = vec![(HEADER, 16, 0)];
        pieces.extend((0..254u64).map(|i| (DATA + i * 0x100, if i == 0 { 192 } else { 64 }, WRITE)));
        pieces.push((STATUS, 1, WRITE));
        let len = 32 * 512;
        rig.put_header(HEADER, IN, 0);
        rig.table(table, 0, &pieces);
        assert_eq!(rig.run(&[(table, 256 * 16, INDIRECT)]), len + 1, "{engine}");
        assert_eq!(rig.peek::<u8>(STATUS), STATUS_OK);
        assert_eq!(rig.counts().bytes_read, u64::from(len));
    }
}
