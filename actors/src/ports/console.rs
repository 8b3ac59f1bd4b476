//! The service behind the console.

use std::sync::Arc;

use async_trait::async_trait;

use crate::auth::Identity;
use crate::console::{Column, ConsoleError, ConsoleRequest, Statement, Value};

/// The service's answer to a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsoleAnswer {
    /// The rows, each with a value for each column.
    pub rows: Vec<Vec<Value>>,
    /// The notices for the client beside them, one line each.
    pub notices: Vec<String>,
}

/// Carries out the requests of the console, with the rights of their users.
#[async_trait(?Send)]
pub trait Console: Send + Sync + 'static {
    /// The columns of a statement's rows; none if it has no rows, or they are not the service's.
    fn columns(&self, statement: &Statement) -> Option<Arc<[Column]>>;

    /// Whether this user has the rights of the administrator.
    fn is_admin(&self, user: &Identity) -> bool;

    /// Carries out a request. If it changes something, it is not dropped before its end.
    async fn answer(
        &self,
        user: &Identity,
        request: ConsoleRequest,
    ) -> Result<ConsoleAnswer, ConsoleError>;
}
