//! Calls below the generated clients: any method by its name, with any bytes as its messages. And what an error must carry.

use std::collections::HashMap;
use std::sync::OnceLock;

use affiliate_billing::proto::FILE_DESCRIPTOR_SET;
use prost::Message as _;
use prost::bytes::{Buf as _, BufMut as _};
use prost_types::field_descriptor_proto::Type;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const PACKAGE: &str = "affiliate.billing.v1";
const REASON_PREFIX: &str = "ERROR_REASON_";

/// One RPC of the package, with the descriptors of its messages.
pub(crate) struct Rpc {
    /// `Service/Method`, without the package.
    pub(crate) name: String,
    pub(crate) input: DescriptorProto,
    pub(crate) output: DescriptorProto,
}

/// All RPCs of the package, by its descriptors.
pub(crate) fn rpcs() -> Vec<Rpc> {
    let mut rpcs = Vec::new();
    for file in &descriptors().file {
        for service in &file.service {
            for method in &service.method {
                rpcs.push(Rpc {
                    name: format!("{}/{}", service.name(), method.name()),
                    input: message(method.input_type()),
                    output: message(method.output_type()),
                });
            }
        }
    }
    rpcs
}

pub(crate) fn rpc(name: &str) -> Rpc {
    rpcs()
        .into_iter()
        .find(|rpc| rpc.name == name)
        .unwrap_or_else(|| panic!("no RPC {name}"))
}

impl Rpc {
    /// Its first field that is a string.
    pub(crate) fn string_field(&self) -> &FieldDescriptorProto {
        let mut fields = self.input.field.iter();
        fields
            .find(|field| field.r#type() == Type::String)
            .unwrap_or_else(|| panic!("{} takes no string", self.name))
    }
}

pub(crate) fn field_number(message: &DescriptorProto, name: &str) -> Option<u32> {
    let field = message.field.iter().find(|field| field.name() == name)?;
    Some(field.number().try_into().unwrap())
}

fn descriptors() -> &'static FileDescriptorSet {
    static DESCRIPTORS: OnceLock<FileDescriptorSet> = OnceLock::new();
    DESCRIPTORS.get_or_init(|| FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap())
}

fn message(full_name: &str) -> DescriptorProto {
    package_message(full_name).unwrap_or_else(|| panic!("no message {full_name}"))
}

/// A message by its full name; none when it is another package's, or stands inside another message.
pub(crate) fn package_message(full_name: &str) -> Option<DescriptorProto> {
    let name = full_name.strip_prefix(&format!(".{PACKAGE}."))?;
    let mut messages = descriptors().file.iter().flat_map(|file| &file.message_type);
    messages.find(|message| message.name() == name).cloned()
}

/// Appends a field with a length, as strings and messages are.
pub(crate) fn with_bytes(mut message: Vec<u8>, number: u32, value: &[u8]) -> Vec<u8> {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, &mut message);
    prost::encoding::encode_varint(value.len().try_into().unwrap(), &mut message);
    message.extend(value);
    message
}

/// Appends a number, as integers and enums are.
pub(crate) fn with_number(mut message: Vec<u8>, number: u32, value: i32) -> Vec<u8> {
    prost::encoding::int32::encode(number, &value, &mut message);
    message
}

/// The last value of a string field of a message.
pub(crate) fn read_string(mut message: &[u8], number: u32) -> String {
    let mut found = String::new();
    let context = prost::encoding::DecodeContext::default();
    while message.has_remaining() {
        let (field, wire_type) = prost::encoding::decode_key(&mut message).unwrap();
        if field == number {
            prost::encoding::string::merge(wire_type, &mut found, &mut message, context.clone()).unwrap();
        } else {
            prost::encoding::skip_field(wire_type, field, &mut message, context.clone()).unwrap();
        }
    }
    found
}

