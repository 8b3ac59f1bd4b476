//! `multidb top`: the state of the daemon, from the admin socket, live on a terminal.
//!
//! [`state`] has the displayed state and the actions of the keys, [`view`] draws it. Both know neither terminal nor
//! socket, so that they are tested without one. The loop here brings them together: facts at most each second, keys at
//! once.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::future::select_all;
use jiff::Timestamp;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

use super::Invocation;
use crate::admin::client::{AdminClient, AdminError};

mod rows;
mod state;
mod view;

use self::state::{Answers, App};

/// How often the daemon is asked, and the ages that are shown grow.
const INTERVAL: Duration = Duration::from_secs(1);
/// A daemon that takes longer does not answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a read of the keyboard waits before it looks whether anybody still wants to know.
const KEY_WAIT: Duration = Duration::from_millis(100);
/// The keys that wait for a slow terminal.
const KEYS_QUEUED_MAX: usize = 64;

pub(super) async fn run(invocation: &Invocation) -> anyhow::Result<ExitCode> {
    let client = invocation.client()?.with_timeout(ANSWER_TIMEOUT);
    if invocation.global.json {
        let facts = facts(&client).await?;
        invocation.output.show(&facts, |_| String::new())?;
        return Ok(ExitCode::SUCCESS);
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        bail!("top needs a terminal; \"multidb top --json\" prints the same facts once");
    }
    // A panic restores the terminal, too.
    let terminal = ratatui::try_init().context("cannot draw on this terminal");
    let ended = match terminal {
        Ok(mut terminal) => show(&mut terminal, client).await,
        Err(error) => Err(error),
    };
    let restored = ratatui::try_restore().context("cannot restore the terminal");
    ended.and(restored)?;
    Ok(ExitCode::SUCCESS)
}

/// Shows the facts until a key or a signal ends it.
async fn show(terminal: &mut DefaultTerminal, client: AdminClient) -> anyhow::Result<()> {
    let ended = ended_by_signal()?;
    tokio::pin!(ended);
    let mut keys = keys();
    // An answer waits until the one before is drawn, and the daemon is asked again only then.
    let (sender, mut answers) = channel(1);
    let _asking = AbortOnDropHandle::new(tokio::spawn(ask(client, sender)));
    let mut redraws = tokio::time::interval(INTERVAL);
    redraws.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut app = App::default();
    loop {
        terminal.draw(|frame| view::draw(frame, &mut app, Timestamp::now()))?;
        tokio::select! {
            () = &mut ended => return Ok(()),
            event = keys.recv() => match event {
                Some(Event::Key(key)) if app.press(key) => return Ok(()),
                // Each event is followed by a drawing, as a changed size needs.
                Some(_) => {}
                None => bail!("the keyboard cannot be read"),
            },
            answer = answers.recv() => match answer {
                Some(Ok(facts)) => app.take(facts),
                Some(Err(error)) => app.lose(multidb_store::error_chain(&error)),
                None => bail!("the questions to the daemon ended by a defect"),
            },
            _ = redraws.tick() => {}
        }
    }
}

/// Waits for a signal that ends the program. Ctrl-C is a key here, but another process may send its signal, too.
fn ended_by_signal() -> anyhow::Result<impl Future<Output = ()>> {
    let kinds = [
        SignalKind::terminate(),
        SignalKind::interrupt(),
        SignalKind::hangup(),
        SignalKind::quit(),
    ];
    let signals = kinds.into_iter().map(signal);
    let mut signals = signals.collect::<Result<Vec<_>, _>>()?;
    Ok(async move {
        select_all(signals.iter_mut().map(|signal| Box::pin(signal.recv()))).await;
    })
}

/// Asks again and again, at most each second and at most for half of the time. A daemon that is away is asked again.
async fn ask(client: AdminClient, answers: Sender<Result<Answers, AdminError>>) {
    loop {
        let asked = Instant::now();
        if answers.send(facts(&client).await).await.is_err() {
            return;
        }
        tokio::time::sleep(asked.elapsed().max(INTERVAL)).await;
    }
}

async fn facts(client: &AdminClient) -> Result<Answers, AdminError> {
    let (status, instances, jobs, connections) = tokio::try_join!(
        client.get("/v1/status"),
        client.get("/v1/instances"),
        client.get("/v1/jobs"),
        client.get("/v1/connections"),
    )?;
    Ok(Answers {
        status,
        instances,
        jobs,
        connections,
        at: Timestamp::now(),
    })
}

/// What is typed. Reads on a thread, since a terminal cannot be awaited; it ends with the receiver.
fn keys() -> Receiver<Event> {
    let (sender, receiver) = channel(KEYS_QUEUED_MAX);
    std::thread::spawn(move || {
        while !sender.is_closed() {
            let event = match event::poll(KEY_WAIT) {
                Ok(true) => event::read(),
                Ok(false) => continue,
                Err(error) => Err(error),
            };
            // The receiver is told of an error by the end of the channel.
            let Ok(event) = event else { return };
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests;
