//! The operator's end of the admin socket.

use std::io;
use std::path::Path;
use std::time::Duration;

use host::exit::{Exit, Failure};
use host::unix_socket;
use hyper_util::rt::TokioIo;
use proto::v1::admin_service_client::AdminServiceClient;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::cli::DataDir;
use crate::data_directory::DataDirectory;
use crate::wire::status::{Answer, answer};

/// A listing comes in several answers, but a token may have a rule for each of many hosts.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How long the authority may take to answer.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The operator's side of a connection.
pub(super) type Operator = AdminServiceClient<Channel>;

/// Connects to the authority of this data directory.
pub(super) async fn connect(data: &DataDir) -> Result<Operator, Failure> {
    let path = DataDirectory::new(&data.data_dir).socket();
    let stream = unix_socket::connect(&path).await.map_err(|cause| absent(&path, &cause))?;
    client(stream, REQUEST_TIMEOUT).await
}

async fn client(stream: UnixStream, timeout: Duration) -> Result<Operator, Failure> {
    let mut stream = Some(TokioIo::new(stream));
    // The connection exists already; the address is not used.
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        async move { stream }
    });
    let endpoint = Endpoint::from_static("http://authority").timeout(timeout);
    let channel = endpoint.connect_with_connector(connector).await;
    let channel = channel.map_err(|cause| no_answer(&cause.to_string()))?;
    Ok(AdminServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER))
}

fn absent(socket: &Path, cause: &io::Error) -> Failure {
    let what = format!("no authority at {}: {cause}", socket.display());
    match cause.kind() {
        io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::Permission, what, "run as the authority's user, or as root")
        }
        _ => Failure::new(
            Exit::Unavailable,
            what,
            "check that `authority start` runs, and give its --data-dir (or AUTHORITY_DATA_DIR)",
        ),
    }
}

fn no_answer(cause: &str) -> Failure {
    Failure::new(
        Exit::Unavailable,
        format!("the authority does not respond: {cause}"),
        "check its log; only root and the authority's user can use the socket",
    )
}

/// What the authority's refusal means for the caller.
pub(super) fn refused(status: &Status) -> Failure {
    let message = status.message();
    match answer(status) {
        Answer::Exists => {
            Failure::new(Exit::Refused, message, "add -f to replace it; nothing was changed")
        }
        Answer::NotFound => {
            Failure::new(Exit::Refused, message, "run `authority get KIND` to list what exists")
        }
        Answer::Changed => {
            Failure::new(Exit::Refused, message, "run the command again; nothing was changed")
        }
        Answer::Invalid => Failure::new(Exit::Data, message, "correct it; nothing was changed"),
        Answer::Failed => {
            Failure::new(Exit::Io, message, "check the authority's log; nothing was changed")
        }
        Answer::Unavailable => no_answer(message),
    }
}

#[cfg(test)]
mod tests {
    use proto::v1::StatusRequest;
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn command_times_out_if_the_authority_does_not_accept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("admin.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let stream = UnixStream::connect(&path).await.unwrap();
        let mut authority = client(stream, Duration::from_millis(1)).await.unwrap();
        let status = authority.status(StatusRequest {}).await.unwrap_err();
        assert_eq!(refused(&status).exit, Exit::Unavailable, "{status}");
    }
}
