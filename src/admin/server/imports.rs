//! `POST /v1/snapshots/import`: an import whose progress is streamed.

use std::time::Duration;

use actix_web::{HttpResponse, post, web};
use bytes::Bytes;
use futures_util::StreamExt;
use multidb_store::error_chain;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::failure::{Failure, parse};
use super::{CALLER, Service};
use crate::admin::api::{ErrorInfo, ImportBody, ImportEvent, ImportSource as Source};
use crate::control::model::ImportOrder;
use crate::import::{ImportError, ImportRequest, ImportSource, Importer, Progress, Step};

/// The longest time between two events.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[post("/v1/snapshots/import")]
pub(super) async fn import(
    body: web::Json<ImportBody>,
    control: Service,
    importer: web::Data<Importer>,
) -> Result<HttpResponse, Failure> {
    let order = order(body.into_inner())?;
    let request = control.import_request(&CALLER, order)?;
    let (news, events) = mpsc::unbounded_channel();
    // The stream holds the import: when the client hangs up, both are dropped.
    let importing = run_import(request, news, control, importer);
    let working = AbortOnDropHandle::new(actix_rt::spawn(importing));
    let lines = UnboundedReceiverStream::new(events).map(move |event| {
        let _held = &working;
        line(&event)
    });
    Ok(HttpResponse::Ok()
        .content_type("application/x-ndjson")
        .streaming(lines))
}

fn order(body: ImportBody) -> Result<ImportOrder, Failure> {
    Ok(ImportOrder {
        id: parse(&body.id)?,
        project: parse(&body.project)?,
        source: match body.source {
            Source::DataDir(path) => ImportSource::DataDir(path),
            Source::Dump(path) => ImportSource::Dump(path),
        },
        taken_at: body.taken_at,
        postgres_major: body.postgres_major,
    })
}

/// Imports, and sends an event at least each [`HEARTBEAT`], so that a client that hung up is noticed.
async fn run_import(
    request: ImportRequest,
    news: mpsc::UnboundedSender<ImportEvent>,
    control: Service,
    importer: web::Data<Importer>,
) {
    let (shown, mut latest) = watch::channel((Step::Check, 0, None));
    // The receiver is gone while the import is being interrupted.
    let tell = |event| {
        let _gone = news.send(event);
    };
    let on_progress = |progress| match progress {
        Progress::Step(step) => {
            shown.send_replace((step, 0, None));
        }
        Progress::Bytes { done, total } => {
            shown.send_modify(|(_, d, t)| (*d, *t) = (done, total));
        }
        Progress::Warning(warning) => tell(ImportEvent::Progress {
            step: format!("warning: {warning}"),
            done: 0,
            total: None,
        }),
    };
    let never = CancellationToken::new();
    let importing = importer.import(request, on_progress, never);
    let telling = async {
        loop {
            let (step, done, total) = *latest.borrow_and_update();
            tell(ImportEvent::Progress {
                step: step.label().to_owned(),
                done,
                total,
            });
            let changed = tokio::time::timeout(HEARTBEAT, latest.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return std::future::pending::<()>().await;
            }
        }
    };
    let imported = tokio::select! {
        imported = importing => imported,
        () = telling => return,
    };
    tell(match imported {
        Ok(snapshot) => ImportEvent::Done {
            snapshot: control.snapshot_view(&snapshot, 0),
        },
        Err(error) => ImportEvent::Failed {
            error: import_failure(&error),
        },
    });
}

fn import_failure(error: &ImportError) -> ErrorInfo {
    ErrorInfo {
        code: "import_failed".to_owned(),
        message: error_chain(error),
        detail: error.detail(),
        hint: error.hint(),
    }
}

fn line(event: &ImportEvent) -> Result<Bytes, serde_json::Error> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line.into())
}
