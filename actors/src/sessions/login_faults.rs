//! Logins that Postgres refuses each time, since it cannot load a library for them (`session_preload_libraries` of a
//! database or a role). Kept for `instance show` and `doctor`, until such a login succeeds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use multidb_store::InstanceUid;

/// The most that are kept. One more takes the place of another.
const FAULTS_MAX: usize = 100;

/// The database of a clone, and the role of a login to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LoginPlace {
    /// The clone.
    pub uid: InstanceUid,
    /// The database.
    pub database: String,
    /// The role.
    pub role: String,
}

/// The last error of each.
#[derive(Debug, Clone, Default)]
pub struct LoginFaults(Arc<Mutex<BTreeMap<LoginPlace, String>>>);

impl LoginFaults {
    /// Keeps the error of Postgres.
    pub fn note(&self, place: LoginPlace, error: String) {
        let mut faults = self.lock();
        faults.insert(place, error);
        if faults.len() > FAULTS_MAX {
            faults.pop_first();
        }
    }

    /// Forgets it after a login that succeeded.
    pub fn forget(&self, place: &LoginPlace) {
        self.lock().remove(place);
    }

    /// One of the errors of a clone, in words.
    pub fn of(&self, uid: InstanceUid) -> Option<String> {
        let faults = self.lock();
        let (place, error) = faults.iter().find(|(place, _)| place.uid == uid)?;
        let LoginPlace { database, role, .. } = place;
        Some(format!(
            "role \"{role}\" cannot log in to database \"{database}\": {error}"
        ))
    }

    /// A panic while the lock is held leaves the map consistent, since each change is one call.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LoginPlace, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
