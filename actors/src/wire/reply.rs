//! The answers to a client in a session with multidb itself.

use bytes::{BufMut, BytesMut};

use super::backend::TransactionStatus;
use super::client::Format;
use super::frame::encode_frame;

/// The length of a null.
const NULL: i32 = -1;

/// One column of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub name: &'a str,
    /// The object id of its type.
    pub type_oid: u32,
    /// The bytes of each value; negative where they differ.
    pub type_size: i16,
    /// The form of its values.
    pub format: Format,
}

/// Appends BackendKeyData, with a key of four bytes as in protocol 3.0, which each later version accepts.
pub fn encode_backend_key(out: &mut BytesMut, process_id: i32, key: [u8; 4]) {
    let process_id = process_id.to_be_bytes();
    encode_frame(out, b'K', &[process_id, key].concat());
}

/// Appends ParameterStatus.
pub fn encode_parameter_status(out: &mut BytesMut, name: &str, value: &str) {
    let mut body = BytesMut::new();
    put_string(&mut body, name);
    put_string(&mut body, value);
    encode_frame(out, b'S', &body);
}

/// Appends ReadyForQuery.
pub fn encode_ready(out: &mut BytesMut, status: TransactionStatus) {
    let status = match status {
        TransactionStatus::Idle => b'I',
        TransactionStatus::InTransaction => b'T',
        TransactionStatus::Failed => b'E',
    };
    encode_frame(out, b'Z', &[status]);
}

/// Appends RowDescription.
pub fn encode_row_description<'a>(out: &mut BytesMut, fields: impl Iterator<Item = Field<'a>>) {
    let mut body = BytesMut::new();
    let mut count = 0_u16;
    for field in fields {
        count = count.saturating_add(1);
        put_string(&mut body, field.name);
        // It is no column of a table.
        body.put_u32(0);
        body.put_u16(0);
        body.put_u32(field.type_oid);
        body.put_i16(field.type_size);
        // It has no modifier.
        body.put_i32(-1);
        body.put_u16(field.format.code());
    }
    encode_frame(out, b'T', &[&count.to_be_bytes(), &body[..]].concat());
}

/// Appends DataRow.
pub fn encode_row(out: &mut BytesMut, values: impl Iterator<Item = Option<Vec<u8>>>) {
    let mut body = BytesMut::new();
    let mut count = 0_u16;
    for value in values {
        count = count.saturating_add(1);
        match value {
            None => body.put_i32(NULL),
            Some(value) => {
                body.put_i32(i32::try_from(value.len()).unwrap_or(i32::MAX));
                body.put_slice(&value);
            }
        }
    }
    encode_frame(out, b'D', &[&count.to_be_bytes(), &body[..]].concat());
}

/// Appends CommandComplete.
pub fn encode_command_complete(out: &mut BytesMut, command: &str) {
    let mut body = BytesMut::new();
    put_string(&mut body, command);
    encode_frame(out, b'C', &body);
}

/// Appends ParameterDescription: the types of a statement's parameters.
pub fn encode_parameter_description(out: &mut BytesMut, types: &[u32]) {
    let mut body = BytesMut::new();
    body.put_u16(u16::try_from(types.len()).unwrap_or(u16::MAX));
    for oid in types {
        body.put_u32(*oid);
    }
    encode_frame(out, b't', &body);
}

/// An answer without content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The statement is prepared.
    ParseComplete,
    /// The portal is made.
    BindComplete,
    /// The statement or portal is forgotten.
    CloseComplete,
    /// There are no columns.
    NoData,
    /// There is no statement in the text.
    EmptyQuery,
    /// The portal has more rows.
    PortalSuspended,
}

/// Appends an answer without content.
pub fn encode_acknowledgement(out: &mut BytesMut, acknowledgement: Acknowledgement) {
    let tag = match acknowledgement {
        Acknowledgement::ParseComplete => b'1',
        Acknowledgement::BindComplete => b'2',
        Acknowledgement::CloseComplete => b'3',
        Acknowledgement::NoData => b'n',
        Acknowledgement::EmptyQuery => b'I',
        Acknowledgement::PortalSuspended => b's',
    };
    encode_frame(out, tag, &[]);
}

/// Appends a text and its terminator, without zero bytes in it.
fn put_string(body: &mut BytesMut, text: &str) {
    body.extend(text.bytes().filter(|byte| *byte != 0));
    body.put_u8(0);
}
