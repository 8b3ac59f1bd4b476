//! The messages about statements of the console.

use std::fmt::Write;

use super::*;
use crate::console::{ConsoleError, parse};

pub(super) fn errors() -> Vec<ConsoleError> {
    let name = || "s".to_owned();
    let of_instance = |error| ConsoleError::Instance {
        instance: instance(),
        error,
    };
    let mut errors: Vec<ConsoleError> = [
        "nonsense",
        "SHOW",
        "SHOW JOBS /*",
        "SELECT * FROM pg_catalog.pg_class",
        "SET client_encoding = LATIN1",
        "SHOW INSTANCE 'a b'",
    ]
    .into_iter()
    .map(|text| parse(text).unwrap_err())
    .collect();
    errors.extend([
        ConsoleError::SeveralStatements,
        ConsoleError::NoParameter { number: 1 },
        ConsoleError::NullParameter { number: 1 },
        ConsoleError::NoTextParameter { number: 1 },
        ConsoleError::ParameterCount {
            supplied: 0,
            required: 1,
        },
        ConsoleError::FormatCount {
            supplied: 2,
            count: 3,
        },
        ConsoleError::NoStatement { name: name() },
        ConsoleError::StatementExists { name: name() },
        ConsoleError::NoPortal { name: name() },
        ConsoleError::PortalExists { name: name() },
        ConsoleError::PortalDone { name: name() },
        ConsoleError::TooMany {
            what: "portals",
            max: 16,
        },
        ConsoleError::FunctionCall,
        ConsoleError::Cancelled { goes_on: false },
        ConsoleError::Cancelled { goes_on: true },
        ConsoleError::NoSuchInstance {
            instance: instance(),
        },
        ProjectError::NoSuchProject {
            project: project("shop"),
            known: vec![project("wiki")],
        }
        .into(),
        ProjectError::NoProject.into(),
        ProjectError::ProjectNeeded {
            known: vec![project("shop"), project("wiki")],
        }
        .into(),
        ConsoleError::Denied {
            message: "user \"bob\" may not use this project".to_owned(),
        },
        of_instance(InstanceError::Deleted),
        of_instance(InstanceError::Stopped),
        of_instance(InstanceError::StartTimeout {
            limit: Duration::from_secs(30),
        }),
        ConsoleError::Storage(CloneError::Failed {
            message: "/srv: no".to_owned(),
        }),
        ConsoleError::Internal,
    ]);
    errors
}

#[test]
fn every_message_of_the_console() {
    let mut text = String::new();
    for error in errors() {
        let error = ClientError::from(&error).with_connection(7);
        writeln!(text, "ERROR {}:  {error}\n", error.sqlstate()).unwrap();
    }
    insta::assert_snapshot!(text);
}
