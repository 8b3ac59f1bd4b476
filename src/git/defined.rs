//! The migrations that a listing of a revision defines, read from the repository.

use std::collections::HashSet;
use std::path::Path;

use multidb_actors::ports::RevisionError;

use super::listing::{self, Directory};
use super::objects;
use crate::config::{Listing, Preset};

/// The migrations that the listing with this object id defines.
pub(super) fn defined_by(
    repository: &Path,
    id: &str,
    listing: &Listing,
    tool: Option<Preset>,
) -> Result<HashSet<String>, RevisionError> {
    let path = match listing {
        Listing::File(path) => path,
        Listing::Directory { dir, pattern } => {
            let found = objects::files(repository, id)?;
            let (files, ids): (Vec<String>, Vec<_>) = found.files.into_iter().unzip();
            let directory = Directory {
                path: dir,
                files: &files,
                read: |number: usize| {
                    let text = found.repository.blob(ids[number])?;
                    Ok(String::from_utf8_lossy(&text).into_owned())
                },
            };
            return directory.migrations(pattern.as_ref(), tool);
        }
    };
    let text = objects::blob(repository, id)?;
    listing::parse(&text, tool).map_err(|refused| RevisionError::ListingNotUnderstood {
        path: path.clone(),
        line: refused.line,
        text: refused.text,
        reason: refused.reason.map(str::to_owned),
    })
}
