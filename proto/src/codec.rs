//! Messages of streams that wait.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Bytes that a buffer is made with; it grows with its messages.
const BUFFER: usize = 256;

/// Messages that wait for each other are sent together up to this many bytes.
const YIELD_THRESHOLD: usize = 32 * 1024;

/// The codec of prost with buffers as large as their messages. Those that it has otherwise are of 8 KiB, which a stream keeps for
/// as long as it waits for its next message.
#[derive(Debug)]
pub struct SmallBuffers<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for SmallBuffers<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + 'static, U: Message + Default + 'static> Codec for SmallBuffers<T, U> {
    type Encode = T;
    type Decode = U;
    type Encoder = Exact<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        Exact(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFER, YIELD_THRESHOLD))
    }
}

/// Encodes a message into a buffer of its length.
#[derive(Debug)]
pub struct Exact<T>(PhantomData<T>);

impl<T: Message> Encoder for Exact<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, message: T, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.reserve(message.encoded_len());
        message.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(0, YIELD_THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::convert::Infallible;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use hyper::body::{Body, Bytes, Frame};
    use tonic::Code;
    use tonic::codec::{EncodeBody, Streaming};
    use tonic::codegen::tokio_stream;

    use super::*;
    use crate::spiffe::JwtsvidRequest as Request;

    /// Bytes before each message: whether it is compressed, and its length.
    const HEADER: usize = 5;

    type Small = SmallBuffers<Request, Request>;

    /// A message that is encoded to this many bytes: none, or at least 3.
    fn message(length: usize) -> Request {
        let texts = (0..length)
            .rev()
            .map(|text| Request { spiffe_id: "x".repeat(text), ..Request::default() });
        let mut messages = texts.chain([Request::default()]);
        messages.find(|message| message.encoded_len() == length).expect("a message of that length")
    }

    /// What a peer sends, in frames.
    struct Frames(VecDeque<Vec<u8>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|frame| Ok(Frame::data(frame.into()))))
        }
    }

    /// The output of a future that waits for nothing.
    fn now<T>(future: impl Future<Output = T>) -> T {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => output,
            Poll::Pending => panic!("it waits"),
        }
    }

    /// The frames in which messages are sent that are ready at once.
    fn sent(
        encoder: impl Encoder<Item = Request, Error = Status>,
        messages: &[Request],
        limit: Option<usize>,
    ) -> Result<Vec<Bytes>, Status> {
        let source = tokio_stream::iter(messages.iter().cloned().map(Ok));
        let mut body = pin!(EncodeBody::new_client(encoder, source, None, limit));
        let mut frames = Vec::new();
        while let Some(frame) = now(std::future::poll_fn(|cx| body.as_mut().poll_frame(cx))) {
            frames.extend(frame?.into_data());
        }
        Ok(frames)
    }

    fn bytes(messages: &[Request]) -> Vec<u8> {
        sent(Small::default().encoder(), messages, None).unwrap().concat()
    }

    /// The messages that are read from bytes which come in frames of this length.
    fn read(bytes: &[u8], frame: usize, limit: usize) -> Result<Vec<Request>, Status> {
        let frames = Frames(bytes.chunks(frame).map(<[u8]>::to_vec).collect());
        let decoder = Small::default().decoder();
        let mut stream = Streaming::new_request(decoder, frames, None, Some(limit));
        let mut messages = Vec::new();
        while let Some(message) = now(stream.message())? {
            messages.push(message);
        }
        Ok(messages)
    }

    /// Empty, about as long as the buffer, about as long as what is sent together, and much longer.
    fn messages() -> Vec<Request> {
        let lengths = [0, 3, BUFFER - HEADER, BUFFER, BUFFER + 1, YIELD_THRESHOLD, 100_000, 0];
        lengths.map(message).into()
    }

    #[test]
    fn messages_are_sent_as_by_the_codec_of_prost() {
        let mut prost = ProstCodec::<Request, Request>::default();
        let usual = sent(prost.encoder(), &messages(), None).unwrap().concat();
        assert!(bytes(&messages()) == usual);
    }

    #[test]
    fn messages_that_are_ready_are_sent_together_up_to_the_threshold() {
        let lengths = |messages: &[Request]| {
            let frames = sent(Small::default().encoder(), messages, None).unwrap();
            frames.iter().map(Bytes::len).collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[message(10), message(0), message(300)]), [3 * HEADER + 310]);
        let long = message(YIELD_THRESHOLD);
        let length = HEADER + YIELD_THRESHOLD;
        assert_eq!(lengths(&[long.clone(), long]), [length, length]);
    }

    #[test]
    fn messages_are_read_however_they_are_split_over_frames() {
        let bytes = bytes(&messages());
        for frame in [1, HEADER, BUFFER - 1, BUFFER, 16_384, bytes.len()] {
            assert!(read(&bytes, frame, 100_000).unwrap() == messages(), "frames of {frame} bytes");
        }
    }

    #[test]
    fn message_over_the_limit_is_refused_by_its_length() {
        let messages = [message(1000), message(1001)];
        let bytes = bytes(&messages);
        assert_eq!(read(&bytes, 64, 1001).unwrap(), messages);
        // Nothing but the length of the second has come.
        let begun = &bytes[..HEADER + 1000 + HEADER];
        assert_eq!(read(begun, 64, 1000).unwrap_err().code(), Code::OutOfRange);
        let refused = sent(Small::default().encoder(), &messages, Some(1000)).unwrap_err();
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    #[test]
    fn message_that_ends_too_soon_is_refused() {
        let bytes = bytes(&[message(1000)]);
        for length in [1, HEADER + 1, HEADER + 999] {
            let refused = read(&bytes[..length], 64, 1000).unwrap_err();
            assert_eq!(refused.code(), Code::Internal, "after {length} bytes");
        }
    }
}
