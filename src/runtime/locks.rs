//! One lock for each server, so that an abandoned start is cleaned up before the next start or stop of
//! the same server.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use multidb_store::InstanceUid;
use tokio::sync::OwnedMutexGuard;

/// The locks by server.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_uid: Mutex<HashMap<InstanceUid, Weak<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    /// Waits for the lock of this server.
    pub(super) async fn lock(&self, uid: InstanceUid) -> OwnedMutexGuard<()> {
        let lock = {
            let mut by_uid = self.by_uid.lock().unwrap_or_else(|e| e.into_inner());
            by_uid.retain(|_, lock| lock.strong_count() > 0);
            let known = by_uid.get(&uid).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                by_uid.insert(uid, Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }

    /// Whether this server is being started, stopped or cleaned up.
    pub(super) fn is_locked(&self, uid: InstanceUid) -> bool {
        let by_uid = self.by_uid.lock().unwrap_or_else(|e| e.into_inner());
        by_uid.get(&uid).is_some_and(|lock| lock.strong_count() > 0)
    }
}
