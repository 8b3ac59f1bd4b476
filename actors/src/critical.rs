//! The parts without which the daemon would only seem to work: when one of them ends, so does the process.
//!
//! A panic ends one actor, one task or one thread, and nothing else. An instance's actor is rebuilt, but without the
//! Supervisor, the SnapshotIndex, the CloneWorker, their threads or the listeners every client would wait until its
//! timeout. A new process does better: it takes over the servers that run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::prelude::*;

/// The critical parts of one daemon.
#[derive(Clone)]
pub struct CriticalParts(Arc<Shared>);

struct Shared {
    on_loss: Box<dyn Fn(&'static str) + Send + Sync>,
    shutting_down: AtomicBool,
}

/// Held by a critical part for as long as it works.
#[must_use]
pub struct CriticalGuard {
    part: &'static str,
    shared: Arc<Shared>,
}

impl CriticalParts {
    /// Calls `on_loss` with the name of a part that ends: by a panic at any time, otherwise until the shutdown begins.
    pub fn new(on_loss: impl Fn(&'static str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Shared {
            on_loss: Box::new(on_loss),
            shutting_down: AtomicBool::new(false),
        }))
    }

    /// From now on parts may end, but not panic.
    pub fn begin_shutdown(&self) {
        self.0.shutting_down.store(true, Ordering::Release);
    }

    /// Watches the holder of the guard.
    pub fn guard(&self, part: &'static str) -> CriticalGuard {
        CriticalGuard {
            part,
            shared: self.0.clone(),
        }
    }

    /// Starts an actor that must not end.
    pub fn start<A: Actor<Context = Context<A>>>(&self, part: &'static str, actor: A) -> Addr<A> {
        let guard = self.guard(part);
        A::create(|ctx| {
            // The context drops its futures when the actor ends, also while a panic unwinds.
            ctx.spawn(guard.hold().into_actor(&actor));
            actor
        })
    }

    /// A future that must not end.
    pub fn watch<F: Future>(
        &self,
        part: &'static str,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        let guard = self.guard(part);
        async move {
            let _guard = guard;
            future.await
        }
    }
}

impl CriticalGuard {
    /// Watches the thread or the actor that this is spawned on.
    pub async fn hold(self) {
        std::future::pending().await
    }
}

impl Drop for CriticalGuard {
    fn drop(&mut self) {
        if std::thread::panicking() || !self.shared.shutting_down.load(Ordering::Acquire) {
            (self.shared.on_loss)(self.part);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    struct Part;

    impl Actor for Part {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    enum End {
        Panic,
        PanicLater,
        Stop,
    }

    impl Handler<End> for Part {
        type Result = ();

        fn handle(&mut self, message: End, ctx: &mut Self::Context) {
            match message {
                End::Panic => panic!("a defect, for the test"),
                End::PanicLater => {
                    let later = async { panic!("a defect, for the test") };
                    ctx.spawn(later.into_actor(self));
                }
                End::Stop => ctx.stop(),
            }
        }
    }

    fn parts() -> (CriticalParts, mpsc::Receiver<&'static str>) {
        let (sender, lost) = mpsc::channel();
        let sender = Mutex::new(sender);
        let parts = CriticalParts::new(move |part| sender.lock().unwrap().send(part).unwrap());
        (parts, lost)
    }

    #[test]
    fn end_of_a_critical_actor_is_reported_however_it_ends() {
        for end in [End::Panic, End::PanicLater, End::Stop] {
            System::new().block_on(async {
                let (parts, lost) = parts();
                let addr = parts.start("an actor", Part);
                addr.try_send(end).unwrap();
                while addr.connected() {
                    tokio::task::yield_now().await;
                }
                assert_eq!(lost.try_recv(), Ok("an actor"));
                assert!(lost.try_recv().is_err());
            });
        }
    }

    #[test]
    fn idle_critical_actor_works_on_and_may_end_during_the_shutdown() {
        System::new().block_on(async {
            let (parts, lost) = parts();
            let addr = parts.start("an actor", Part);
            let task = actix_rt::spawn(parts.watch("a task", std::future::pending::<()>()));
            tokio::task::yield_now().await;
            assert!(lost.try_recv().is_err());
            parts.begin_shutdown();
            addr.try_send(End::Stop).unwrap();
            task.abort();
            assert!(task.await.is_err_and(|error| error.is_cancelled()));
            while addr.connected() {
                tokio::task::yield_now().await;
            }
            assert!(lost.try_recv().is_err());
        });
    }

    #[test]
    fn panic_is_reported_also_during_the_shutdown_and_from_any_thread() {
        let (parts, lost) = parts();
        parts.begin_shutdown();
        let guard = parts.guard("a thread");
        let thread = std::thread::spawn(move || {
            let _guard = guard;
            panic!("a defect, for the test");
        });
        assert!(thread.join().is_err());
        assert_eq!(lost.try_recv(), Ok("a thread"));
        System::new().block_on(async {
            let task = actix_rt::spawn(parts.watch("a task", async { panic!("for the test") }));
            assert!(task.await.is_err_and(|error| error.is_panic()));
        });
        assert_eq!(lost.try_recv(), Ok("a task"));
    }
}
