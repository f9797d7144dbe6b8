//! Clients that want to harm: whatever they send, the program keeps to its memory and time, tells them what is wrong where that
//! can be told, and goes on serving others. Against the program in a process of its own, over real connections, each beside a
//! well-behaved client whose calls must all succeed.

mod raw;

use std::time::{Duration, Instant};

use affiliate_billing::proto;
use affiliate_billing::proto::balances_service_client::BalancesServiceClient;
use affiliate_billing::proto::settlements_service_client::SettlementsServiceClient;
use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

use crate::support::fixtures::entry;
use crate::support::guard::{Authority, Files, Known, authorized, connect, tls_channel};
use crate::support::harness::scenarios;
use crate::support::program::Serving;
use crate::support::wire::{assert_refused, call, package_message, rpcs, with_bytes};

scenarios![
    units: messages_that_are_too_much_are_refused,
        a_million_items_are_refused,
        messages_that_never_end_take_what_was_sent_alone,
        headers_have_a_limit,
        what_is_no_call_is_answered_or_closed,
        compressed_messages_are_refused,
        rapid_resets_close_the_connection,
        floods_of_frames_take_no_memory,
        answers_that_nobody_reads_take_no_memory,
        connections_that_do_not_open_are_closed,
        a_byte_at_a_time_is_served_and_holds_up_nobody;
];

const LIST: &str = "/affiliate.billing.v1.SettlementsService/ListSettlements";
const POST: &str = "/affiliate.billing.v1.BalancesService/PostEntries";
const MAX_MESSAGE: usize = 4 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// How much more memory the program may hold while it is attacked, as long as the attack itself sends less.
const MEMORY: u64 = 64 * MIB;
/// How long a call of the well-behaved client may take, on a machine that does much else.
const CALL_TIME: Duration = Duration::from_secs(10);
/// How long an attack may take.
const ATTACK_TIME: Duration = Duration::from_secs(60);

/// Serves, attacks, and sees that the program stays within `memory` more bytes than before while a well-behaved client beside is
/// served.
fn beside(memory: u64, attack: impl AsyncFnOnce(&str)) {
    let folder = tempfile::tempdir().unwrap();
    let serving = Serving::start(folder.path(), &[]);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let channel = serving.channel().await;
        let attacked = timeout(ATTACK_TIME, attack(serving.address()));
        watched(&serving, channel, None, memory, async {
            attacked.await.unwrap();
        })
        .await;
    });
    assert_eq!(serving.end("-TERM").code(), Some(0));
}

