//! Questions of multidb itself to a running Postgres.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use multidb_actors::awake::AwakeReason;
use multidb_actors::ports::{
    BackendActivity, ProbeError, RuntimeError, ServerProbe, SuperuserAccess,
};
use multidb_actors::wire::sqlstate;
use multidb_store::error_chain;
use tokio::time::timeout;

use crate::sql::{AnswerLimits, Login, Privileges, Row, SearchPath, Session, SqlError, one_line};

/// The time for a question, including its connection.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of an answer.
const ANSWER_BYTES_MAX: usize = 1 << 20;
/// The databases that a cluster has unless they were dropped, in the order in which they are tried. A
/// session in `template1` delays CREATE DATABASE.
const DATABASES: [&str; 2] = ["postgres", "template1"];

/// Asks servers, each time by a connection of its own. It takes one of the places that Postgres reserves for
/// superusers, if any is free.
///
/// None is kept: it would take a connection from the instance's users, be seen in `pg_stat_activity`, and
/// delay DROP DATABASE and CREATE DATABASE for its database.
#[derive(Debug, Default, Clone, Copy)]
pub struct PgProbe;

/// Runs a query whose answer has at most `rows` rows.
async fn query(
    server: &SuperuserAccess,
    statement: &str,
    rows: usize,
) -> Result<Vec<Row>, SqlError> {
    let limits = AnswerLimits {
        time: Some(TIMEOUT),
        rows,
        bytes: ANSWER_BYTES_MAX,
    };
    let queried = async {
        let mut session = connect(server, Some(TIMEOUT)).await?;
        let rows = session.query(statement, limits).await?;
        session.close().await;
        Ok(rows)
    };
    let queried = timeout(TIMEOUT, queried).await;
    queried.unwrap_or(Err(SqlError::Timeout(TIMEOUT)))
}

/// Connects as the superuser to the first database that accepts it.
pub(crate) async fn connect(
    server: &SuperuserAccess,
    statement_timeout: Option<Duration>,
) -> Result<Session, SqlError> {
    let databases = DATABASES.into_iter().chain(server.database.as_deref());
    let mut refusal = None;
    for database in databases {
        let login = Login {
            endpoint: &server.endpoint,
            role: &server.superuser,
            privileges: Privileges::Superuser,
            database,
            postgres_major: server.postgres_major,
            search_path: SearchPath::Catalog,
            statement_timeout,
        };
        match Session::connect(&login, TIMEOUT).await {
            Err(error) if error.is_of_server() && !is_full(&error) => {
                refusal.get_or_insert(error);
            }
            done => return done,
        }
    }
    Err(refusal.unwrap_or(SqlError::Closed))
}

fn is_full(error: &SqlError) -> bool {
    error.has_state(sqlstate::TOO_MANY_CONNECTIONS)
}

fn failed(error: &SqlError) -> ProbeError {
    if is_full(error) {
        return ProbeError::NoFreeConnection;
    }
    ProbeError::Failed(RuntimeError {
        for_clients: false,
        message: format!("cannot query postgres: {}", error_chain(error)),
        hint: None,
    })
}

/// The activities of Postgres without a client. A background worker is every process that is not one of
/// Postgres' own. A WAL sender has a slot, or a session.
const AWAKE_QUERY: &str = "\
    select case when backend_type = 'autovacuum worker' then 'autovacuum' \
                when backend_type like 'logical replication % worker' \
                  or backend_type = 'logical replication worker' then 'logical worker' \
                else 'background worker' end::pg_catalog.text, \
           pg_catalog.left(case when backend_type = 'autovacuum worker' then query \
                                else backend_type end::pg_catalog.text, 500) \
      from pg_catalog.pg_stat_activity \
     where backend_type not in ('client backend', 'parallel worker', 'walsender', 'walreceiver', \
           'autovacuum launcher', 'logical replication launcher', 'background writer', \
           'checkpointer', 'walwriter', 'archiver', 'startup', 'logger', 'walsummarizer', \
           'slotsync worker', 'io worker', 'standalone backend') \
    union all \
    select 'replication slot', slot_name::pg_catalog.text \
      from pg_catalog.pg_replication_slots where active \
    union all \
    select 'prepared transaction', gid::pg_catalog.text from pg_catalog.pg_prepared_xacts \
    limit 100";
