//! The actors' port to the runtime: the instances on the configured host.
//!
//! The host answers for the servers of its own kind alone. Servers of another kind are unavailable, and so are all of
//! them while the host does not answer.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::ports::{
    DiskError, FoundPostgres, FoundServers, RunningPostgres, Runtime, RuntimeError, ServerError,
    ServerId, StartError, Unavailable,
};
use multidb_store::{
    Class, DiskFault, InstanceRecord, InstanceUid, Layout, RuntimeKind, error_chain,
};

use super::scratch::{LastEnd, Scratch};
use super::{PostgresHost, Purpose, ServerSpec, altered};

/// The kinds of runtimes.
const KINDS: [RuntimeKind; 2] = [RuntimeKind::Docker, RuntimeKind::Process];

/// A start writes more than this.
const START_BYTES_MIN: u64 = 1 << 20;

/// Instances on a host.
pub struct InstanceRuntime {
    host: Arc<dyn PostgresHost>,
    layout: Layout,
    /// Whether the host did not answer when it was asked last.
    is_away: AtomicBool,
    scratch: Arc<Scratch>,
}

impl InstanceRuntime {
    /// Instances under this root, on this host.
    pub fn new(host: Arc<dyn PostgresHost>, layout: Layout) -> Self {
        Self {
            host,
            scratch: Arc::new(Scratch::new(layout.clone())),
            layout,
            is_away: AtomicBool::new(false),
        }
    }

    /// Whether the host may be asked for a server of this kind, and answers if it did not last time. Without this, each
    /// call would wait for its own limit while the engine hangs.
    async fn admit(&self, kind: Option<RuntimeKind>) -> Result<(), Unavailable> {
        let configured = self.host.kind();
        match kind {
            Some(runtime) if runtime != configured => Err(Unavailable::NotConfigured {
                runtime,
                configured,
            }),
            _ if self.is_away.load(Ordering::Relaxed) => self.check().await,
            _ => Ok(()),
        }
    }

    /// Whether the disk has too little room for any start.
    fn is_disk_full(&self) -> bool {
        let stat = rustix::fs::statvfs(self.layout.instances());
        stat.is_ok_and(|stat| stat.f_bavail * stat.f_frsize < START_BYTES_MIN)
    }

    /// Whether the host answers now.
    async fn check(&self) -> Result<(), Unavailable> {
        let runtime = self.host.kind();
        let checked = self.host.check().await;
        let was_away = self.is_away.swap(checked.is_err(), Ordering::Relaxed);
        match checked {
            Ok(()) => {
                if was_away {
                    tracing::info!(%runtime, "the runtime answers again");
                }
                Ok(())
            }
            Err(cause) => {
                if !was_away {
                    tracing::error!(
                        %runtime,
                        error = error_chain(&cause),
                        hint = cause.hint.as_deref(),
                        "the runtime does not answer, its instances are unavailable until it does"
                    );
                }
                Err(Unavailable::Away { runtime, cause })
            }
        }
    }

    /// The settings that ALTER SYSTEM made in an instance, if they can be read.
    async fn altered(&self, record: &InstanceRecord) -> Vec<String> {
        let data = self.layout.instance_data(record.uid);
        let snapshot = self.layout.snapshot_data(&record.snapshot);
        let read = tokio::task::spawn_blocking(move || altered::altered(&data, &snapshot));
        read.await.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// The settings of the record's class. Nothing starts where the last run of a scratch instance ended uncleanly.
    async fn begin_scratch(
        &self,
        record: &InstanceRecord,
    ) -> Result<Vec<(String, String)>, StartError> {
        match record.class {
            Class::Durable => return Ok(Vec::new()),
            Class::Scratch => {}
        }
        let (scratch, uid) = (self.scratch.clone(), record.uid);
        let begun = tokio::task::spawn_blocking(move || scratch.begin(uid)).await;
        match begun.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(LastEnd::Clean) => Ok(Scratch::settings()),
            Ok(LastEnd::Unclean) => Err(StartError::EndedUncleanly),
            Err(error) => {
                let failed = StartError::Runtime(RuntimeError {
                    for_clients: false,
                    message: format!("cannot note that it runs without fsync: {error}"),
                    hint: None,
                });
                Err(failed.with_disk_fault())
            }
        }
    }

