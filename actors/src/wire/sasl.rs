//! The messages of a client in a SASL exchange.

use bytes::{Buf, Bytes};

/// The longest message that a client may send before it is authenticated. SCRAM messages have a few
/// hundred bytes.
pub const SASL_BODY_LENGTH_MAX: u32 = 4096;

/// SASLInitialResponse: the client's choice of a mechanism, and the mechanism's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaslInitialResponse {
    /// The mechanism.
    pub mechanism: String,
    /// The first message of the mechanism.
    pub data: Bytes,
}

/// Decodes the body of a SASLInitialResponse. `None` if the layout is wrong, or if the first message,
/// which SCRAM needs, is missing.
pub fn decode_sasl_initial(mut body: Bytes) -> Option<SaslInitialResponse> {
    let end = body.iter().position(|byte| *byte == 0)?;
    let mechanism = std::str::from_utf8(&body.split_to(end)).ok()?.to_owned();
    body.advance(1);
    let length = body.try_get_i32().ok()?;
    (usize::try_from(length) == Ok(body.len())).then_some(SaslInitialResponse {
        mechanism,
        data: body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn initial_response_is_decoded_and_faulty_ones_are_none() {
        let good = b"SCRAM-SHA-256\0\0\0\0\x03n,,";
        let read = SaslInitialResponse {
            mechanism: "SCRAM-SHA-256".to_owned(),
            data: Bytes::from_static(b"n,,"),
        };
        assert_eq!(decode_sasl_initial(Bytes::from_static(good)), Some(read));
        for cut in 0..good.len() {
            let body = Bytes::copy_from_slice(good).split_to(cut);
            assert_eq!(decode_sasl_initial(body), None);
        }
        for bad in [
            &b"X\0\xff\xff\xff\xff"[..],
            b"X\0\0\0\0\x01ab",
            b"\xff\0\0\0\0\0",
        ] {
            assert_eq!(decode_sasl_initial(Bytes::from_static(bad)), None);
        }
    }
}
