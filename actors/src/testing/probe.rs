//! A fake of the probe: its answers are set by the test.

use std::collections::HashMap;
use std::sync::Mutex;

use async_trait::async_trait;

use super::lock;
use crate::awake::AwakeReason;
use crate::ports::{BackendActivity, ProbeError, RuntimeError, ServerProbe, SuperuserAccess};

/// A probe with set answers.
pub struct FakeProbe {
    /// The activity of every backend; `None` if it has ended.
    pub activity: Mutex<Option<BackendActivity>>,
    /// The process ids of all questions, in order.
    pub asked: Mutex<Vec<i32>>,
    /// The terminated process ids, in order.
    pub terminated: Mutex<Vec<i32>>,
    /// The activity of Postgres outside sessions.
    pub reasons: Mutex<Vec<AwakeReason>>,
    /// Whether all questions fail.
    pub unreachable: Mutex<bool>,
    /// Whether Postgres has no free connection.
    pub full: Mutex<bool>,
    /// The number of questions about backends.
    pub questions: Mutex<usize>,
    /// Write-locked while answers are to wait. An answer is that of the time of the question.
    pub answer_gate: tokio::sync::RwLock<()>,
}

impl FakeProbe {
    fn reach(&self) -> Result<(), ProbeError> {
        if *lock(&self.full) {
            return Err(ProbeError::NoFreeConnection);
        }
        if *lock(&self.unreachable) {
            return Err(ProbeError::Failed(RuntimeError {
                for_clients: false,
                message: "unreachable".to_owned(),
                hint: None,
            }));
        }
        Ok(())
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
            full: Mutex::default(),
            questions: Mutex::default(),
            answer_gate: tokio::sync::RwLock::default(),
        }
    }
}

#[async_trait]
impl ServerProbe for FakeProbe {
    async fn backend_activities(
        &self,
        _: &SuperuserAccess,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, ProbeError> {
        let activity = *lock(&self.activity);
        lock(&self.asked).extend(process_ids);
        *lock(&self.questions) += 1;
        let _open = self.answer_gate.read().await;
        self.reach()?;
        let each = process_ids.iter();
        Ok(each.filter_map(|id| Some((*id, activity?))).collect())
    }

    async fn awake_reasons(&self, _: &SuperuserAccess) -> Result<Vec<AwakeReason>, ProbeError> {
        let reasons = lock(&self.reasons).clone();
        let _open = self.answer_gate.read().await;
        self.reach()?;
        Ok(reasons)
    }

    async fn terminate_backend(
        &self,
        _: &SuperuserAccess,
        process_id: i32,
    ) -> Result<(), ProbeError> {
        lock(&self.terminated).push(process_id);
        self.reach()
    }
}
