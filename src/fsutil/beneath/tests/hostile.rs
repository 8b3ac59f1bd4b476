//! Trees of any shape, made at random.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;

use proptest::prelude::*;

use super::{fifo, walk_all};
use crate::fsutil::beneath::{Kind, TreeError, remove};

#[derive(Debug, Clone)]
enum Node {
    File(Vec<u8>),
    Link(&'static str),
    HardLink,
    Fifo,
    Socket,
    Directory(u32, Vec<(Vec<u8>, Node)>),
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    // Any bytes except the two that no name has, so mostly no UTF-8.
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    prop::collection::vec(byte, 1..12).prop_map(|name| {
        if matches!(&name[..], b"." | b"..") {
            vec![b'y']
        } else {
            name
        }
    })
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20).prop_map(Node::File),
        prop_oneof![
            Just("/dev/zero"),
            Just(".."),
            Just("../../kept"),
            Just("/"),
            Just("nowhere")
        ]
        .prop_map(Node::Link),
        Just(Node::HardLink),
        Just(Node::Fifo),
        Just(Node::Socket),
    ];
    leaf.prop_recursive(8, 60, 6, |inner| {
        let modes = prop_oneof![Just(0), Just(0o700), Just(0o500), Just(0o7777)];
        (modes, prop::collection::vec((name(), inner), 0..6))
            .prop_map(|(mode, entries)| Node::Directory(mode, entries))
    })
}

fn make(path: &Path, node: &Node, kept: &Path) {
    if path.symlink_metadata().is_ok() {
        return;
    }
    match node {
        Node::File(content) => fs::write(path, content).unwrap(),
        Node::Link(target) => symlink(target, path).unwrap(),
        Node::HardLink => fs::hard_link(kept, path).unwrap(),
        Node::Fifo => fifo(path),
        // A socket's path is shorter than some of these.
        Node::Socket => drop(UnixListener::bind(path)),
        Node::Directory(mode, entries) => {
            fs::create_dir(path).unwrap();
            for (name, node) in entries {
                make(&path.join(OsString::from_vec(name.clone())), node, kept);
            }
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_deleted_and_nothing_outside_of_it(node in node()) {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        let (kept, top) = (root.path().join("kept"), root.path().join("top"));
        fs::write(&kept, "kept").unwrap();
        make(&top, &node, &kept);
        match walk_all(&top) {
            Ok(found) => {
                for (path, kind) in found {
                    let metadata = fs::symlink_metadata(top.join(path)).unwrap();
                    prop_assert_eq!(kind == Kind::Directory, metadata.is_dir());
                    prop_assert_eq!(kind == Kind::File, metadata.is_file());
                }
            }
            // A top that is no directory, or a directory that its owner closed for itself.
            Err(TreeError::Io { .. } | TreeError::Foreign { .. }) => {}
            Err(error) => prop_assert!(false, "{}", error),
        }
        remove(&top).unwrap();
        prop_assert!(top.symlink_metadata().is_err());
        prop_assert_eq!(fs::read_to_string(&kept).unwrap(), "kept");
        prop_assert_eq!(fs::read_dir(root.path()).unwrap().count(), 1);
    }
}
