//! ErrorResponse and NoticeResponse: fields of one letter and a text.

use std::borrow::Cow;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::SqlState;
use super::frame::encode_frame;
use super::sqlstate;
use super::startup::take_string;

/// The most bytes of one sent text; longer ones are cut.
///
/// Before authentication, libpq mistakes a message of more than 30,000 bytes (`MAX_ERRLEN`) for an
/// error of the protocol before 7.4, and prints rubbish. Three texts of this size fit.
pub const FIELD_LENGTH_MAX: usize = 8_000;

const CUT: &str = "…";

/// The fields of a received ErrorResponse or NoticeResponse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorFields(Vec<(u8, Bytes)>);

impl ErrorFields {
    /// Decodes the fields and their terminator.
    pub(super) fn decode(body: &mut Bytes) -> Option<Self> {
        let mut fields = Vec::new();
        loop {
            match body.try_get_u8().ok()? {
                0 => return Some(Self(fields)),
                kind => fields.push((kind, take_string(body)?)),
            }
        }
    }

    /// A field by its letter.
    pub fn get(&self, kind: u8) -> Option<Cow<'_, str>> {
        self.0
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, text)| String::from_utf8_lossy(text))
    }

    /// The severity, untranslated if the server sends that.
    pub fn severity(&self) -> Cow<'_, str> {
        self.get(b'V')
            .or_else(|| self.get(b'S'))
            .unwrap_or_default()
    }

    /// The SQLSTATE.
    pub fn sqlstate(&self) -> Cow<'_, str> {
        self.get(b'C').unwrap_or_default()
    }

    /// Whether the server is still starting up, so that a later attempt may succeed.
    pub fn is_starting_up(&self) -> bool {
        self.sqlstate() == sqlstate::CANNOT_CONNECT_NOW.as_str()
    }

    /// Whether all of the server's connections are in use.
    pub fn is_too_many_connections(&self) -> bool {
        self.sqlstate() == sqlstate::TOO_MANY_CONNECTIONS.as_str()
    }

    /// Whether there is no such database.
    pub fn is_about_the_database(&self) -> bool {
        self.sqlstate() == sqlstate::INVALID_CATALOG_NAME.as_str()
    }

    /// Whether the same login would be refused each time: there is no such database or no such role.
    pub fn is_final(&self) -> bool {
        let is_about_the_role =
            self.sqlstate() == sqlstate::INVALID_AUTHORIZATION_SPECIFICATION.as_str();
        self.is_about_the_database() || is_about_the_role
    }

    /// Whether the server could not load a library, by the source file that says so.
    pub fn is_about_a_library(&self) -> bool {
        self.get(b'F').is_some_and(|file| file == "dfmgr.c")
    }

    /// Appends it as an ErrorResponse, with this hint in place of its own.
    pub fn encode_error_with_hint(&self, out: &mut BytesMut, hint: &str) {
        let mut body = BytesMut::new();
        for (kind, text) in self.0.iter().filter(|(kind, _)| *kind != b'H') {
            body.put_u8(*kind);
            body.put_slice(text);
            body.put_u8(0);
        }
        body.put_u8(b'H');
        put_text(&mut body, hint);
        body.put_u8(0);
        encode_frame(out, b'E', &body);
    }

    /// The message.
    pub fn message(&self) -> Cow<'_, str> {
        self.get(b'M').unwrap_or_default()
    }

    /// The detail.
    pub fn detail(&self) -> Option<Cow<'_, str>> {
        self.get(b'D')
    }

    /// The hint.
    pub fn hint(&self) -> Option<Cow<'_, str>> {
        self.get(b'H')
    }
}

/// An error or notice to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report<'a> {
    /// `FATAL`, `ERROR`, `NOTICE` or another of Postgres' severities.
    pub severity: &'a str,
    /// The SQLSTATE.
    pub sqlstate: SqlState,
    /// The message: lower case, one line, no full stop.
    pub message: &'a str,
    /// The DETAIL, in sentences.
    pub detail: Option<&'a str>,
    /// The HINT, in sentences.
    pub hint: Option<&'a str>,
}

/// Appends an ErrorResponse.
pub fn encode_error_response(out: &mut BytesMut, report: &Report<'_>) {
    encode_report(out, b'E', report);
}

/// Appends a NoticeResponse. A client accepts one only after AuthenticationOk.
pub fn encode_notice_response(out: &mut BytesMut, report: &Report<'_>) {
    encode_report(out, b'N', report);
}

fn encode_report(out: &mut BytesMut, tag: u8, report: &Report<'_>) {
    let mut body = BytesMut::new();
    let fields = [
        (b'S', Some(report.severity)),
        (b'V', Some(report.severity)),
        (b'C', Some(report.sqlstate.as_str())),
        (b'M', Some(report.message)),
        (b'D', report.detail),
        (b'H', report.hint),
    ];
    for (kind, text) in fields {
        if let Some(text) = text {
            body.put_u8(kind);
            put_text(&mut body, text);
        }
    }
    body.put_u8(0);
    encode_frame(out, tag, &body);
}

/// Appends a text and its terminator. Cuts the text to its limit and drops zero bytes in it.
fn put_text(body: &mut BytesMut, text: &str) {
    let limit = FIELD_LENGTH_MAX.saturating_sub(CUT.len());
    let kept = if text.len() > FIELD_LENGTH_MAX {
        let end = (0..=limit)
            .rev()
            .find(|index| text.is_char_boundary(*index));
        text.get(..end.unwrap_or_default()).unwrap_or_default()
    } else {
        text
    };
    body.extend(kept.bytes().filter(|byte| *byte != 0));
    if kept.len() < text.len() {
        body.put_slice(CUT.as_bytes());
    }
    body.put_u8(0);
}
