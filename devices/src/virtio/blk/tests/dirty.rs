//! Which pages are known to be written by a request: those it wrote, and no others.

use vm_memory::{GuestMemoryBackend, GuestMemoryRegion};

use super::*;

impl Rig {
    /// Page numbers marked since this was last asked.
    fn take_marked(&self) -> Vec<u64> {
        let mut pages = Vec::new();
        for region in self.ram.iter() {
            let first = region.start_addr().0 / 4096;
            let words = region.get_mmap().bitmap().get_and_reset();
            for (word, bits) in (0..).zip(words) {
                pages.extend((0..64).filter(|bit| bits >> bit & 1 != 0).map(|bit| first + word * 64 + bit));
            }
        }
        pages
    }

    /// Runs one request and says which pages it marked, apart from what the driver itself writes to prepare it.
    fn pages_of(&mut self, kind: u32, data: u64, len: u32) -> Vec<u64> {
        self.put_header(HEADER, kind, 2);
        let direction = if kind == OUT { 0 } else { WRITE };
        let head = self.chain(&[(HEADER, 16, 0), (data, len, direction), (STATUS, 1, WRITE)]);
        self.offer(head);
        self.take_marked();
        self.notify();
        assert_eq!(self.collect(1).len(), 1);
        self.next_descriptor = 0;
        assert_eq!(self.peek::<u8>(STATUS), STATUS_OK);
        self.take_marked()
    }
}

#[test]
fn a_read_marks_its_buffer_its_status_and_the_used_ring() {
    let (used, status) = (USED >> 12, STATUS >> 12);
    for engine in engines() {
        let mut rig = Rig::new(engine);
        assert_eq!(rig.pages_of(IN, DATA, 512), [used, status, 0x20], "{engine}");
        // The last sector of a page and a whole one; then the same one byte on, so that it ends in the second mapping.
        let data = SEAM - 4096 - 512;
        assert_eq!(rig.pages_of(IN, data, 4608), [used, status, 0xfe, 0xff], "{engine}");
        assert_eq!(rig.pages_of(IN, data + 1, 4608), [used, status, 0xfe, 0xff, 0x100], "{engine}");
    }
}

#[test]
fn a_write_marks_its_status_and_the_used_ring_only() {
    for engine in engines() {
        let mut rig = Rig::new(engine);
        assert_eq!(rig.pages_of(OUT, DATA, 4096), [USED >> 12, STATUS >> 12], "{engine}");
    }
}
