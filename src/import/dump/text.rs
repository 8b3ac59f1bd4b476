//! The encoding of a dump's text: byte order marks, and UTF-16 as shells of Windows write it.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use encoding_rs::{Decoder, DecoderResult, Encoding, UTF_16BE, UTF_16LE};

/// The size of a piece.
const PIECE_BYTES: usize = 64 << 10;

/// Removes a byte order mark, and converts UTF-16 to UTF-8. Archives and other text pass unchanged.
pub(super) fn as_utf8(reader: Box<dyn Read + Send>) -> io::Result<(Box<dyn Read + Send>, bool)> {
    let mut input = BufReader::with_capacity(PIECE_BYTES, reader);
    // A short read may give less than a mark.
    let mut head = [0; 4];
    let length = read_head(&mut input, &mut head)?;
    let head = &head[..length];
    let restored =
        |input| -> Box<dyn Read + Send> { Box::new(io::Cursor::new(head.to_vec()).chain(input)) };
    if head.starts_with(b"\xef\xbb\xbf") {
        let rest = io::Cursor::new(head[3..].to_vec()).chain(input);
        return Ok((Box::new(rest), false));
    }
    let Some(encoding) = utf16(head) else {
        return Ok((restored(input), false));
    };
    let reader = Utf16 {
        input: BufReader::with_capacity(PIECE_BYTES, restored(input)),
        decoder: encoding.new_decoder_with_bom_removal(),
        text: Vec::new(),
        at: 0,
        ended: false,
    };
    Ok((Box::new(reader), true))
}

fn read_head(input: &mut impl Read, head: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < head.len() {
        match input.read(&mut head[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// The form of UTF-16, by its mark, or by a first character of ASCII in two bytes.
fn utf16(head: &[u8]) -> Option<&'static Encoding> {
    let is_ascii = |byte: u8| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~');
    match *head {
        [0xff, 0xfe, ..] => Some(UTF_16LE),
        [0xfe, 0xff, ..] => Some(UTF_16BE),
        [a, 0, b, 0] if is_ascii(a) && is_ascii(b) => Some(UTF_16LE),
        [0, a, 0, b] if is_ascii(a) && is_ascii(b) => Some(UTF_16BE),
        _ => None,
    }
}

/// Reads UTF-16 as UTF-8.
struct Utf16 {
    input: BufReader<Box<dyn Read + Send>>,
    decoder: Decoder,
    /// Converted and not yet read, from `at` on.
    text: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Utf16 {
    fn convert(&mut self) -> io::Result<()> {
        self.text.resize(2 * PIECE_BYTES, 0);
        self.at = 0;
        let piece = self.input.fill_buf()?;
        self.ended = piece.is_empty();
        let decoded =
            self.decoder
                .decode_to_utf8_without_replacement(piece, &mut self.text, self.ended);
        let (result, read, written) = decoded;
        self.input.consume(read);
        self.text.truncate(written);
        if let DecoderResult::Malformed(..) = result {
            let problem = "its UTF-16 is damaged";
            return Err(io::Error::new(ErrorKind::InvalidData, problem));
        }
        Ok(())
    }
}

impl Read for Utf16 {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.text.len() && !self.ended {
            self.convert()?;
        }
        let left = &self.text[self.at..];
        let length = left.len().min(buffer.len());
        buffer[..length].copy_from_slice(&left[..length]);
        self.at += length;
        Ok(length)
    }
}
