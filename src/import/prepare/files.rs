//! The SHA-256 of the files that a preparation runs.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::runtime::process::named_files;

/// The largest file with SQL. It is read as a whole.
const SQL_BYTES_MAX: u64 = 256 << 20;
/// The largest file that is hashed with a command line; of a larger one only its size counts.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// Reads a file with SQL. Blocks.
pub(super) fn read_sql(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: io::Error| format!("cannot read it: {error}");
    // Trusted path: the configuration names it.
    let metadata = fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() > SQL_BYTES_MAX {
        return Err("it is larger than 256 MiB".to_owned());
    }
    // Trusted path: as above.
    fs::read(path).map_err(failed)
}

/// The hash of the bytes.
pub(super) fn hash_of(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// The hash of a command line: of its words, each with a NUL, and of the content of each file that it names. Blocks.
pub(super) fn hash_of_command(command: &[String]) -> io::Result<String> {
    let mut hash = Sha256::new();
    for word in command {
        hash.update(word.as_bytes());
        hash.update([0]);
    }
    for path in named_files(command) {
        // Trusted path: the configuration names it.
        let metadata = fs::metadata(&path)?;
        if !metadata.is_file() {
            continue;
        }
        hash.update(metadata.len().to_be_bytes());
        if metadata.len() <= FILE_BYTES_MAX {
            // A file that only another user may read counts by its size.
            // Trusted path: as above.
            match File::open(&path) {
                Ok(file) => update(&mut hash, file)?,
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(hex::encode(hash.finalize()))
}

fn update(hash: &mut Sha256, mut file: File) -> io::Result<()> {
    let mut chunk = vec![0; 64 << 10];
    loop {
        match file.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => hash.update(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_of_sql_is_that_of_the_file_as_sha256sum_prints_it() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hash_of(b"abc"), expected);
    }

    #[test]
    fn a_hash_of_a_command_follows_its_words_and_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("mask.py");
        let hash = |words: &[&str]| {
            let mut command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            command.push(script.display().to_string());
            hash_of_command(&command).unwrap()
        };
        fs::write(&script, "mask()").unwrap();
        let first = hash(&["/bin/sh", "-e"]);
        assert_eq!(hash(&["/bin/sh", "-e"]), first);
        assert_ne!(hash(&["/bin/sh-e"]), first);
        fs::write(&script, "mask2()").unwrap();
        assert_ne!(hash(&["/bin/sh", "-e"]), first);
    }
}
