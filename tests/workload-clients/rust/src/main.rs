//! A workload that uses the crates `spiffe` and `spiffe-rustls`: SOCKET UID once | serve PEER | dial PEER ADDRESS. Prints
//! what it receives, a line of JSON each.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Gid, Uid};
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use spiffe::{TrustDomain, WorkloadApiClient, X509Source, X509SourceBuilder};
use spiffe_rustls::{authorizer, mtls_client, mtls_server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

type Outcome<T> = Result<T, Box<dyn Error>>;

const TIMEOUT: Duration = Duration::from_secs(180);

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let said = match tokio::time::timeout(TIMEOUT, run(&arguments)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => failure(&*error),
        Err(error) => failure(&error),
    };
    println!("{said}");
}

async fn run(arguments: &[String]) -> Outcome<Value> {
    let [socket, uid, mode, rest @ ..] = arguments else { return Err("too few arguments".into()) };
    let endpoint = format!("unix://{socket}");
    become_user(uid.parse()?)?;
    match (mode.as_str(), rest) {
        ("once", []) => once(&endpoint).await,
        ("serve", [peer]) => serve(source(&endpoint).await?, peer).await,
        ("dial", [peer, address]) => dial(source(&endpoint).await?, peer, address).await,
        _ => Err("unknown arguments".into()),
    }
}

/// The only thread is this one.
fn become_user(id: u32) -> Outcome<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(Gid::from_raw(id))?;
    rustix::thread::set_thread_uid(Uid::from_raw(id))?;
    Ok(())
}

async fn source(endpoint: &str) -> Outcome<X509Source> {
    Ok(X509SourceBuilder::new().endpoint(endpoint).build().await?)
}

/// Fetches each kind of identity, and verifies the JWT with the bundle of the agent and by the agent.
async fn once(endpoint: &str) -> Outcome<Value> {
    let client = WorkloadApiClient::connect_to(endpoint).await?;
    let svids = client.fetch_all_x509_svids().await?;
    let svid = svids.first().ok_or("no SVID")?;
    let jwt = client.fetch_jwt_svid(["x", "y"], None).await?;
    let bundles = client.fetch_jwt_bundles().await?;
    let verified = spiffe::JwtSvid::parse_and_validate(jwt.token(), &bundles, &["y"])?;
    let validated = client.validate_jwt_token("x", jwt.token()).await?;
    if client.validate_jwt_token("z", jwt.token()).await.is_ok() {
        return Err("valid for another audience".into());
    }
    let domain = TrustDomain::try_from(svid.spiffe_id().trust_domain_name())?;
    let bundle = client.fetch_x509_bundles().await?;
    let bundle = bundle.get(&domain).ok_or("no bundle of the own trust domain")?;
    let ids = [svid.spiffe_id(), verified.spiffe_id(), validated.spiffe_id()];
    Ok(json!({
        "ids": ids.map(ToString::to_string),
        "hint": svid.hint(),
        "svids": svids.len(),
        "cas": bundle.authorities().len(),
        "audiences": jwt.audience(),
    }))
}

/// Answers the clients with this SPIFFE ID, and says who was refused.
async fn serve(source: X509Source, peer: &str) -> Outcome<Value> {
    let config = mtls_server(source).authorize(authorizer::exact([peer])?).build()?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({"address": listener.local_addr()?.to_string()}));
    loop {
        let (stream, _) = listener.accept().await?;
        match answer(&acceptor, stream).await {
            Ok(()) => println!("{}", json!({"peer": peer})),
            Err(error) => println!("{}", failure(&*error)),
        }
    }
}

async fn answer(acceptor: &TlsAcceptor, stream: TcpStream) -> Outcome<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut greeting = [0; 6];
    stream.read_exact(&mut greeting).await?;
    stream.write_all(&greeting).await?;
    stream.shutdown().await?;
    Ok(())
}

/// Greets the server with this SPIFFE ID, and waits until it has accepted this workload.
async fn dial(source: X509Source, peer: &str, address: &str) -> Outcome<Value> {
    let config = mtls_client(source).authorize(authorizer::exact([peer])?).build()?;
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("workload.test")?;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"hello\n").await?;
    let mut greeting = [0; 6];
    stream.read_exact(&mut greeting).await?;
    Ok(json!({"peer": peer}))
}

fn failure(error: &dyn Error) -> Value {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    json!({"error": text})
}
