//! Whether another user can reach a directory, and work with that user's rights.
//!
//! The kernel answers, in a thread that takes on the user's identity: ACLs and security modules
//! count as much as mode bits, and only the kernel weighs all of them.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::thread;

use rustix::process::{Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The most links that the kernel follows in one path (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The first directory that this user and group cannot enter on the way to one of the paths; `None` if
/// all can be reached. A missing directory counts as reached. A caller that is not root cannot change
/// its identity, so its own is used.
///
/// # Errors
///
/// A path cannot be examined, or the identity cannot be taken on.
pub fn first_unreachable(paths: &[PathBuf], (uid, gid): (u32, u32)) -> io::Result<Option<PathBuf>> {
    as_user((uid, gid), || {
        for path in paths {
            if let Some(directory) = blocked_on_the_way(path)? {
                return Ok(Some(directory));
            }
        }
        Ok(None)
    })
}

/// Runs some work with the rights of this user and group. A caller that is not root cannot change its identity, so its
/// own is used. Blocks.
///
/// # Errors
///
/// The work fails, or the identity cannot be taken on.
pub fn as_user<T: Send>(
    (uid, gid): (u32, u32),
    work: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let run = || {
        take_identity(uid, gid)?;
        work()
    };
    // The thread ends with this call, so nothing else runs under that identity.
    thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread of another identity panicked")))
}

/// Changes the identity of this thread only: libc's functions would change that of the process.
fn take_identity(uid: u32, gid: u32) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    // A server is started without supplementary groups, too. The user is last, since changing it
    // gives up the right to change the groups.
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// Walks to a directory and into it. Links are followed one by one, since a link's target may be behind
/// a directory that the path does not name.
fn blocked_on_the_way(path: &Path) -> io::Result<Option<PathBuf>> {
    let mut here = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = components(path);
    let mut links = 0;
    while let Some(name) = ahead.pop_front() {
        let next = here.join(&name);
        match fs::symlink_metadata(&next) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(Some(here)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(metadata) if metadata.is_symlink() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(rustix::io::Errno::LOOP.into());
                }
                let mut target = components(&fs::read_link(&next)?);
                target.append(&mut ahead);
                ahead = target;
            }
            // `here` has no links in it, so ".." is its parent.
            Ok(_) if name == ".." => {
                here.pop();
            }
            Ok(_) => here = next,
        }
    }
    match fs::symlink_metadata(here.join(".")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(Some(here)),
        Err(error) => Err(error),
        Ok(_) => Ok(None),
    }
}

/// The names in a path; the first one of an absolute path is "/", at which the walk starts again.
fn components(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|component| *component != Component::CurDir)
        .map(|component| component.as_os_str().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// `nobody`, which owns none of the directories.
    const STRANGER: (u32, u32) = (65534, 65534);

    struct Directories(tempfile::TempDir);

    impl Directories {
        fn new() -> Self {
            let directories = Self(tempfile::tempdir().unwrap());
            directories.chmod("", 0o711);
            directories
        }

        fn path(&self, name: &str) -> PathBuf {
            // Without the temporary directory's own links.
            self.0.path().canonicalize().unwrap().join(name)
        }

        fn make(&self, name: &str, mode: u32) -> &Self {
            fs::create_dir(self.path(name)).unwrap();
            self.chmod(name, mode);
            self
        }

        fn chmod(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        fn unreachable(&self, names: &[&str]) -> Option<PathBuf> {
            let paths: Vec<_> = names.iter().map(|name| self.path(name)).collect();
            first_unreachable(&paths, STRANGER).unwrap()
        }
    }

    /// Without root the tests run as the owner of the directories.
    fn closed() -> u32 {
        if rustix::process::geteuid().is_root() {
            0o700
        } else {
            0o600
        }
    }

    #[test]
    fn a_closed_directory_is_named_at_any_depth() {
        let directories = Directories::new();
        directories
            .make("a", 0o711)
            .make("a/b", 0o711)
            .make("a/b/c", 0o711);
        assert_eq!(directories.unreachable(&["a", "a/b/c"]), None);
        for closed_name in ["a/b/c", "a/b", "a"] {
            directories.chmod(closed_name, closed());
            let found = directories.unreachable(&["a/b/c"]);
            assert_eq!(found, Some(directories.path(closed_name)));
            directories.chmod(closed_name, 0o711);
        }
    }

    #[test]
    fn a_missing_directory_counts_as_reached_and_a_closed_parent_does_not() {
        let directories = Directories::new();
        directories.make("a", 0o711);
        assert_eq!(directories.unreachable(&["a/none/below"]), None);
        directories.chmod("a", closed());
        let found = directories.unreachable(&["a/none/below"]);
        assert_eq!(found, Some(directories.path("a")));
        directories.chmod("a", 0o711);
    }

    #[test]
    fn a_directory_behind_a_link_is_named() {
        let directories = Directories::new();
        directories
            .make("real", 0o711)
            .make("real/root", 0o711)
            .make("links", 0o711);
        symlink("../real", directories.path("links/relative")).unwrap();
        symlink(directories.path("links/relative"), directories.path("link")).unwrap();
        assert_eq!(directories.unreachable(&["link/root"]), None);
        for closed_name in ["real", "links"] {
            directories.chmod(closed_name, closed());
            let found = directories.unreachable(&["link/root"]);
            assert_eq!(found, Some(directories.path(closed_name)));
            directories.chmod(closed_name, 0o711);
        }
    }

    #[test]
    fn work_of_another_user_reads_what_that_user_can() {
        let directories = Directories::new();
        let path = directories.path("file");
        fs::write(&path, "text").unwrap();
        let read = || as_user(STRANGER, || fs::read_to_string(&path));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(read().unwrap(), "text");
        let closed = if rustix::process::geteuid().is_root() {
            0o600
        } else {
            0
        };
        fs::set_permissions(&path, Permissions::from_mode(closed)).unwrap();
        assert_eq!(read().unwrap_err().kind(), ErrorKind::PermissionDenied);
    }

    #[test]
    fn links_in_a_circle_are_an_error() {
        let directories = Directories::new();
        symlink("one", directories.path("other")).unwrap();
        symlink("other", directories.path("one")).unwrap();
        let paths = [directories.path("one/root")];
        assert!(first_unreachable(&paths, STRANGER).is_err());
    }

    #[test]
    fn the_callers_identity_is_as_it_was() {
        let before = rustix::process::geteuid();
        first_unreachable(&[PathBuf::from("/")], STRANGER).unwrap();
        assert_eq!(rustix::process::geteuid(), before);
    }
}
