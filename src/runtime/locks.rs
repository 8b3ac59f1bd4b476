//! One lock for each server: what a start that was given up left is cleared away before the next
//! start or stop of the same server looks at it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};

use multidb_store::InstanceUid;
use tokio::sync::OwnedMutexGuard;

/// One lock for each server, so that its start, stop and clearing away follow one another.
#[derive(Debug, Default)]
pub(super) struct Locks {
    by_uid: Mutex<HashMap<InstanceUid, Weak<tokio::sync::Mutex<()>>>>,
}

impl Locks {
    /// Waits until nothing else happens to this server.
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

    /// Whether something happens to this server now.
    pub(super) fn is_locked(&self, uid: InstanceUid) -> bool {
        let by_uid = self.by_uid.lock().unwrap_or_else(|e| e.into_inner());
        by_uid.get(&uid).is_some_and(|lock| lock.strong_count() > 0)
    }
}
