//! The compression of a dump, known by its first bytes.
//!
//! The output of the tools is read to its end: several members or frames in a row, frames to be skipped, padding.
//! A stream that ends early, or is followed by anything else, is an error.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};

use bzip2::read::MultiBzDecoder;
use flate2::bufread::GzDecoder;
use lz4_flex::frame::FrameDecoder;
use lzma_rust2::XzReader;

const GZIP_MAGIC: &[u8] = &[0x1f, 0x8b];
const ZSTD_MAGIC: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const XZ_MAGIC: &[u8] = b"\xfd7zXZ\0";
const LZ4_MAGIC: &[u8] = &[0x04, 0x22, 0x4d, 0x18];
const BZIP2_MAGIC: &[u8] = b"BZh";
/// Frames without content, of zstd and of lz4, begin with one of 16 numbers. pzstd writes them.
const SKIPPABLE_MAGIC: u32 = 0x184d_2a50;
/// The largest window of zstd, 2 GiB, as a power of two: that of `--long=31`. Frames have the memory that they
/// ask for, mostly 8 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;
/// The most memory of a block of xz, in KiB: as much. `xz -9` asks for 64 MiB.
const XZ_MEMORY_KIB_MAX: u32 = 2 << 20;

/// The compressed bytes.
pub(super) type Compressed = BufReader<Box<dyn Read + Send>>;

/// The reader of the decompressed bytes.
pub(super) fn decompress(mut input: Compressed) -> io::Result<Box<dyn Read + Send>> {
    skip_frames(&mut input)?;
    let head = input.fill_buf()?;
    let reader: (&'static str, Box<dyn Read + Send>) = if head.starts_with(GZIP_MAGIC) {
        let members = Members::new(input, GZIP_MAGIC, GzDecoder::new, GzDecoder::into_inner);
        ("gzip", Box::new(members))
    } else if head.starts_with(ZSTD_MAGIC) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
        ("zstd", Box::new(decoder))
    } else if head.starts_with(XZ_MAGIC) {
        let decoder = XzReader::new_mem_limit(input, true, XZ_MEMORY_KIB_MAX);
        ("xz", Box::new(decoder))
    } else if head.starts_with(LZ4_MAGIC) {
        let begin = |input| {
            Lz4Frame(FrameDecoder::new(NoticesEnd {
                input,
                ended: false,
            }))
        };
        let members = Members::new(input, LZ4_MAGIC, begin, |frame| frame.0.into_inner().input);
        ("lz4", Box::new(members))
    } else if head.starts_with(BZIP2_MAGIC) {
        ("bzip2", Box::new(MultiBzDecoder::new(input)))
    } else {
        return Ok(Box::new(input));
    };
    let (name, reader) = reader;
    Ok(Box::new(Named { name, reader }))
}

/// Skips the frames without content at the beginning.
fn skip_frames(input: &mut Compressed) -> io::Result<()> {
    loop {
        let head = input.fill_buf()?;
        let Some((magic, rest)) = head.split_first_chunk::<4>() else {
            return Ok(());
        };
        let Some((length, _)) = rest.split_first_chunk::<4>() else {
            return Ok(());
        };
        if u32::from_le_bytes(*magic) & !0xf != SKIPPABLE_MAGIC {
            return Ok(());
        }
        let length = 8 + u64::from(u32::from_le_bytes(*length));
        let skipped = io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
        if skipped < length {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The members or frames of one format, in a row.
struct Members<D> {
    magic: &'static [u8],
    begin: fn(Compressed) -> D,
    end: fn(D) -> Compressed,
    /// None after the last.
    member: Option<D>,
}

impl<D: Read> Members<D> {
    fn new(
        input: Compressed,
        magic: &'static [u8],
        begin: fn(Compressed) -> D,
        end: fn(D) -> Compressed,
    ) -> Self {
        let member = Some(begin(input));
        Self {
            magic,
            begin,
            end,
            member,
        }
    }
}

impl<D: Read> Read for Members<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let read = member.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(member) = self.member.take() else {
                break;
            };
            let mut input = (self.end)(member);
            skip_frames(&mut input)?;
            skip_zeros(&mut input)?;
            let head = input.fill_buf()?;
            if head.is_empty() {
                break;
            }
            if !self
                .magic
                .starts_with(&head[..head.len().min(self.magic.len())])
            {
                let problem = "something else follows it";
                return Err(io::Error::new(ErrorKind::InvalidData, problem));
            }
            self.member = Some((self.begin)(input));
        }
        Ok(0)
    }
}

/// Skips the padding of tapes and block devices.
fn skip_zeros(input: &mut Compressed) -> io::Result<()> {
    loop {
        let head = input.fill_buf()?;
        let zeros = head.iter().take_while(|byte| **byte == 0).count();
        if zeros == 0 {
            return Ok(());
        }
        input.consume(zeros);
    }
}

/// A frame of lz4. Its decoder takes an input that ends between two blocks for the end of the frame.
struct Lz4Frame(FrameDecoder<NoticesEnd>);

impl Read for Lz4Frame {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read == 0 && self.0.get_ref().ended {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}

/// Notices that the input has ended.
struct NoticesEnd {
    input: Compressed,
    ended: bool,
}

impl Read for NoticesEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        Ok(read)
    }
}

/// Names the compression in its errors.
struct Named {
    name: &'static str,
    reader: Box<dyn Read + Send>,
}

impl Read for Named {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.reader.read(buffer).map_err(|error| {
            let name = self.name;
            let text = match error.kind() {
                ErrorKind::Interrupted => return error,
                // An error of the disk keeps its number.
                _ if error.raw_os_error().is_some() => return error,
                ErrorKind::UnexpectedEof => format!("its {name} stream ends early"),
                _ => format!("its {name} stream is damaged: {error}"),
            };
            io::Error::new(error.kind(), text)
        })
    }
}
