//! Random sequences of events against a model of the environment, and the important transitions one by one.

mod environment;

use proptest::prelude::*;

use self::environment::{Environment, Step, step};
use super::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_sequence_of_events_keeps_the_invariants(
        steps in prop::collection::vec(step(), 1..120)
    ) {
        let mut environment = Environment::new();
        for step in steps {
            environment.play(step);
        }
        // When all jobs have succeeded, no client waits.
        for _ in 0..16 {
            environment.play(Step::JobEnds(Outcome::Done));
        }
        assert_eq!(environment.waiting, 0, "a client waits for ever");
    }
}

fn stopped() -> Environment {
    let mut environment = Environment::new();
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state(), State::Stopped);
    environment
}

#[test]
fn clients_during_the_clone_are_served_by_one_start() {
    let mut environment = Environment::new();
    for _ in 0..20 {
        environment.play(Step::Client);
    }
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!((environment.served, environment.life.sessions()), (20, 20));
}

#[test]
fn client_during_a_stop_is_served_by_the_next_start() {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::SessionEnds);
    environment.play(Step::Idle);
    environment.play(Step::Answer(Awake::Nothing));
    assert_eq!(environment.life.state().name(), "stopping");
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!((environment.served, environment.refused), (2, 0));
}

#[test]
fn stop_is_postponed_a_bounded_number_of_times_after_each_session() {
    let mut environment = stopped();
    for _ in 0..3 {
        environment.play(Step::Client);
        if environment.running.is_none() {
            environment.play(Step::JobEnds(Outcome::Done));
        }
        environment.play(Step::SessionEnds);
        for _ in 0..Awake::Work.periods_max() {
            environment.play(Step::Idle);
            environment.play(Step::Answer(Awake::Work));
            assert_eq!(environment.life.state().name(), "running");
        }
    }
    // Autovacuum may postpone a stop once, which other work has used up.
    environment.play(Step::Idle);
    environment.play(Step::Answer(Awake::Autovacuum));
    assert_eq!(environment.life.state().name(), "stopping");
}

#[test]
fn slot_is_released_however_busy_postgres_is() {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::SessionEnds);
    environment.play(Step::Idle);
    environment.play(Step::Room);
    assert_eq!(environment.life.state().name(), "stopping");
    environment.play(Step::Answer(Awake::Work));
    assert_eq!(environment.life.state().name(), "stopping");
}

#[test]
fn failed_start_refuses_waiting_clients_and_the_next_client_retries() {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Failed));
    assert_eq!(
        (environment.life.state(), environment.refused),
        (State::Failed, 1)
    );
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.served, 1);
}

#[test]
fn failed_first_clone_leaves_no_instance() {
    let mut environment = Environment::new();
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Failed));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(
        (environment.life.state(), environment.refused),
        (State::Gone, 1)
    );
}

#[test]
fn failed_reset_keeps_the_old_data() {
    let mut environment = stopped();
    environment.play(Step::Command(Command::Reset));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "cloning");
    environment.play(Step::JobEnds(Outcome::Failed));
    assert_eq!(environment.life.state(), State::Stopped);
}

#[test]
fn deletion_waits_for_the_clone_in_progress() {
    let mut environment = Environment::new();
    environment.play(Step::Command(Command::Delete));
    assert_eq!(environment.life.state().name(), "cloning");
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "deleting");
}

#[test]
fn instance_in_use_does_not_expire() {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::Command(Command::Expire));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "running");
}

#[test]
fn failed_stop_is_retried_before_anything_else_is_done() {
    for (command, after) in [
        (Command::Stop, "stopped"),
        (Command::Reset, "cloning"),
        (Command::Delete, "deleting"),
    ] {
        let mut environment = stopped();
        environment.play(Step::Client);
        environment.play(Step::JobEnds(Outcome::Done));
        environment.play(Step::Command(command));
        environment.play(Step::Client);
        for refused in 1..=3 {
            environment.play(Step::JobEnds(Outcome::Failed));
            assert_eq!(environment.life.state().name(), "stopping");
            assert_eq!(environment.refused, refused);
            environment.play(Step::Client);
        }
        environment.play(Step::JobEnds(Outcome::Failed));
        environment.play(Step::JobEnds(Outcome::Done));
        assert_eq!(environment.life.state().name(), after);
    }
}

#[test]
fn failed_deletion_leaves_a_usable_instance() {
    let mut environment = stopped();
    environment.play(Step::Command(Command::Delete));
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Failed));
    assert_eq!(
        (environment.life.state(), environment.refused),
        (State::Failed, 1)
    );
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.served, 1);
}

#[test]
fn start_command_during_a_stop_or_a_clone_is_carried_out_after_it() {
    let mut environment = Environment::new();
    for _ in 0..2 {
        environment.play(Step::Command(Command::Start));
        environment.play(Step::JobEnds(Outcome::Done));
        assert_eq!(environment.life.state().name(), "starting");
        environment.play(Step::JobEnds(Outcome::Done));
        assert_eq!(environment.life.state().name(), "running");
        assert!(environment.life.is_unused());
        environment.play(Step::Command(Command::Stop));
    }
}