async fn watched(
    serving: &Serving,
    channel: Channel,
    authorization: Option<String>,
    memory: u64,
    attack: impl Future<Output = ()>,
) {
    let authorization = authorization.as_deref();
    well_behaved(&channel, authorization, 0).await;
    let before = serving.memory();
    let mut most = before;
    let mut calls = 0;
    let beside = async {
        loop {
            calls += 1;
            well_behaved(&channel, authorization, calls).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let watching = async {
        loop {
            most = most.max(serving.memory());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::select! {
        () = attack => {}
        () = beside => {}
        () = watching => {}
    }
    assert!(calls > 0, "nobody was served beside");
    well_behaved(&channel, authorization, calls + 1).await;
    let more = most.saturating_sub(before);
    assert!(more <= memory, "it took {} MiB more", more / MIB);
    if std::env::var_os("BILLING_TEST_SHOW_MEMORY").is_some() {
        let line = format!("{} KiB more at most, {calls} calls beside\n", more / 1024);
        std::io::Write::write_all(&mut std::io::stderr(), line.as_bytes()).unwrap();
    }
}

/// A write and a read, which must succeed in time.
async fn well_behaved(channel: &Channel, authorization: Option<&str>, number: u32) {
    let calls = async {
        let authorize = authorized(authorization.unwrap_or("none"));
        let entries = vec![entry(&format!("order-{number}"), "aff-1", "1.5", "EUR")];
        let request = proto::PostEntriesRequest {
            entries,
            ..Default::default()
        };
        let mut balances = BalancesServiceClient::with_interceptor(channel.clone(), authorize.clone());
        balances.post_entries(request).await.unwrap();
        let mut settlements = SettlementsServiceClient::with_interceptor(channel.clone(), authorize);
        settlements
            .list_settlements(proto::ListSettlementsRequest::default())
            .await
            .unwrap();
    };
    timeout(CALL_TIME, calls).await.unwrap();
}

async fn channel(address: &str) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

async fn refused(channel: &Channel, name: &str, message: Vec<u8>) -> Status {
    call(channel, name, vec![message]).await.unwrap_err()
}

/// Messages inside messages, of a field that no message has.
fn nested(depth: usize) -> Vec<u8> {
    let mut message = Vec::new();
    for _ in 0..depth {
        message = with_bytes(Vec::new(), 999, &message);
    }
    message
}

fn messages_that_are_too_much_are_refused() {
    beside(MEMORY, async |address| {
        let channel = channel(address).await;
        // What nobody knows is left out, as protobuf wants it, without taking memory.
        let mut unknown = Vec::new();
        while unknown.len() < MAX_MESSAGE - 16 {
            unknown = with_bytes(unknown, 1000, b"");
        }
        call(&channel, "SettlementsService/ListSettlements", vec![unknown])
            .await
            .unwrap();
        let deep = nested(2000);
        call(&channel, "SettlementsService/ListSettlements", vec![deep])
            .await
            .unwrap();
        // Groups have no length: a decoder must follow them.
        let groups = [0x0b_u8 | 0x80, 0x7d].repeat(100_000);
        let status = refused(&channel, "SettlementsService/ListSettlements", groups).await;
        assert_refused(&status, Code::InvalidArgument, "MALFORMED_MESSAGE");
        for each in rpcs() {
            let number = each.string_field().number().try_into().unwrap();
            let message = with_bytes(Vec::new(), number, &vec![b'a'; MAX_MESSAGE - 16]);
            let status = refused(&channel, &each.name, message).await;
            assert_eq!(
                status.code(),
                Code::InvalidArgument,
                "{}: {}",
                each.name,
                status.message()
            );
            assert!(
                status.message().len() < 2000 && status.details().len() < 8000,
                "{}",
                each.name
            );
            let over = with_bytes(Vec::new(), number, &vec![b'a'; MAX_MESSAGE]);
            let status = refused(&channel, &each.name, over).await;
            assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
        }
    });
}

/// As many empty items as a message may be long: two bytes each on the wire.
fn a_million_items_are_refused() {
    beside(MEMORY, async |address| {
        let channel = channel(address).await;
        let mut lists = 0;
        for each in rpcs() {
            for field in &each.input.field {
                let number = field.number().try_into().unwrap();
                let mut messages = Vec::new();
                if field.label() == Label::Repeated {
                    messages.push(with_bytes(Vec::new(), number, b"").repeat(MAX_MESSAGE / 2 - 8));
                } else if let Some(inner) = package_message(field.type_name()) {
                    let repeated = inner.field.iter().filter(|inner| inner.label() == Label::Repeated);
                    messages.extend(repeated.map(|inner| {
                        let items = with_bytes(Vec::new(), inner.number().try_into().unwrap(), b"");
                        with_bytes(Vec::new(), number, &items.repeat(MAX_MESSAGE / 2 - 8))
                    }));
                }
                for message in messages {
                    assert!(message.len() <= MAX_MESSAGE);
                    lists += 1;
                    let status = refused(&channel, &each.name, message).await;
                    assert_refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
                    assert!(status.message().contains("65536 items"), "{status}");
                }
            }
        }
        assert!(lists >= 8, "{lists} lists");
        // As many as go on: by far too many for the call, which tells so.
        let most = proto::PostEntriesRequest {
            entries: vec![proto::Entry::default(); affiliate_billing::grpc::MAX_ITEMS],
            ..Default::default()
        };
        let status = refused(&channel, "BalancesService/PostEntries", most.encode_to_vec()).await;
        assert_refused(&status, Code::InvalidArgument, "INVALID_REQUEST");
    });
}

/// They say that 4 MiB will come, and send less. Memory is taken for what came.
fn messages_that_never_end_take_what_was_sent_alone() {
    beside(MEMORY, async |address| {
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut stream = raw::opened(address, &[]).await;
            let heard = raw::listen(&mut stream, Duration::from_millis(500)).await;
            assert!(heard.kinds.contains(&raw::WINDOW_UPDATE), "its window is not open");
            for number in 0..200 {
                let id = raw::stream_id(number);
                let mut head = vec![0];
                head.extend(u32::try_from(MAX_MESSAGE).unwrap().to_be_bytes());
                head.extend([b'a'; 16_000]);
                stream.write_all(&raw::begin_call(POST, id)).await.unwrap();
                stream.write_all(&raw::frame(raw::DATA, 0, id, &head)).await.unwrap();
            }
            connections.push(stream);
        }
        for stream in &mut connections {
            let heard = raw::listen(stream, Duration::from_millis(300)).await;
            assert!(!heard.is_closed, "{:?}", heard.goaway);
        }
    });
}

fn headers_have_a_limit() {
    beside(MEMORY, async |address| {
        // Many, and one that is large: the call is refused with HTTP's own status, and the connection goes on.
        let mut channel = channel(address).await;
        let many = (0..1000)
            .map(|number| (format!("x-{number}"), "a".repeat(10)))
            .collect();
        for headers in [many, vec![("x-large".to_owned(), "a".repeat(20_000))]] {
            let mut request =
                http::Request::post(format!("http://{address}{LIST}")).header("content-type", "application/grpc");
            for (name, value) in headers {
                request = request.header(name, value);
            }
            let channel = channel.ready().await.unwrap();
            let answer = channel.call(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 431);
        }
        // Headers that never end.
        let mut stream = raw::opened(address, &[]).await;
        let first = raw::frame(raw::HEADERS, 0, 1, &raw::call_headers(LIST));
        stream.write_all(&first).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let more = raw::frame(raw::CONTINUATION, 0, 1, &raw::header("x-more", &"a".repeat(1000)));
        let flooding = raw::flood(&mut writing, &more, 256 * 1024 * 1024);
        let (taken, heard) = tokio::join!(flooding, raw::listen(&mut reading, Duration::from_secs(10)));
        assert!(heard.is_closed, "headers that never end go on: {taken} bytes");
        assert!(taken < 64 * 1024 * 1024, "{taken} bytes were taken");
        // And those that are empty: a flood of frames that never fills a limit of bytes.
        let mut stream = raw::opened(address, &[]).await;
        stream.write_all(&first).await.unwrap();
        let (mut reading, mut writing) = stream.into_split();
        let more = raw::frame(raw::CONTINUATION, 0, 1, &[]).repeat(1000);
        let flooding = raw::flood(&mut writing, &more, 256 * 1024 * 1024);
        let (taken, heard) = tokio::join!(flooding, raw::listen(&mut reading, Duration::from_secs(10)));
        assert!(heard.is_closed, "headers that never end go on: {taken} bytes");
    });
}

fn what_is_no_call_is_answered_or_closed() {
    beside(MEMORY, async |address| {
        let garbage: Vec<u8> = (0..100_000_u32)
            .map(|number| number.wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect();
        let mut oversized = raw::PREFACE.to_vec();
        oversized.extend([0xff, 0xff, 0xff, raw::DATA, 0, 0, 0, 0, 1]);
        for (what, bytes) in [
            ("garbage", garbage),
            ("HTTP/1.1", b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec()),
            (
                "a TLS hello",
                [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[7; 600]].concat(),
            ),
            ("a frame of 16 MiB", oversized),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            // It may be closed while we write.
            let _ = stream.write_all(&bytes).await;
            let heard = raw::listen(&mut stream, Duration::from_secs(5)).await;
            assert!(heard.is_closed, "{what} is not closed");
        }
        let mut channel = channel(address).await;
        for content_type in [
            "application/json",
            "text/plain",
            "application/x-www-form-urlencoded",
            "",
        ] {
            let request = http::Request::post(format!("http://{address}{LIST}")).header("content-type", content_type);
            let channel = channel.ready().await.unwrap();
            let answer = channel.call(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 415, "{content_type}");
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_refused(&status, Code::InvalidArgument, "MALFORMED_MESSAGE");
        }
        let request = http::Request::get(format!("http://{address}{LIST}")).header("content-type", "application/grpc");
        let answer = channel
            .ready()
            .await
            .unwrap()
            .call(request.body(Body::empty()).unwrap())
            .await
            .unwrap();
        assert_eq!(answer.status(), 405);
        // No message, and one that is cut off.
        for body in [Vec::new(), vec![0, 0, 0], vec![0, 0, 0, 0, 4, 10, 2]] {
            let request = http::Request::post(format!("http://{address}{LIST}"))
                .header("content-type", "application/grpc")
                .body(Body::new(http_body_of(body)))
                .unwrap();
            let answer = channel.ready().await.unwrap().call(request).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_refused(&status, Code::InvalidArgument, "MALFORMED_MESSAGE");
        }
    });
}

fn compressed_messages_are_refused() {
    beside(MEMORY, async |address| {
        let mut channel = channel(address).await;
        let mut message = raw::with_length(b"");
        message[0] = 1;
        for (encoding, code, reason) in [
            (None, Code::InvalidArgument, "MALFORMED_MESSAGE"),
            (Some("gzip"), Code::Unimplemented, "MALFORMED_MESSAGE"),
            (Some("nothing"), Code::Unimplemented, "MALFORMED_MESSAGE"),
        ] {
            let mut request =
                http::Request::post(format!("http://{address}{LIST}")).header("content-type", "application/grpc");
            if let Some(encoding) = encoding {
                request = request.header("grpc-encoding", encoding);
            }
            let body = Body::new(http_body_of(message.clone()));
            let channel = channel.ready().await.unwrap();
            let answer = channel.call(request.body(body).unwrap()).await.unwrap();
            let status = Status::from_header_map(answer.headers()).unwrap();
            assert_eq!(status.code(), code, "{encoding:?}: {status:?}");
            assert_refused(&status, code, reason);
        }
    });
}

fn http_body_of(
    bytes: Vec<u8>,
) -> impl http_body::Body<Data = prost::bytes::Bytes, Error = std::convert::Infallible> + Send {
    http_body_util::Full::new(prost::bytes::Bytes::from(bytes))
}

/// CVE-2023-44487: calls that are begun and taken back at once, so that the limit on streams never counts.
fn rapid_resets_close_the_connection() {
    beside(MEMORY, async |address| {
        for message in [None, Some(&b""[..])] {
            let (mut reading, mut writing) = raw::opened(address, &[]).await.into_split();
            let attack = async {
                for block in 0..500 {
                    let mut bytes = Vec::new();
                    for number in block * 100..(block + 1) * 100 {
                        let id = raw::stream_id(number);
                        bytes.extend(match message {
                            None => raw::begin_call(LIST, id),
                            Some(message) => raw::whole_call(LIST, id, message),
                        });
                        bytes.extend(raw::frame(raw::RESET, 0, id, &raw::CANCEL));
                    }
                    if writing.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            };
            let (heard, ()) = tokio::join!(raw::listen(&mut reading, Duration::from_secs(10)), attack);
            assert!(heard.is_closed, "50,000 resets are taken");
            // ENHANCE_YOUR_CALM, unless the connection was reset before it could be read.
            assert!(matches!(heard.goaway, Some(11) | None), "{:?}", heard.goaway);
        }
    });
}

/// Nobody reads what the server must answer to them: it stops reading.
fn floods_of_frames_take_no_memory() {
    beside(MEMORY, async |address| {
        let limit = 24 * 1024 * 1024;
        let call = raw::begin_call(LIST, 1);
        let floods = [
            (
                "settings",
                raw::frame(raw::SETTINGS, 0, 0, &raw::setting(4, 65_535)),
                &[][..],
            ),
            ("pings", raw::frame(raw::PING, 0, 0, &[7; 8]), &[]),
            ("priorities", raw::frame(raw::PRIORITY, 0, 1, &[0, 0, 0, 3, 16]), &[]),
            ("empty data", raw::frame(raw::DATA, 0, 1, &[]), &call),
            (
                "windows",
                raw::frame(raw::WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()),
                &call,
            ),
            ("what no one knows", raw::frame(0xee, 0, 0, &[0; 8]), &[]),
        ];
        let floods = floods.map(|(what, frame, before)| async move {
            let mut stream = raw::opened(address, &[]).await;
            stream.write_all(before).await.unwrap();
            let begun = Instant::now();
            let taken = raw::flood(&mut stream, &frame.repeat(1000), limit).await;
            assert!(begun.elapsed() < Duration::from_secs(40), "{what}: {taken} bytes");
        });
        futures_util::future::join_all(floods).await;
    });
}

/// A window of nothing, so that no answer can be sent: those that wait are bounded.
fn answers_that_nobody_reads_take_no_memory() {
    beside(MEMORY, async |address| {
        let mut connections = Vec::new();
        for _ in 0..4 {
            let mut stream = raw::opened(address, &raw::setting(4, 0)).await;
            for number in 0..400 {
                // More at once than are allowed: those are refused, and the others wait.
                let id = raw::stream_id(number);
                stream.write_all(&raw::whole_call(LIST, id, b"")).await.unwrap();
            }
            connections.push(stream);
        }
        for stream in &mut connections {
            let heard = raw::listen(stream, Duration::from_millis(1000)).await;
            assert!(!heard.kinds.contains(&raw::DATA), "there is no window");
            let answered = heard.kinds.iter().filter(|kind| **kind == raw::HEADERS).count();
            assert!(answered >= 200 && !heard.is_closed, "{answered} answers have begun");
        }
    });
}

/// On a connection without TLS, and before, in and after the handshake of one with it.
fn connections_that_do_not_open_are_closed() {
    let files = Files::new();
    let authority = Authority::new();
    files.write_certificate(&authority.issue("localhost"));
    let known = Known::new("poster", &["poster", "reader"]);
    files.write_identities(&[&known]);
    let paths = ["identities.toml", "certificate.pem", "key.pem"].map(|name| files.path(name).display().to_string());
    let settings = [
        ("BILLING_TOKENS_FILE", paths[0].as_str()),
        ("BILLING_TLS_CERT_FILE", paths[1].as_str()),
        ("BILLING_TLS_KEY_FILE", paths[2].as_str()),
    ];
    let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let over_tls = Serving::start(folders[0].path(), &settings);
    let plain = Serving::start(folders[1].path(), &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let connector = authority.client(None);
        let address = over_tls.address().parse().unwrap();
        let attack = async {
            let mut ends: Vec<futures_util::future::BoxFuture<'static, bool>> = Vec::new();
            let hello_begins = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
            for first in [&b""[..], &hello_begins] {
                for _ in 0..100 {
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.write_all(first).await.unwrap();
                    ends.push(Box::pin(async move { is_ended(&mut stream).await }));
                }
            }
            for _ in 0..20 {
                let mut stream = connect(&connector, address).await.unwrap();
                ends.push(Box::pin(async move { is_ended(&mut stream).await }));
            }
            for _ in 0..100 {
                let mut stream = TcpStream::connect(plain.address()).await.unwrap();
                ends.push(Box::pin(async move { is_ended(&mut stream).await }));
            }
            // Half of the preface, and the preface so slowly that a limit on silence alone would not see it.
            let mut stream = TcpStream::connect(plain.address()).await.unwrap();
            stream.write_all(&raw::PREFACE[..12]).await.unwrap();
            ends.push(Box::pin(async move { is_ended(&mut stream).await }));
            let mut stream = TcpStream::connect(plain.address()).await.unwrap();
            ends.push(Box::pin(async move {
                for byte in raw::PREFACE {
                    if stream.write_all(&[*byte]).await.is_err() {
                        return true;
                    }
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                false
            }));
            let ended = timeout(Duration::from_secs(30), futures_util::future::join_all(ends))
                .await
                .unwrap();
            assert!(ended.into_iter().all(|ended| ended));
        };
        let channel = tls_channel(&connector, address).await.unwrap();
        watched(&over_tls, channel, Some(known.authorization()), MEMORY, attack).await;
        // One that is open may be silent.
        let channel = plain.channel().await;
        well_behaved(&channel, None, 0).await;
    });
}

/// Reads until the server ends it; whatever comes before is its part of the opening.
async fn is_ended(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match timeout(Duration::from_secs(25), stream.read(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}

fn a_byte_at_a_time_is_served_and_holds_up_nobody() {
    beside(MEMORY, async |address| {
        let clients = (0..50).map(|_| async {
            let mut stream = raw::opened(address, &[]).await;
            stream.set_nodelay(true).unwrap();
            for byte in raw::whole_call(LIST, 1, b"") {
                stream.write_all(&[byte]).await.unwrap();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let heard = raw::listen(&mut stream, Duration::from_secs(1)).await;
            assert!(
                heard.kinds.contains(&raw::DATA),
                "the slow are served too: {:?}",
                heard.kinds
            );
        });
        futures_util::future::join_all(clients).await;
    });
}
