//! HTTP/2 as no library would send it: frames by hand.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
pub(crate) const CANCEL: [u8; 4] = 8_u32.to_be_bytes();

/// A frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// One setting.
pub(crate) fn setting(identifier: u16, value: u32) -> Vec<u8> {
    let mut payload = identifier.to_be_bytes().to_vec();
    payload.extend(value.to_be_bytes());
    payload
}

/// A header as HPACK writes one that is in no table.
pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut block = vec![0];
    for text in [name, value] {
        let mut length = text.len();
        if length < 127 {
            block.push(u8::try_from(length).unwrap());
        } else {
            block.push(127);
            length -= 127;
            while length >= 128 {
                block.push(u8::try_from(length % 128).unwrap() | 128);
                length /= 128;
            }
            block.push(u8::try_from(length).unwrap());
        }
        block.extend(text.as_bytes());
    }
    block
}

/// The headers of a call.
pub(crate) fn call_headers(path: &str) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    headers
        .into_iter()
        .flat_map(|(name, value)| header(name, value))
        .collect()
}

/// A call without a message's end.
pub(crate) fn begin_call(path: &str, stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, &call_headers(path))
}

/// A call with this message, all of it.
pub(crate) fn whole_call(path: &str, stream: u32, message: &[u8]) -> Vec<u8> {
    let mut bytes = begin_call(path, stream);
    bytes.extend(frame(DATA, END_STREAM, stream, &with_length(message)));
    bytes
}

/// A message as gRPC frames it.
pub(crate) fn with_length(message: &[u8]) -> Vec<u8> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    framed.extend(message);
    framed
}

/// The `number`th stream of a client.
pub(crate) fn stream_id(number: u32) -> u32 {
    2 * number + 1
}

/// A connection that is open, with these settings of the client.
pub(crate) async fn opened(address: &str, settings: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(PREFACE).await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await.unwrap();
    stream
}

/// Sends the same again and again, reading nothing, until the server ends the connection, takes no more for a while, or so much
/// was sent. Gives how many bytes the server took.
pub(crate) async fn flood(stream: &mut (impl AsyncWrite + Unpin), what: &[u8], limit: usize) -> usize {
    let mut taken = 0;
    while taken < limit {
        match timeout(Duration::from_millis(500), stream.write(what)).await {
            Ok(Ok(count)) => {
                taken += count;
                // What was cut is sent to its end: a flood of good frames.
                if count < what.len() {
                    match timeout(Duration::from_millis(500), stream.write_all(&what[count..])).await {
                        Ok(Ok(())) => taken += what.len() - count,
                        Ok(Err(_)) | Err(_) => break,
                    }
                }
            }
            Ok(Err(_)) | Err(_) => break,
        }
    }
    taken
}

/// The kinds of the frames that come until the server ends the connection, with the error of a `GOAWAY`; or until nothing comes
/// within the limit.
pub(crate) struct Heard {
    pub(crate) kinds: Vec<u8>,
    pub(crate) goaway: Option<u32>,
    pub(crate) is_closed: bool,
}

pub(crate) async fn listen(stream: &mut (impl AsyncRead + Unpin), limit: Duration) -> Heard {
    let mut heard = Heard {
        kinds: Vec::new(),
        goaway: None,
        is_closed: false,
    };
    loop {
        let mut head = [0; 9];
        match timeout(limit, stream.read_exact(&mut head)).await {
            Err(_) => return heard,
            Ok(Err(_)) => {
                heard.is_closed = true;
                return heard;
            }
            Ok(Ok(_)) => {}
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        if stream.read_exact(&mut payload).await.is_err() {
            heard.is_closed = true;
            return heard;
        }
        heard.kinds.push(head[3]);
        if head[3] == GOAWAY {
            heard.goaway = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
}
