//! Writes an initramfs: a cpio archive in the "newc" format (Linux, `Documentation/driver-api/early-userspace/buffer-format.rst`).
//!
//! Knows paths, modes and contents. The same entries always give the same bytes: sorted, without times, owned by root.

use std::collections::BTreeMap;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A folder with permission bits.
    Folder(u32),
    /// A file with permission bits and content.
    File(u32, Vec<u8>),
    /// A symbolic link and where it points.
    Link(String),
    /// A character device with permission bits, major and minor number.
    Device(u32, u32, u32),
}

/// A tree of files. Folders above an entry are added by themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a node at a path, absolute or relative; what stood there is replaced.
    pub fn put(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            self.nodes.entry(path[..end].to_owned()).or_insert(Node::Folder(0o755));
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// True when something stands at the path.
    pub fn has(&self, path: &str) -> bool {
        self.nodes.contains_key(path.trim_matches('/'))
    }

    /// The archive.
    pub fn archive(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // A folder's name is a prefix of what is in it, so in sorted order it always comes first, as the kernel needs it.
        for (number, (path, node)) in (1..).zip(&self.nodes) {
            match node {
                Node::Folder(mode) => entry(&mut out, number, 0o040_000 | mode, 2, (0, 0), path, &[]),
                Node::File(mode, content) => entry(&mut out, number, 0o100_000 | mode, 1, (0, 0), path, content),
                Node::Link(to) => entry(&mut out, number, 0o120_777, 1, (0, 0), path, to.as_bytes()),
                Node::Device(mode, major, minor) => entry(&mut out, number, 0o020_000 | mode, 1, (*major, *minor), path, &[]),
            }
        }
        entry(&mut out, 0, 0, 1, (0, 0), "TRAILER!!!", &[]);
        // The kernel reads archives in blocks of 512 bytes when they are joined; padding keeps that possible.
        pad(&mut out, 512);
        out
    }
}

fn entry(out: &mut Vec<u8>, inode: u32, mode: u32, links: u32, device: (u32, u32), path: &str, content: &[u8]) {
    let size = u32::try_from(content.len()).unwrap_or(u32::MAX);
    let name = u32::try_from(path.len() + 1).unwrap_or(u32::MAX);
    // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), length of the name, check.
    let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, device.0, device.1, name, 0];
    out.extend_from_slice(b"070701");
    for field in fields {
        out.extend_from_slice(format!("{field:08x}").as_bytes());
    }
    out.extend_from_slice(path.as_bytes());
    out.push(0);
    pad(out, 4);
    out.extend_from_slice(content);
    pad(out, 4);
}

fn pad(out: &mut Vec<u8>, to: usize) {
    out.resize(out.len().next_multiple_of(to), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn micro_cpio_bytes_are_these() {
        let mut tree = Tree::new();
        tree.put("dev/null", Node::Device(0o666, 1, 3));
        tree.put("/a", Node::File(0o755, b"hello".to_vec()));
        let archive = tree.archive();
        let file = concat!(
            "070701",
            "00000001",
            "000081ed",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000005",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "a\0hello\0\0\0"
        );
        let folder = concat!(
            "070701",
            "00000002",
            "000041ed",
            "00000000",
            "00000000",
            "00000002",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000004",
            "00000000",
            "dev\0\0\0"
        );
        let device = concat!(
            "070701",
            "00000003",
            "000021b6",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000003",
            "00000009",
            "00000000",
            "dev/null\0\0"
        );
        let trailer = concat!(
            "070701",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000001",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "00000000",
            "0000000b",
            "00000000",
            "TRAILER!!!\0"
        );
        let expected: String = [file, folder, device, trailer].concat();
        assert_eq!(String::from_utf8_lossy(&archive[..expected.len()]), expected);
        assert!(archive[expected.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(archive.len() % 512, 0);
    }

    #[test]
    fn micro_cpio_is_the_same_whatever_the_order() {
        let (mut one, mut two) = (Tree::new(), Tree::new());
        one.put("x/y/z", Node::Link("a".into()));
        one.put("b", Node::File(0o644, vec![1]));
        two.put("b", Node::File(0o644, vec![1]));
        two.put("x/y/z", Node::Link("a".into()));
        assert_eq!(one.archive(), two.archive());
        assert!(one.has("x/y") && one.has("/x/y/z") && !one.has("z"));
    }
}
