//! The codec of all services: prost's, but a request with too many items is refused before it is decoded.
//!
//! An item that is empty is two bytes on the wire and some hundred in memory: without this, one message of 4 MiB would take a
//! gigabyte, before anything could count its items.

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::bytes::Buf as _;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost::{DecodeError, Message, Name};
use prost_types::FileDescriptorSet;
use prost_types::field_descriptor_proto::{Label, Type};
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic::{Code, Status};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

use super::status::plain;
use crate::proto;

/// Items in one request, in all its lists and maps together: more than any request that is taken has.
pub const MAX_ITEMS: usize = 64 * 1024;
/// Messages inside messages: far more than the protos have, so that a recursive one would not exhaust the stack.
const MAX_DEPTH: usize = 32;

/// See the module. Named in `build.rs`.
#[derive(Debug)]
pub(crate) struct CountingCodec<T, U>(ProstCodec<T, U>);

impl<T, U> Default for CountingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for CountingCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Name + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = CountingDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        CountingDecoder(self.0.decoder())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct CountingDecoder<U>(ProstDecoder<U>);

impl<U: Message + Default + Name> Decoder for CountingDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        // Answers, which clients decode, are not limited.
        if U::NAME.ends_with("Request") && !within_limit::<U>(buffer.chunk()) {
            return Err(too_many_items());
        }
        self.0.decode(buffer)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

fn too_many_items() -> Status {
    plain(
        Code::ResourceExhausted,
        proto::ErrorReason::MessageTooLarge,
        "the message has more than the 65536 items, in all its lists together, that the server takes: send fewer at once",
    )
}

/// What can't be read is prost's to refuse.
pub(crate) fn within_limit<U: Name>(message: &[u8]) -> bool {
    let mut left = MAX_ITEMS;
    let name = format!(".{}", U::full_name());
    !matches!(count(message, &name, MAX_DEPTH, &mut left), Err(Stop::TooMany))
}

/// Why counting ended before the message did.
enum Stop {
    TooMany,
    Malformed,
}

impl From<DecodeError> for Stop {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

fn count(mut message: &[u8], name: &str, depth: usize, left: &mut usize) -> Result<(), Stop> {
    // What is no message of the package has no lists: timestamps and the like.
    let (Some(fields), Some(depth)) = (LISTS.get(name), depth.checked_sub(1)) else {
        return Ok(());
    };
    while message.has_remaining() {
        let (number, wire_type) = decode_key(&mut message)?;
        let Some(field) = fields.get(&number) else {
            skip_field(wire_type, number, &mut message, DecodeContext::default())?;
            continue;
        };
        if field.is_list {
            *left = left.checked_sub(1).ok_or(Stop::TooMany)?;
        }
        if wire_type != WireType::LengthDelimited {
            skip_field(wire_type, number, &mut message, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut message)?).map_err(|_error| Stop::Malformed)?;
        let (value, rest) = message.split_at_checked(length).ok_or(Stop::Malformed)?;
        message = rest;
        match &field.content {
            Content::Message(inner) => count(value, inner, depth, left)?,
            // A packed list has at least one byte for each number.
            Content::Numbers => *left = left.checked_sub(length).ok_or(Stop::TooMany)?,
            Content::Text => {}
        }
    }
    Ok(())
}

/// A field that is a list, or a message that may have some.
struct Field {
    is_list: bool,
    content: Content,
}

enum Content {
    Message(String),
    Numbers,
    Text,
}

/// Of each message of the package, by its full name, what must be counted or looked into.
static LISTS: LazyLock<HashMap<String, HashMap<u32, Field>>> = LazyLock::new(|| {
    let mut lists = HashMap::new();
    // It is made by the build; a test sees that it can be read.
    let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap_or_default();
    for file in &set.file {
        for message in &file.message_type {
            let name = format!(".{}.{}", file.package(), message.name());
            lists.insert(name, fields_of(message));
        }
    }
    lists
});

fn fields_of(message: &prost_types::DescriptorProto) -> HashMap<u32, Field> {
    let mut fields = HashMap::new();
    for field in &message.field {
        let is_list = field.label() == Label::Repeated;
        let content = match (field.r#type(), is_list) {
            (Type::Message, _) => Content::Message(field.type_name().to_owned()),
            (Type::String | Type::Bytes, true) => Content::Text,
            (_, true) => Content::Numbers,
            (_, false) => continue,
        };
        if let Ok(number) = u32::try_from(field.number()) {
            fields.insert(number, Field { is_list, content });
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(count: usize) -> Vec<u8> {
        proto::PostEntriesRequest {
            entries: vec![proto::Entry::default(); count],
            ..Default::default()
        }
        .encode_to_vec()
    }

    #[test]
    fn items_are_counted_where_they_stand() {
        assert!(within_limit::<proto::PostEntriesRequest>(&entries(MAX_ITEMS)));
        assert!(!within_limit::<proto::PostEntriesRequest>(&entries(MAX_ITEMS + 1)));
        // Deeper: the fields of a payment method type, which the request holds.
        let inner = proto::PaymentMethodType {
            fields: vec![proto::PaymentMethodField::default(); MAX_ITEMS + 1],
            ..Default::default()
        };
        let request = proto::CreatePaymentMethodTypeRequest {
            payment_method_type: Some(inner),
            ..Default::default()
        };
        assert!(!within_limit::<proto::CreatePaymentMethodTypeRequest>(
            &request.encode_to_vec()
        ));
        // Strings, and the same field of another message is none.
        let filter = proto::BalanceFilter {
            account_ids: vec![String::new(); MAX_ITEMS + 1],
            ..Default::default()
        };
        let request = proto::ListOpenBalancesRequest {
            filter: Some(filter),
            ..Default::default()
        };
        assert!(!within_limit::<proto::ListOpenBalancesRequest>(
            &request.encode_to_vec()
        ));
        assert!(within_limit::<proto::GetSettlementRequest>(&entries(MAX_ITEMS + 1)));
    }

    #[test]
    fn what_cannot_be_read_is_left_to_the_decoder() {
        let whole = entries(10);
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            assert!(within_limit::<proto::PostEntriesRequest>(cut));
        }
    }
}
