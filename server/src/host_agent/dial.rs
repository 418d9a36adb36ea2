//! Reaching the master: TCP, TLS, and one HTTP request over it.
//!
//! Every wait has a limit. Must not know what is asked.

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::body::Body;
use hyper::{Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use kvm_compose::error::{Code, Problem};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::cluster::pki::MASTER_NAME;

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(4);
/// How long TLS, and then an answer, may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// `host:port` of a master's URL.
pub fn authority_of(url: &str) -> Result<String, Problem> {
    let wrong = || {
        Problem::new(Code::BadRequest, format!("`{}` is not a master's URL", kvm_compose::names::printable(url)))
            .hint("it looks like https://10.0.0.1:3356; `testbed cluster token` prints it on the master")
    };
    let authority = url.trim().strip_prefix("https://").map(|rest| rest.trim_end_matches('/')).ok_or_else(wrong)?;
    let (host, port) = authority.rsplit_once(':').ok_or_else(wrong)?;
    let good = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-[]:".contains(&byte));
    if good && port.parse::<u16>().is_ok_and(|port| port > 0) { Ok(authority.to_string()) } else { Err(wrong()) }
}

/// The master cannot be reached, because of `why`.
pub fn unreachable(master: &str, why: impl std::fmt::Display) -> Problem {
    Problem::new(Code::Unavailable, format!("the master at {master} cannot be reached"))
        .cause(why)
        .hint("does it run with --cluster-listen, and does a firewall let its port through?")
}

/// A connection to the master, and the address that this machine has on it.
pub async fn connect(master: &str, tls: Arc<ClientConfig>) -> Result<(TlsStream<TcpStream>, IpAddr), Problem> {
    let failed = |error: std::io::Error| unreachable(master, error);
    let late = |limit: Duration| unreachable(master, format!("no answer within {} s", limit.as_secs()));
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(master)).await.map_err(|_| late(CONNECT_LIMIT))?.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let address = stream.local_addr().map_err(failed)?.ip();
    let name = ServerName::try_from(MASTER_NAME).map_err(|error| Problem::internal(error.to_string()))?;
    let tls = timeout(ANSWER_LIMIT, TlsConnector::from(tls).connect(name, stream)).await.map_err(|_| late(ANSWER_LIMIT))?;
    Ok((tls.map_err(failed)?, address))
}

/// One request, one answer. Also tells the address that this machine has on the connection.
pub async fn ask(master: &str, tls: Arc<ClientConfig>, request: Request<Body>) -> Result<(Response<Incoming>, IpAddr), Problem> {
    let (stream, address) = connect(master, tls).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| unreachable(master, error))?;
    // It ends with the answer's body; what goes wrong in it is seen there.
    tokio::spawn(connection);
    let answered = timeout(ANSWER_LIMIT, sender.send_request(request)).await;
    let answer = answered.map_err(|_| unreachable(master, format!("no answer within {} s", ANSWER_LIMIT.as_secs())))?;
    Ok((answer.map_err(|error| unreachable(master, error))?, address))
}

/// A request to the master.
pub fn request(method: &str, path: &str, body: Body) -> Result<Request<Body>, Problem> {
    let built =
        Request::builder().method(method).uri(path).header("host", MASTER_NAME).header("content-type", "application/json").body(body);
    built.map_err(|error| Problem::internal("a request cannot be made").cause(error))
}

/// A body, whole.
pub async fn whole(body: Incoming, largest: usize) -> Result<Vec<u8>, Problem> {
    let read = timeout(ANSWER_LIMIT, axum::body::to_bytes(Body::new(body), largest)).await;
    let bytes = read.map_err(|_| Problem::new(Code::Unavailable, "the master's answer does not end"))?;
    Ok(bytes.map_err(|error| Problem::new(Code::Unavailable, "the master's answer broke off").cause(error))?.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_masters_url_has_a_host_and_a_port() {
        assert_eq!(authority_of("https://10.0.0.1:3356/").as_deref(), Ok("10.0.0.1:3356"));
        assert_eq!(authority_of("https://[fd00::1]:3356").as_deref(), Ok("[fd00::1]:3356"));
        for url in [
            "http://10.0.0.1:3356",
            "https://10.0.0.1",
            "10.0.0.1:3356",
            "https://:1",
            "https://a b:1",
            "https://a:0",
            "https://a:99999",
            "",
        ] {
            assert_eq!(authority_of(url).expect_err(url).code, Code::BadRequest);
        }
    }
}
