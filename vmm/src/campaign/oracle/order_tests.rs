use proptest::prelude::*;

use super::*;

fn op(kind: char, value: u64, call: u64, returned: u64) -> Op {
    let kind = if kind == 'w' { OpKind::Write } else { OpKind::Read };
    Op { client: 1, kind, slot: 0, value, call, returned, ok: true }
}

#[test]
fn histories_with_an_order() {
    for ops in [
        vec![],
        vec![op('r', 0, 1, 2)],
        vec![op('w', 7, 1, 4), op('r', 7, 5, 6)],
        // Both answers are right while the write is going on, in this order.
        vec![op('w', 7, 1, 9), op('r', 0, 2, 3), op('r', 7, 4, 5)],
        vec![op('w', 7, 1, 9), op('w', 8, 2, 8), op('r', 8, 10, 11)],
        vec![op('w', 7, 1, 9), op('w', 8, 2, 8), op('r', 7, 10, 11)],
        // A write that failed and was seen.
        vec![Op { ok: false, ..op('w', 7, 1, 2) }, op('r', 0, 3, 4), op('r', 7, 5, 6)],
        vec![Op { ok: false, ..op('w', 7, 1, 2) }, op('r', 0, 3, 4)],
    ] {
        assert_eq!(unordered(&ops), [""; 0], "{ops:?}");
    }
}

#[test]
fn histories_without_one() {
    for ops in [
        vec![op('r', 7, 1, 2)],
        vec![op('r', 7, 1, 2), op('w', 7, 3, 4)],
        vec![op('w', 7, 1, 2), op('r', 0, 3, 4)],
        vec![op('w', 7, 1, 9), op('r', 7, 2, 3), op('r', 0, 4, 5)],
        vec![op('w', 7, 1, 2), op('w', 8, 3, 4), op('r', 7, 5, 6)],
        // Two readers that see two writes in opposite orders.
        vec![op('w', 7, 1, 20), op('w', 8, 1, 20), op('r', 7, 2, 3), op('r', 8, 4, 5), op('r', 7, 6, 7)],
        vec![op('w', 7, 1, 2), op('w', 7, 3, 4)],
        vec![op('w', 7, 3, 2)],
    ] {
        assert_eq!(unordered(&ops).len(), 1, "{ops:?}");
    }
    let two = [op('r', 7, 1, 2), Op { slot: 3, ..op('r', 9, 1, 2) }];
    assert_eq!(unordered(&two).len(), 2);
}

/// Whether there is an order, found by trying all of them.
fn by_trying(ops: &[Op], left: &mut Vec<usize>, value: u64) -> bool {
    if left.is_empty() {
        return true;
    }
    for at in 0..left.len() {
        let op = ops[left[at]];
        // What has to come before it is done.
        if left.iter().any(|&other| ops[other].returned < op.call) {
            continue;
        }
        let next = match op.kind {
            OpKind::Write => op.value,
            OpKind::Read if op.value == value => value,
            OpKind::Read => continue,
        };
        let taken = left.remove(at);
        let found = by_trying(ops, left, next);
        left.insert(at, taken);
        if found {
            return true;
        }
    }
    false
}

proptest! {
    #[test]
    fn as_all_orders_tried(drawn in prop::collection::vec((any::<bool>(), 1u64..5, 1u64..40, 1u64..12), 0..7)) {
        let mut value = 0;
        // Different times, so that "before" means the same to both.
        let ops: Vec<Op> = drawn.iter().enumerate().map(|(n, &(write, of, call, takes))| {
            if write { value += 1; }
            let call = call * 16 + n as u64;
            let value = if write { value } else { of - 1 };
            Op { call, returned: call + takes * 16 + 8, ..op(if write { 'w' } else { 'r' }, value, 0, 0) }
        }).collect();
        let mut left: Vec<usize> = (0..ops.len()).collect();
        prop_assert_eq!(unordered(&ops).is_empty(), by_trying(&ops, &mut left, 0));
    }
}
