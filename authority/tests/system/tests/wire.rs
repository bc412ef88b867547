//! The host's end of the wire, at the level of bytes: it can also say what no agent would.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use proto::v1::join_request::Step;
use proto::v1::join_response::Step as Reply;
use proto::v1::{
    IssuedCredentials, JoinAnswer, JoinChallenge, JoinInit, JoinRequest, JoinResponse,
};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

/// More than any test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and what it exports.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) channel: Channel,
    pub(crate) exporter: [u8; 32],
}

impl Wire {
    pub(crate) async fn connect(
        address: std::net::SocketAddr,
        config: Arc<rustls::ClientConfig>,
    ) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(config);
        let stream = connector.connect(tls::authority_name(), stream).await.unwrap();
        let exporter = tls::join_exporter(stream.get_ref().1).unwrap();
        let mut stream = Some(TokioIo::new(stream));
        let connector = tower::service_fn(move |_| {
            let stream = stream.take().ok_or(std::io::ErrorKind::NotConnected);
            async move { stream.map_err(std::io::Error::from) }
        });
        let endpoint = Endpoint::from_static("http://authority");
        Self { channel: endpoint.connect_with_connector(connector).await.unwrap(), exporter }
    }

    /// Begins a join.
    pub(crate) async fn join(&self) -> Join {
        let (requests, stream) = mpsc::channel::<Vec<u8>>(8);
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.unwrap();
        let path = "/endorse.v1.JoinService/Join".parse().unwrap();
        let request = tonic::Request::new(ReceiverStream::new(stream));
        let replies = client.streaming(request, path, Bytes).await.unwrap().into_inner();
        Join { requests: Some(requests), replies }
    }
}

/// A join under way.
pub(crate) struct Join {
    requests: Option<mpsc::Sender<Vec<u8>>>,
    replies: Streaming<JoinResponse>,
}

impl Join {
    pub(crate) async fn send(&self, bytes: Vec<u8>) {
        // The authority may have ended the call already.
        let _ = self.requests.as_ref().unwrap().send(bytes).await;
    }

    pub(crate) async fn init(&self, init: &JoinInit) -> Vec<u8> {
        let bytes = init.encode_to_vec();
        self.send(JoinRequest { step: Some(Step::Init(bytes.clone())) }.encode_to_vec()).await;
        bytes
    }

    pub(crate) async fn answer(&self, answer: JoinAnswer) {
        self.send(JoinRequest { step: Some(Step::Answer(answer)) }.encode_to_vec()).await;
    }

    /// Ends the requests, as a client that has nothing more to say.
    pub(crate) fn finish(&mut self) {
        self.requests = None;
    }

    pub(crate) async fn reply(&mut self) -> Result<Reply, Status> {
        let reply = tokio::time::timeout(PATIENCE, self.replies.message()).await.unwrap()?;
        Ok(reply.expect("a reply").step.expect("a step"))
    }

    pub(crate) async fn challenge(&mut self) -> JoinChallenge {
        match self.reply().await.unwrap() {
            Reply::Challenge(challenge) => challenge,
            Reply::Result(_) => panic!("a result instead of a challenge"),
        }
    }

    pub(crate) async fn result(&mut self) -> IssuedCredentials {
        match self.reply().await.unwrap() {
            Reply::Result(result) => result,
            Reply::Challenge(_) => panic!("another challenge"),
        }
    }
}

/// Requests are bytes as they are, replies are read.
#[derive(Clone, Copy)]
pub(crate) struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = JoinResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        use prost::bytes::BufMut;
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = JoinResponse;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<JoinResponse>, Status> {
        JoinResponse::decode(buffer).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}
