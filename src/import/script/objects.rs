//! The roles and databases that a dump names, each of which is created once.

use super::rewriter::Rewriter;
use super::statement::{Name, Subject, subject};
use super::text::{create_role, is_unwanted, newline};

impl Rewriter {
    /// Handles a line that begins a statement.
    pub(super) fn statement(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let one_line = self.lexer.at_statement_start();
        self.data_announced = false;
        match line.trim_ascii_end() {
            b"SET standard_conforming_strings = off;" => self.lexer.set_backslash_literals(true),
            b"SET standard_conforming_strings = on;" => self.lexer.set_backslash_literals(false),
            text if one_line && is_unwanted(text, self.target.postgres_major) => {
                out.extend_from_slice(newline(line));
                return;
            }
            _ => {}
        }
        match subject(line) {
            None => out.extend_from_slice(line),
            Some(subject) => self.apply(subject, line, one_line, out),
        }
    }

    /// Handles a statement that names roles or databases.
    fn apply(&mut self, subject: Subject, line: &[u8], one_line: bool, out: &mut Vec<u8>) {
        match subject {
            Subject::Roles(roles) => {
                for role in roles {
                    self.ensure_role(role, out);
                }
            }
            Subject::CreateRole(role) => {
                self.ensure_role(role, out);
                out.extend_from_slice(newline(line));
                return;
            }
            Subject::CreateRoleWith(role) => {
                if !self.known_roles.insert(role) {
                    out.extend_from_slice(b"ALTER");
                    out.extend_from_slice(line.trim_ascii_start().get(6..).unwrap_or_default());
                    return;
                }
            }
            Subject::Database(name, owner) => {
                let exists = name == self.target.database.as_bytes()
                    || matches!(name.as_slice(), b"postgres" | b"template1" | b"template0");
                if exists && one_line {
                    out.extend_from_slice(newline(line));
                    return;
                }
                if let Some(owner) = owner {
                    self.ensure_role(owner, out);
                }
            }
            Subject::SessionAuthorization(None) => self.session_authorization = None,
            Subject::SessionAuthorization(Some(role)) => {
                self.ensure_role(role, out);
                self.session_authorization = Some(line.trim_ascii_end().to_vec());
            }
        }
        out.extend_from_slice(line);
    }

    /// Creates a role before its first use, on the same line.
    fn ensure_role(&mut self, role: Name, out: &mut Vec<u8>) {
        if !self.known_roles.insert(role.clone()) {
            return;
        }
        if self.session_authorization.is_some() {
            out.extend_from_slice(b"RESET SESSION AUTHORIZATION; ");
        }
        out.extend_from_slice(&create_role(&role));
        if let Some(statement) = &self.session_authorization {
            out.extend_from_slice(statement);
            out.push(b' ');
        }
    }
}