/// The limit in the query.
const AWAKE_ROWS_MAX: usize = 100;

/// The activities of backends. Only a session itself knows that it listens, so its last statement has to
/// do. A backend that waits for its client within a statement is usually in a COPY, whose progress is
/// reported since Postgres 14 (its documentation, "COPY Progress Reporting").
fn activity_query(process_ids: &[i32]) -> String {
    let process_ids: Vec<String> = process_ids.iter().map(ToString::to_string).collect();
    format!(
        "select pid::pg_catalog.int4::pg_catalog.text, \
           case when state like 'idle in transaction%' then 'transaction' \
                when state = 'idle' and query ~* '(^|;)\\s*listen\\M' then 'listening' \
                when state = 'idle' then 'idle' \
                when backend_type = 'walsender' then 'replicating' \
                when wait_event_type = 'Client' and wait_event = 'ClientRead' then 'waits' \
                when pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 140000 \
                    and exists (select from pg_catalog.pg_stat_get_progress_info('COPY') copy \
                                where copy.pid = activity.pid) then 'copy' \
                else 'active' end::pg_catalog.text \
          from pg_catalog.pg_stat_activity activity \
         where pid = any ('{{{}}}'::pg_catalog.int4[])",
        process_ids.join(",")
    )
}

fn activity(row: &Row) -> Result<(i32, BackendActivity), SqlError> {
    let activity = match row.text(1)? {
        "transaction" => BackendActivity::IdleInTransaction,
        "listening" => BackendActivity::Listening,
        "idle" => BackendActivity::Idle,
        "replicating" => BackendActivity::Replicating,
        "waits" => BackendActivity::InCopy { waits: true },
        "copy" => BackendActivity::InCopy { waits: false },
        "active" => BackendActivity::Active,
        other => return Err(SqlError::Unexpected(one_line(other))),
    };
    Ok((row.value(0)?, activity))
}

fn awake_reason(row: &Row) -> Result<AwakeReason, SqlError> {
    let name = one_line(row.text_or_empty(1)?);
    match row.text(0)? {
        "autovacuum" => Ok(AwakeReason::Autovacuum(name)),
        "logical worker" => Ok(AwakeReason::LogicalWorker(name)),
        "replication slot" => Ok(AwakeReason::ReplicationSlot(name)),
        "prepared transaction" => Ok(AwakeReason::PreparedTransaction(name)),
        "background worker" => Ok(AwakeReason::BackgroundWorker(name)),
        other => Err(SqlError::Unexpected(one_line(other))),
    }
}

#[async_trait]
impl ServerProbe for PgProbe {
    async fn backend_activities(
        &self,
        server: &SuperuserAccess,
        process_ids: &[i32],
    ) -> Result<HashMap<i32, BackendActivity>, ProbeError> {
        let rows = query(server, &activity_query(process_ids), process_ids.len()).await;
        let known = rows.and_then(|rows| rows.iter().map(activity).collect());
        known.map_err(|error| failed(&error))
    }

    async fn awake_reasons(
        &self,
        server: &SuperuserAccess,
    ) -> Result<Vec<AwakeReason>, ProbeError> {
        let rows = query(server, AWAKE_QUERY, AWAKE_ROWS_MAX).await;
        let reasons = rows.and_then(|rows| rows.iter().map(awake_reason).collect());
        reasons.map_err(|error| failed(&error))
    }

    async fn terminate_backend(
        &self,
        server: &SuperuserAccess,
        process_id: i32,
    ) -> Result<(), ProbeError> {
        let statement = format!("select pg_catalog.pg_terminate_backend({process_id})");
        let terminated = query(server, &statement, 1).await;
        terminated.map(drop).map_err(|error| failed(&error))
    }
}

#[cfg(test)]
mod tests;
