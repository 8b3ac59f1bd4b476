//! The fresh clone of a scratch instance that ended uncleanly. Its old data is not served: it may be damaged.

use super::*;

impl Lifecycle {
    /// The start found that the last run ended uncleanly. As before each replacement of data, a stop looks for a server
    /// first. The caller of a start without a client counts as one from here on.
    pub(super) fn ended_uncleanly(&mut self, found: Job) -> Vec<Effect> {
        match self.state {
            State::Starting { job } if job == found => {
                self.waiting = self.waiting.max(1);
                self.stop(AfterStop::Renew)
            }
            _ => Vec::new(),
        }
    }

    pub(super) fn begin_clone(&mut self, why: CloneReason) -> Vec<Effect> {
        let job = self.next_job();
        self.state = State::Cloning {
            job,
            why,
            then: AfterClone::Stopped,
        };
        vec![Effect::Clone(job, why)]
    }

    /// The next start tries again.
    pub(super) fn renewal_failed(&mut self) -> Vec<Effect> {
        self.state = State::Failed;
        self.refuse_failed()
    }
}
