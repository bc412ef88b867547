//! What is between the authorities and their database: a relay that can hold back each message of theirs, which makes a database
//! that is slow rather than dead, or cut all connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::sleep;

pub(crate) struct Link {
    pub(crate) address: SocketAddr,
    delay: watch::Sender<Duration>,
}

impl Link {
    /// A relay to this port of the machine.
    pub(crate) async fn to(port: u16) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (delay, delays) = watch::channel(Duration::ZERO);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { continue };
                let _ = client.set_nodelay(true);
                let _ = server.set_nodelay(true);
                let ((ask, answer), (said, asked)) = (client.into_split(), server.into_split());
                tokio::spawn(relay(ask, asked, delays.clone()));
                let (_, never) = watch::channel(Duration::ZERO);
                tokio::spawn(relay(said, answer, never));
            }
        });
        Ok(Self { address, delay })
    }

    /// Holds back each message to the database for so long.
    pub(crate) fn delay(&self, by: Duration) {
        self.delay.send_replace(by);
    }
}

/// A statement waits for the answer to the one before, so that what is read at once is one message.
async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, delay: watch::Receiver<Duration>) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(len @ 1..) = from.read(&mut bytes).await {
        let delay = *delay.borrow();
        sleep(delay).await;
        if to.write_all(&bytes[..len]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
