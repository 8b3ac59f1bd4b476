//! The commands of an administrator and of the Supervisor.

use super::*;

impl Lifecycle {
    pub(super) fn command(&mut self, command: Command) -> Vec<Effect> {
        match command {
            Command::Start => self.command_start(),
            Command::Stop => self.command_stop(),
            Command::Reset => self.end_run(AfterStop::Reset),
            Command::Delete => self.end_run(AfterStop::Delete),
            Command::Expire if self.can_expire() => self.stop(AfterStop::Delete),
            Command::Expire => Vec::new(),
            Command::Recover => self.command_recover(),
        }
    }

    /// The caller counts as a waiting client until the start has ended, and then has no session.
    fn command_start(&mut self) -> Vec<Effect> {
        match self.state {
            State::Stopped | State::Failed => self.start(),
            State::Unavailable { look, then, .. } => {
                self.waiting += 1;
                self.look_now(look, then)
            }
            State::Cloning {
                then: AfterClone::Stopped,
                ..
            }
            | State::Stopping {
                then: AfterStop::Stopped | AfterStop::Reset | AfterStop::Renew,
                ..
            } => {
                self.waiting += 1;
                Vec::new()
            }
            State::Cloning {
                then: AfterClone::Delete,
                ..
            }
            | State::Stopping {
                then: AfterStop::Delete,
                ..
            }
            | State::Starting { .. }
            | State::Running { .. }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    fn command_stop(&mut self) -> Vec<Effect> {
        match self.state {
            State::Running { .. } | State::Starting { .. } => {
                let mut effects = self.stop(AfterStop::Stopped);
                if self.waiting > 0 {
                    self.waiting = 0;
                    effects.insert(0, Effect::RefuseStopped);
                }
                effects
            }
            State::Unavailable { then, .. } => {
                let mut effects = self.stop(then);
                if self.waiting > 0 {
                    self.waiting = 0;
                    effects.insert(0, Effect::RefuseStopped);
                }
                effects
            }
            State::Cloning { .. } | State::Stopping { .. } if self.waiting > 0 => {
                self.waiting = 0;
                vec![Effect::RefuseStopped]
            }
            State::Cloning { .. }
            | State::Stopped
            | State::Stopping { .. }
            | State::Failed
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    /// Stops like a command, but leaves a job in progress alone: a reset or a deletion gives the disk back.
    pub(super) fn over_limit(&mut self) -> Vec<Effect> {
        match self.state {
            State::Running { .. } | State::Starting { .. } => self.command_stop(),
            State::Cloning { .. }
            | State::Stopped
            | State::Stopping { .. }
            | State::Failed
            | State::Unavailable { .. }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    fn command_recover(&mut self) -> Vec<Effect> {
        match self.state {
            State::Failed => self.look_now(Look::Later, AfterStop::Stopped),
            State::Unavailable { look, then, .. } => self.look_now(look, then),
            State::Cloning { .. }
            | State::Stopped
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }

    /// Ends the current run in a reset or a deletion. One that is not known is looked for by the stop.
    fn end_run(&mut self, then: AfterStop) -> Vec<Effect> {
        match self.state {
            State::Running { .. } | State::Starting { .. } | State::Stopped | State::Failed => {
                self.stop(then)
            }
            State::Unavailable { then: earlier, .. } => match earlier {
                AfterStop::Stopped | AfterStop::Reset | AfterStop::Renew => self.stop(then),
                AfterStop::Delete => self.stop(AfterStop::Delete),
            },
            State::Stopping {
                job,
                then: AfterStop::Stopped | AfterStop::Reset | AfterStop::Renew,
            } => {
                self.state = State::Stopping { job, then };
                Vec::new()
            }
            State::Cloning { job, why, .. } if then == AfterStop::Delete => {
                let then = AfterClone::Delete;
                self.state = State::Cloning { job, why, then };
                Vec::new()
            }
            // A clone in progress has fresh data already.
            State::Cloning { .. }
            | State::Stopping {
                then: AfterStop::Delete,
                ..
            }
            | State::Deleting { .. }
            | State::Gone => Vec::new(),
        }
    }
}
