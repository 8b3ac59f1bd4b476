//! The errors of choosing a snapshot.

use super::*;
use crate::ports::{RepositoryForm, RevisionError, WhyUnknown};
use crate::snapshot_index::ChooseError;
use crate::snapshot_index::cause::Cause;
use crate::snapshot_index::decision::NearestMiss;

pub(super) fn choices() -> Vec<ChooseError> {
    let shop = || project("shop");
    let as_of = |time: &str| ChooseError::NoSnapshotAsOf {
        project: shop(),
        time: time.parse().unwrap(),
        oldest: "2026-02-01T00:00:00Z".parse().unwrap(),
    };
    let incompatible = |missing: usize, missing_total, cause| ChooseError::NoCompatibleSnapshot {
        project: shop(),
        gitref: "main".into(),
        nearest: NearestMiss {
            snapshot: snapshot("monday"),
            missing: (1..=missing)
                .map(|n| format!("app.00{n:02}_step"))
                .collect(),
            missing_total,
            cause,
        },
    };
    let unknown_apps = Cause::UnknownApps {
        apps: vec!["auth".to_owned(), "wagtailcore".to_owned()],
    };
    let squashed = Cause::Squashed {
        squashed: "app.0001_squashed_0009_step".to_owned(),
    };
    vec![
        ChooseError::NoSuchSnapshot {
            project: shop(),
            snapshot: snapshot("tuesday"),
        },
        ChooseError::NoSnapshots { project: shop() },
        as_of("2026-01-30T23:59:59.999999999Z"),
        as_of("2026-01-30T12:00:00Z"),
        incompatible(12, 40, Cause::Newer),
        incompatible(1, 1, Cause::Other),
        incompatible(1, 1, Cause::EmptyListing),
        incompatible(1, 1, Cause::NothingInCommon),
        incompatible(1, 1, unknown_apps),
        incompatible(1, 1, squashed),
        ChooseError::IndexUnavailable,
    ]
}

pub(super) fn revisions() -> Vec<ChooseError> {
    let unknown = |why| RevisionError::Unknown {
        gitref: "maim".into(),
        why,
    };
    let unreadable = |form| RevisionError::Repository {
        message: "/var/lib/multidb/secret is gone".into(),
        form,
    };
    let errors = [
        unknown(WhyUnknown::NoSuch),
        unknown(WhyUnknown::Shallow),
        unknown(WhyUnknown::RemoteFailed(
            "https://user:secret@git.internal answered 500".into(),
        )),
        unknown(WhyUnknown::TooManyReferences),
        RevisionError::Expression {
            gitref: "main~1".into(),
        },
        RevisionError::Ambiguous {
            gitref: "abc".into(),
            candidates: vec!["abc1".into(), "abc2".into()],
        },
        RevisionError::ListingMissing {
            commit: "a".repeat(40),
            path: "migrations.txt".into(),
            instead: None,
        },
        RevisionError::ListingMissing {
            commit: "a".repeat(40),
            path: "migrations.txt".into(),
            instead: Some("It has \"Migrations.txt\".".into()),
        },
        RevisionError::ListingNotUnderstood {
            path: "migrations.txt".into(),
            line: 3,
            text: "Operations to perform:".into(),
            reason: None,
        },
        RevisionError::ListingNotUnderstood {
            path: "migrations.txt".into(),
            line: 1,
            text: "version https://git-lfs.github.com/spec/v1".into(),
            reason: Some("a pointer to Git LFS, not the file itself".into()),
        },
        unreadable(None),
        unreadable(Some(RepositoryForm::Reftable)),
        unreadable(Some(RepositoryForm::Partial)),
        RevisionError::BeingFetched,
        RevisionError::Disk(disk("No space left on device")),
    ];
    errors.into_iter().map(ChooseError::from).collect()
}