    /// Brings the data of a scratch instance that has stopped to the disk. No client waits for it.
    fn end_scratch(&self, uid: InstanceUid) {
        let scratch = self.scratch.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = scratch.end(uid) {
                tracing::warn!(%uid, %error, "the data of a scratch instance may not be on the disk, it is cloned afresh after the next boot");
            }
        });
    }

    /// Why a call to the host failed: it is away, or something else.
    async fn explain(&self, error: RuntimeError) -> ServerError {
        match self.check().await {
            Ok(()) => error.into(),
            Err(unavailable) => unavailable.into(),
        }
    }
}

#[async_trait]
impl Runtime for InstanceRuntime {
    fn kind(&self) -> RuntimeKind {
        self.host.kind()
    }

    async fn available(&self) -> Result<(), Unavailable> {
        self.admit(None).await
    }

    async fn start(&self, record: &InstanceRecord) -> Result<RunningPostgres, StartError> {
        self.admit(record.runtime).await?;
        let spec = ServerSpec {
            uid: record.uid,
            name: record.name.to_string(),
            purpose: Purpose::Instance,
            postgres_major: record.postgres_major,
            data_dir: self.layout.instance_data(record.uid),
            log: self.layout.instance_log(record.uid),
            settings: self.begin_scratch(record).await?,
        };
        let started = match self.host.start_server(&spec).await {
            Err(StartError::Runtime(error)) => Err(match self.explain(error).await {
                ServerError::Unavailable(unavailable) => unavailable.into(),
                ServerError::Failed(error) => error.into(),
            }),
            started => started,
        };
        let Err(error) = started else {
            return started;
        };
        Err(match error.with_disk_fault() {
            // Postgres cannot even tell why it exits.
            StartError::Exited { status, log, .. } if self.is_disk_full() => {
                StartError::Disk(DiskError {
                    fault: DiskFault::Full,
                    message: format!("postgres exited: {status}"),
                    log,
                })
            }
            StartError::Exited { status, log, .. } => StartError::Exited {
                status,
                log,
                altered: self.altered(record).await,
            },
            error => error,
        })
    }

    async fn stop(&self, server: ServerId, timeout: Duration) -> Result<(), ServerError> {
        self.admit(server.runtime).await?;
        match self.host.stop_server(server.uid, timeout).await {
            Ok(()) => {
                self.end_scratch(server.uid);
                Ok(())
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    async fn running(&self) -> FoundServers {
        let configured = self.host.kind();
        let others = KINDS.into_iter().filter(|kind| *kind != configured);
        let not_configured = |runtime| Unavailable::NotConfigured {
            runtime,
            configured,
        };
        let mut found = FoundServers {
            unavailable: others.map(|kind| (kind, not_configured(kind))).collect(),
            ..FoundServers::default()
        };
        let listed = match self.admit(None).await {
            Ok(()) => self.host.running_servers().await,
            Err(unavailable) => {
                found.unavailable.insert(configured, unavailable);
                return found;
            }
        };
        let servers = match listed {
            Ok(servers) => servers,
            Err(cause) => {
                let unavailable = match self.check().await {
                    Err(unavailable) => unavailable,
                    Ok(()) => Unavailable::Away {
                        runtime: configured,
                        cause,
                    },
                };
                found.unavailable.insert(configured, unavailable);
                return found;
            }
        };
        let instances = |purpose| purpose == Purpose::Instance;
        let running = servers.found.into_iter();
        let running = running.filter(|(purpose, _)| instances(*purpose));
        found.running = running.map(|(_, found)| found).collect();
        let undecided = servers.undecided.into_iter();
        let undecided = undecided.filter(|server| instances(server.purpose));
        found.undecided = undecided.map(|server| server.uid).collect();
        found
    }

    async fn find(&self, server: ServerId) -> Result<Option<FoundPostgres>, ServerError> {
        self.admit(server.runtime).await?;
        match self.host.find_server(server.uid).await {
            Ok(found) => Ok(found),
            Err(error) => Err(self.explain(error).await),
        }
    }
}