#[test]
fn time_in_a_state_does_not_begin_again_with_an_idle_period() {
    let start = Instant::now();
    let (mut life, run) = Lifecycle::adopt(start);
    let _arm = life.begin_adopted(run, 0);
    let at = |seconds| start + Duration::from_secs(seconds);
    let _serve = life.step(Event::ClientWaits, at(5));
    let _none = life.step(Event::Served { run, sessions: 1 }, at(5));
    let _arm = life.step(Event::SessionEnded { run }, at(7));
    assert_eq!(life.elapsed(at(8)), Duration::from_secs(8));
    let _stop = life.step(Event::SlotWanted, at(9));
    assert_eq!(life.state().name(), "stopping");
    assert_eq!(life.elapsed(at(11)), Duration::from_secs(2));
}

/// An instance whose runtime went away while a client waited for its start.
fn unavailable() -> Environment {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::JobUnknown);
    assert_eq!(
        (environment.life.state().name(), environment.refused),
        ("unavailable", 1)
    );
    environment
}

#[test]
fn unavailable_instance_is_looked_for_at_once_for_a_client() {
    let mut environment = unavailable();
    environment.play(Step::Client);
    environment.play(Step::Client);
    environment.play(Step::JobUnknown);
    assert_eq!(environment.refused, 3);
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "starting");
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!((environment.served, environment.refused), (1, 3));
}

#[test]
fn postgres_that_ran_while_its_runtime_was_away_keeps_its_sessions() {
    let mut environment = stopped();
    environment.play(Step::Client);
    environment.play(Step::JobEnds(Outcome::Done));
    environment.play(Step::Command(Command::Stop));
    environment.play(Step::JobUnknown);
    assert_eq!(environment.life.state().name(), "unavailable");
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "running");
    assert_eq!(environment.life.sessions(), 1);
}

#[test]
fn unavailable_instance_is_deleted_only_after_its_postgres_was_stopped() {
    let mut environment = unavailable();
    for command in [Command::Delete, Command::Reset] {
        environment.play(Step::Command(command));
        for _ in 0..3 {
            environment.play(Step::JobUnknown);
            assert_eq!(environment.life.state().name(), "unavailable");
        }
    }
    // The commands have failed, so they are not carried out.
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state(), State::Stopped);
    environment.play(Step::Command(Command::Delete));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state().name(), "deleting");
}

#[test]
fn interrupted_deletion_waits_until_its_postgres_is_known() {
    let now = Instant::now();
    let (mut life, effect) = Lifecycle::unavailable(AfterStop::Delete, now);
    let Effect::LookAgain(job) = effect else {
        panic!("{effect:?}")
    };
    let found = Looked::Unknown;
    let effects = life.step(Event::Looked { job, found }, now);
    let [Effect::LookAgain(job)] = effects[..] else {
        panic!("{effects:?}")
    };
    let found = Looked::NotRunning;
    let effects = life.step(Event::Looked { job, found }, now);
    let [Effect::Stop(job)] = effects[..] else {
        panic!("{effects:?}")
    };
    let outcome = ServerOutcome::Done;
    let effects = life.step(Event::StopDone { job, outcome }, now);
    assert!(matches!(effects[..], [Effect::Delete(_)]));
}

#[test]
fn leftover_whose_deletion_failed_is_not_deleted_by_itself() {
    let now = Instant::now();
    let (mut life, effect) = Lifecycle::stop_found(AfterStop::Delete, now);
    let Effect::Stop(job) = effect else {
        panic!("{effect:?}")
    };
    let outcome = ServerOutcome::Done;
    let effects = life.step(Event::StopDone { job, outcome }, now);
    let [Effect::Delete(job)] = effects[..] else {
        panic!("{effects:?}")
    };
    let outcome = Outcome::Failed;
    assert_eq!(life.step(Event::DeleteDone { job, outcome }, now), []);
    // A client uses it, until its runtime goes away.
    let effects = life.step(Event::ClientWaits, now);
    let [Effect::Start(job)] = effects[..] else {
        panic!("{effects:?}")
    };
    let outcome = ServerOutcome::Unknown;
    let _refused = life.step(Event::StartDone { job, outcome }, now);
    let then = AfterStop::Stopped;
    assert!(matches!(life.state(), State::Unavailable { then: next, .. } if next == then));
}

#[test]
fn unavailable_instance_does_not_expire() {
    let mut environment = unavailable();
    environment.play(Step::Command(Command::Expire));
    environment.play(Step::JobEnds(Outcome::Done));
    assert_eq!(environment.life.state(), State::Stopped);
}

#[test]
fn causes_of_changes_are_words() {
    let (job, failed) = (Job(1), Outcome::Failed);
    let names = [
        Event::ClientWaits,
        Event::CloneDone {
            job,
            outcome: failed,
        },
        Event::Asked {
            idle: job,
            awake: Awake::Nothing,
        },
        Event::SlotWanted,
        Event::Command(Command::Stop),
    ]
    .map(Event::name);
    assert_eq!(
        names,
        [
            "client",
            "clone_failed",
            "idle",
            "make_room",
            "command_stop"
        ]
    );
}