/// Calls `Service/Method` of the package with these messages, one after the other, and collects the answers. Also right for
/// methods that take or give one: on the wire they are streams too.
pub(crate) async fn call(channel: &Channel, name: &str, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Status> {
    call_path(channel, &format!("/{PACKAGE}.{name}"), messages).await
}

pub(crate) async fn call_path(channel: &Channel, path: &str, messages: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Status> {
    let answered = call_as(channel, path, None, messages).await;
    answered.end.map_or(Ok(answered.messages), Err)
}

/// What came back of a call.
#[derive(Default)]
pub(crate) struct Answered {
    pub(crate) messages: Vec<Vec<u8>>,
    /// The headers, and the trailers of a call that went well.
    pub(crate) metadata: Vec<MetadataMap>,
    /// The error that ended it.
    pub(crate) end: Option<Status>,
}

/// The same with an authorization header, and with all that came back.
pub(crate) async fn call_as(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    messages: Vec<Vec<u8>>,
) -> Answered {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    let mut request = Request::new(tokio_stream::iter(messages));
    if let Some(authorization) = authorization {
        let value = authorization.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut answered = Answered::default();
    answered.end = received(&mut grpc, request, path, &mut answered).await.err();
    answered
}

async fn received(
    grpc: &mut Grpc<Channel>,
    request: Request<impl Stream<Item = Vec<u8>> + Send + 'static>,
    path: PathAndQuery,
    answered: &mut Answered,
) -> Result<(), Status> {
    let (headers, mut stream, _) = grpc.streaming(request, path, Bytes).await?.into_parts();
    answered.metadata.push(headers);
    while let Some(message) = stream.message().await? {
        answered.messages.push(message);
    }
    answered.metadata.extend(stream.trailers().await?);
    Ok(())
}

/// The first answer of a call with one message and an authorization header; those after it are not waited for.
pub(crate) async fn first_answer(
    channel: &Channel,
    path: &str,
    authorization: Option<&str>,
    message: Vec<u8>,
) -> Result<Option<Vec<u8>>, Status> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready()
        .await
        .map_err(|error| Status::unknown(format!("no connection: {error}")))?;
    let path: PathAndQuery = path.parse().unwrap();
    let mut request = Request::new(tokio_stream::once(message));
    if let Some(authorization) = authorization {
        let value = authorization.parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    let mut stream = grpc.streaming(request, path, Bytes).await?.into_inner();
    stream.message().await
}

/// What an error says besides its message.
pub(crate) struct Told {
    pub(crate) fields: Vec<String>,
    pub(crate) metadata: HashMap<String, String>,
}

/// Checks what every error must have: the code, an `ErrorInfo` with a documented reason, and a `BadRequest` where the
/// request is malformed.
pub(crate) fn assert_refused(status: &Status, code: Code, reason: &str) -> Told {
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.check_error_details().unwrap();
    let info = details
        .error_info()
        .unwrap_or_else(|| panic!("an error without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "affiliate-billing");
    assert_eq!(info.reason, reason, "{status:?}");
    assert!(documented_reasons().contains(&info.reason), "undocumented: {reason}");
    assert!(!status.message().is_empty());
    let begins_upper = status.message().starts_with(char::is_uppercase);
    assert!(!begins_upper, "not in lower case: {}", status.message());
    let fields = details.bad_request().map_or(Vec::new(), |bad| {
        let violations = bad.field_violations.iter();
        violations.map(|violation| violation.field.clone()).collect()
    });
    assert_eq!(
        code == Code::InvalidArgument && reason != "MALFORMED_MESSAGE",
        details.bad_request().is_some(),
        "BadRequest belongs to malformed requests: {status:?}"
    );
    assert_eq!(
        code == Code::Unavailable,
        details.retry_info().is_some(),
        "RetryInfo belongs to UNAVAILABLE: {status:?}"
    );
    assert_eq!(
        code == Code::FailedPrecondition,
        details.precondition_failure().is_some(),
        "PreconditionFailure belongs to FAILED_PRECONDITION: {status:?}"
    );
    Told {
        fields,
        metadata: info.metadata.clone(),
    }
}

/// The reasons of `error_reason.proto` without their prefix.
fn documented_reasons() -> Vec<String> {
    let mut enums = descriptors().file.iter().flat_map(|file| &file.enum_type);
    let reasons = enums.find(|each| each.name() == "ErrorReason").unwrap();
    let names = reasons.value.iter().filter(|value| value.number() != 0);
    names
        .map(|value| value.name().strip_prefix(REASON_PREFIX).unwrap().to_owned())
        .collect()
}

/// Messages as their bytes.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let length = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(length).to_vec()))
    }
}
