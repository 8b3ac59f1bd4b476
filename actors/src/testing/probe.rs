//! A Postgres that answers what it is told to.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::lock;
use crate::awake::AwakeReason;
use crate::ports::{BackendActivity, Endpoint, RuntimeError, ServerProbe};

/// A probe that says what it is told to say.
pub struct FakeProbe {
    /// What every backend does.
    pub activity: Mutex<Option<BackendActivity>>,
    /// The process ids that were asked about.
    pub asked: Mutex<Vec<i32>>,
    /// The process ids that were told to end.
    pub terminated: Mutex<Vec<i32>>,
    /// What Postgres does of its own accord.
    pub reasons: Mutex<Vec<AwakeReason>>,
    /// Whether it can be asked at all.
    pub unreachable: Mutex<bool>,
    /// Held while answers are to wait. An answer says what was so when it was asked for.
    pub answer_gate: tokio::sync::RwLock<()>,
}

impl FakeProbe {
    fn reach(&self) -> Result<(), RuntimeError> {
        match *lock(&self.unreachable) {
            true => Err(RuntimeError {
                message: "unreachable".to_owned(),
                hint: None,
            }),
            false => Ok(()),
        }
    }
}

impl Default for FakeProbe {
    fn default() -> Self {
        Self {
            activity: Mutex::new(Some(BackendActivity::Idle)),
            asked: Mutex::default(),
            terminated: Mutex::default(),
            reasons: Mutex::default(),
            unreachable: Mutex::default(),
            answer_gate: tokio::sync::RwLock::default(),
        }
    }
}

#[async_trait]
impl ServerProbe for FakeProbe {
    async fn backend_activities(
        &self,
        _: &Endpoint,
        _: &str,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, RuntimeError> {
        let activity = *lock(&self.activity);
        lock(&self.asked).extend(process_ids);
        let _open = self.answer_gate.read().await;
        self.reach()?;
        let each = process_ids.iter();
        Ok(each.filter_map(|id| Some((*id, activity?))).collect())
    }

    async fn awake_reasons(&self, _: &Endpoint, _: &str) -> Result<Vec<AwakeReason>, RuntimeError> {
        let reasons = lock(&self.reasons).clone();
        let _open = self.answer_gate.read().await;
        self.reach()?;
        Ok(reasons)
    }

    async fn terminate_backend(
        &self,
        _: &Endpoint,
        _: &str,
        process_id: i32,
    ) -> Result<(), RuntimeError> {
        lock(&self.terminated).push(process_id);
        self.reach()
    }
}
