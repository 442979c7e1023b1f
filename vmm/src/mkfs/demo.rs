//! The demo disk: a few real files, sized so that every kind of zone is used.

use refault_abi::pattern::{self, FILE_A, FILE_B};

use super::tree::{Contents, Kind, Node};

/// `/a.bin`, the file that `softread` maps: 200 KiB, beyond the 7 direct zones, within the single indirect block.
const A_BYTES: u64 = 200 << 10;
/// `/b.bin`, the file it reads: 1.2 MiB and a bit, far beyond 263 KiB where double indirection begins; an odd size, so
/// that its last block and last page are partly used.
const B_BYTES: u64 = (1_200 << 10) + 333;

/// What the demo disk holds. The two `.bin` files hold `refault_abi::pattern`, so that each of their bytes says where
/// it belongs.
#[must_use]
pub fn demo_tree() -> Node {
    let motd =
        "Refault: every page may be gone the moment it is touched, and no read is the shorter for it.\n";
    let numbers: String =
        (1..=400).map(|n| format!("line {n:03} of a file that reaches its indirect zone\n")).collect();
    Node::directory(
        "",
        vec![
            Node::file("hello.txt", "Hello from a MINIX file system.\n"),
            Node::pattern("a.bin", FILE_A, A_BYTES),
            Node::pattern("b.bin", FILE_B, B_BYTES),
            Node::file("empty", ""),
            Node::link("greeting", "hello.txt"),
            Node::directory("etc", vec![Node::file("motd", motd)]),
            Node::directory(
                "dir",
                vec![
                    Node::file("numbers.txt", numbers),
                    Node::directory(
                        "nested",
                        vec![
                            Node::file("deep.txt", "Three directories down.\n"),
                            Node::link("up", "../../hello.txt"),
                            Node::directory("deeper", vec![Node::file("deepest.txt", "Four.\n")]),
                        ],
                    ),
                ],
            ),
        ],
    )
}

/// The contents of a regular file of the demo disk, by its path: what a program that reads it must get.
#[must_use]
pub fn demo_file(path: &str) -> Option<Vec<u8>> {
    let root = demo_tree();
    let node =
        path.split('/').filter(|name| !name.is_empty()).try_fold(&root, |node, name| match &node.kind {
            Kind::Directory(entries) => entries.iter().find(|entry| entry.name == name.as_bytes()),
            Kind::File(..) | Kind::Link(_) => None,
        })?;
    match &node.kind {
        Kind::File(Contents::Bytes(bytes), _) => Some(bytes.clone()),
        Kind::File(Contents::Pattern(id), length) => {
            let mut bytes = vec![0; usize::try_from(*length).ok()?];
            pattern::fill(*id, 0, &mut bytes);
            Some(bytes)
        }
        _ => None,
    }
}
