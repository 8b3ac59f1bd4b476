//! A repository without git.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use async_trait::async_trait;
use multidb_store::ProjectName;

use super::lock;
use crate::ports::{Freshness, Revision, RevisionError, RevisionSource, WhyUnknown};

/// A repository: revisions by name, and the migrations of their listings.
#[derive(Default)]
pub struct FakeSource {
    /// The listing of each revision that exists.
    pub revisions: Mutex<HashMap<String, String>>,
    /// The migrations of each listing.
    pub listings: Mutex<HashMap<String, HashSet<String>>>,
    /// The number of resolved names.
    pub resolves: Mutex<usize>,
    /// The number of read listings.
    pub reads: Mutex<usize>,
}

impl FakeSource {
    /// A repository in which `main` defines `a.1` and `a.2`, `old` and `also-old` only `a.1`, `empty` nothing.
    pub fn filled() -> Self {
        let source = Self::default();
        for (gitref, listing, defined) in [
            ("main", "l2", &["a.1", "a.2"][..]),
            ("old", "l1", &["a.1"]),
            ("also-old", "l1", &["a.1"]),
            ("empty", "l0", &[]),
        ] {
            lock(&source.revisions).insert(gitref.to_owned(), listing.to_owned());
            let defined = defined.iter().map(|m| (*m).to_owned()).collect();
            lock(&source.listings).insert(listing.to_owned(), defined);
        }
        source
    }
}

#[async_trait]
impl RevisionSource for FakeSource {
    async fn resolve(
        &self,
        _: &ProjectName,
        gitref: &str,
        _: Freshness,
    ) -> Result<Revision, RevisionError> {
        *lock(&self.resolves) += 1;
        let listing = lock(&self.revisions).get(gitref).cloned();
        let listing = listing.ok_or_else(|| RevisionError::Unknown {
            gitref: gitref.to_owned(),
            why: WhyUnknown::NoSuch,
        })?;
        let commit = format!("commit of {gitref}");
        Ok(Revision {
            commit,
            listing,
            unconfirmed: None,
            fetch: None,
        })
    }

    async fn defined_migrations(
        &self,
        _: &ProjectName,
        listing: &str,
    ) -> Result<HashSet<String>, RevisionError> {
        *lock(&self.reads) += 1;
        Ok(lock(&self.listings)
            .get(listing)
            .cloned()
            .unwrap_or_default())
    }
}
