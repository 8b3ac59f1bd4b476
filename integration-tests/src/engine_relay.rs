//! A relay between a daemon and the Docker engine that can be disconnected.

use std::fs;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

/// The engine's own socket.
const ENGINE: &str = "/var/run/docker.sock";

/// Forwards connections to the engine until it is cut. Its thread ends with the test.
pub struct EngineRelay {
    path: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    cut: bool,
    held: bool,
    /// The clients that were accepted meanwhile.
    waiting: Vec<UnixStream>,
    /// Both ends of each forwarded connection.
    open: Vec<UnixStream>,
}

impl EngineRelay {
    /// Listens at a path.
    pub fn open(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("the relay can listen");
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accept(client, &shared);
            }
        });
        Self {
            path: path.to_owned(),
            state,
        }
    }

    /// The value for `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.path.display())
    }

    /// Closes all connections, and every new one at once.
    pub fn cut(&self) {
        let mut state = self.state.lock().expect("no relay panics");
        state.cut = true;
        for stream in state.open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Accepts new connections, and forwards nothing of them until [`EngineRelay::mend`].
    pub fn hold(&self) {
        self.state.lock().expect("no relay panics").held = true;
    }

    /// The connections that wait.
    pub fn waiting(&self) -> usize {
        self.state.lock().expect("no relay panics").waiting.len()
    }

    /// Forwards connections again.
    pub fn mend(&self) {
        let mut state = self.state.lock().expect("no relay panics");
        (state.cut, state.held) = (false, false);
        for client in std::mem::take(&mut state.waiting) {
            forward(client, &mut state);
        }
    }
}

impl Drop for EngineRelay {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn accept(client: UnixStream, state: &Mutex<State>) {
    let Ok(mut state) = state.lock() else {
        return;
    };
    if state.held {
        state.waiting.push(client);
    } else if !state.cut {
        forward(client, &mut state);
    }
}

fn forward(client: UnixStream, state: &mut State) {
    let Ok(engine) = UnixStream::connect(ENGINE) else {
        return;
    };
    for (from, to) in [(&client, &engine), (&engine, &client)] {
        if let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) {
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Write);
            });
        }
    }
    state.open.push(client);
    state.open.push(engine);
}
