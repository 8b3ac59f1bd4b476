//! The administrators: they send commands, and learn the result or not.

use std::sync::Arc;
use std::time::Duration;

use multidb_actors::instance::lifecycle::Command;
use multidb_actors::supervisor::{ControlInstance, PinInstance, RecoverInstance, RenameInstance};
use multidb_store::{InstanceName, Pin};

use crate::oracle::Answer;
use crate::renames::Rename;
use crate::world::{Reachable, World};

/// How long an administrator waits at most.
const TIMEOUT: Duration = Duration::from_secs(900);

/// Sends commands for ever.
pub async fn live(world: Arc<World>, names: Vec<InstanceName>) {
    let (least, most) = world.settings.pace.command;
    loop {
        tokio::time::sleep(world.time(least, most)).await;
        if world.is_calm() {
            return;
        }
        let name = world.chance().pick(&names).clone();
        let Some(daemon) = world.daemon() else {
            continue;
        };
        let choice = world.chance().below(14);
        let command = match choice {
            0..2 => Command::Delete,
            2..4 => Command::Reset,
            4 => Command::Start,
            5..7 => Command::Stop,
            7..9 => {
                pin(&world, &daemon, &name, Pin::Forever).await;
                continue;
            }
            9..11 => {
                pin(&world, &daemon, &name, Pin::None).await;
                continue;
            }
            11 => {
                recover(&world, &daemon, &name).await;
                continue;
            }
            _ => {
                let new_name = world.chance().pick(&names).clone();
                rename(&world, &daemon, name, new_name).await;
                continue;
            }
        };
        control(&world, &daemon, &name, command).await;
    }
}

/// The answer, unless the daemon dies or takes too long.
async fn answer_of<T, E>(
    daemon: &Reachable,
    sent: impl Future<Output = Result<T, E>>,
) -> Result<T, &'static str> {
    tokio::select! {
        biased;
        () = daemon.life.over() => Err("the daemon died"),
        answer = sent => answer.map_err(|_| "the daemon ended"),
        () = tokio::time::sleep(TIMEOUT) => Err("it took too long"),
    }
}

async fn control(world: &World, daemon: &Reachable, name: &InstanceName, command: Command) {
    let asked = world.oracle().asked(name, command);
    world.trace(format_args!("{command:?} {name}"));
    let control = ControlInstance {
        name: name.clone(),
        command,
    };
    let answer = answer_of(daemon, daemon.supervisor.send(control)).await;
    world.trace(format_args!("{command:?} {name}: {answer:?}"));
    let answer = match answer {
        Ok(Some(Ok(()))) => Answer::Done,
        Ok(Some(Err(_)) | None) => Answer::Failed,
        Err(_) => Answer::Unknown,
    };
    let observed = world.observed();
    let at = world.elapsed();
    world.oracle().answered(&asked, answer, at, observed);
}

async fn rename(world: &World, daemon: &Reachable, name: InstanceName, new_name: InstanceName) {
    if name == new_name {
        return;
    }
    let asked = world
        .oracle()
        .rename_asked(&name, &new_name, world.daemons_ended());
    world.trace(format_args!("rename {name} to {new_name}"));
    let message = RenameInstance { name, new_name };
    let answer = answer_of(daemon, daemon.supervisor.send(message)).await;
    world.trace(format_args!(
        "rename {} to {}: {answer:?}",
        asked.from, asked.to
    ));
    let answer = match answer {
        Ok(Ok(())) => Answer::Done,
        Ok(Err(_)) => Answer::Failed,
        Err(_) => Answer::Unknown,
    };
    let at = world.elapsed();
    let replaced = world.oracle().rename_answered(&asked, answer, at);
    if let Some(replaced) = replaced {
        let Rename { from, to, .. } = &asked;
        world.violated(format_args!(
            "the rename of {from} to {to} took the name of {replaced}"
        ));
    }
}

async fn recover(world: &World, daemon: &Reachable, name: &InstanceName) {
    let kept = world.disk().quarantined(name);
    world.oracle().recovery_asked(name, &kept);
    world.trace(format_args!("recover {name} {kept:?}"));
    let message = RecoverInstance::named(name.clone());
    let answer = answer_of(daemon, daemon.supervisor.send(message)).await;
    world.trace(format_args!("recover {name}: {answer:?}"));
    world.oracle().recovery_answered(name, &kept);
}

async fn pin(world: &World, daemon: &Reachable, name: &InstanceName, pin: Pin) {
    world.oracle().pin_asked(name, pin);
    world.trace(format_args!("pin {name} {pin:?}"));
    let message = PinInstance {
        name: name.clone(),
        pin,
    };
    let answer = answer_of(daemon, daemon.supervisor.send(message)).await;
    world.trace(format_args!("pin {name} {pin:?}: {answer:?}"));
    if let Ok(Some(Ok(()))) = answer {
        let observed = world.observed();
        world.oracle().pin_done(name, pin, observed);
    }
}
