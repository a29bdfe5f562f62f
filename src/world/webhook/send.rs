//! One delivery: a connection to an address that was checked, one request, and as much of the answer as is needed.
//!
//! Each delivery has a connection of its own. So the address is checked every time, a delivery never
//! meets a connection that its endpoint has given up meanwhile, and nothing is left when it is dropped.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::{Host, Url};

use super::address::{Allowed, Refused};
use super::answer::{Answer, Attempt, excerpt, retry_after};

/// How long the name may take, and how long the connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long it may take to the answer's status (the spec recommends 15 to 30 s).
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How long the body may take once the status is known, which alone decides.
const BODY_MAX: Duration = Duration::from_secs(2);
/// Bytes of a body that are read.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Addresses of a name that are tried.
const ADDRESSES_MAX: usize = 4;

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `webhook-id`.
    pub id: String,
    /// `webhook-timestamp`, in seconds since 1970.
    pub timestamp_s: i64,
    /// `webhook-signature`.
    pub signature: String,
    /// The body's type.
    pub content_type: &'static str,
    /// The body: JSON.
    pub body: Vec<u8>,
}

/// Sends; one for all endpoints, and they share nothing that one of them could hold.
pub struct Sender {
    allowed: Allowed,
    tls: TlsConnector,
}

impl Sender {
    /// Trusts whom the system trusts, and also the authorities in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no certificate.
    pub fn new(allowed: Allowed, ca: Option<&Path>) -> Result<Self, String> {
        Ok(Self { allowed, tls: TlsConnector::from(Arc::new(trust(ca)?)) })
    }

    /// Where webhooks may go.
    #[must_use]
    pub fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    /// Delivers once. Never longer than about [`ANSWER_MAX`] and [`BODY_MAX`] together.
    pub async fn send(&self, url: &str, message: Message) -> Attempt {
        let started = Instant::now();
        let result = self.deliver(url, message).await;
        Attempt { took: started.elapsed(), result }
    }

    async fn deliver(&self, url: &str, message: Message) -> Result<Answer, String> {
        let late = || format!("nothing was answered within {} s", ANSWER_MAX.as_secs());
        let url = self.allowed.check_url(url).map_err(|refused| refused.to_string())?;
        let request = request(&url, message)?;
        let exchange = async {
            let stream = self.connect(&url).await?;
            if url.scheme() != "https" {
                return exchange(stream, request).await;
            }
            let name = server_name(&url)?;
            let stream = self.tls.connect(name, stream).await.map_err(|e| tls_failed(&e))?;
            exchange(stream, request).await
        };
        // the body has a time of its own inside: a status that came in time counts
        timeout(ANSWER_MAX + BODY_MAX, exchange).await.unwrap_or_else(|_| Err(late()))
    }

    /// Connects to an address of the URL's host, and to no other than one that was checked here.
    async fn connect(&self, url: &Url) -> Result<TcpStream, String> {
        let addresses = self.addresses(url).await?;
        let deadline = Instant::now() + CONNECT_MAX;
        let mut why = String::new();
        for (tried, address) in addresses.iter().enumerate() {
            let left = u32::try_from(addresses.len() - tried).unwrap_or(1);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            why = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _ = stream.set_nodelay(true); // slower without, not wrong
                    return Ok(stream);
                }
                Ok(Err(e)) => format!("{address}: {}", system_words(&e)),
                Err(_) => format!("{address} did not take the connection within {} s", CONNECT_MAX.as_secs()),
            };
        }
        Err(why)
    }

    /// The addresses that may be connected to, of all that the host has.
    async fn addresses(&self, url: &Url) -> Result<Vec<SocketAddr>, String> {
        let encrypted = url.scheme() == "https";
        let port = url.port_or_known_default().unwrap_or(443);
        let name = match url.host() {
            Some(Host::Ipv4(address)) => return Ok(vec![(IpAddr::from(address), port).into()]), // checked with the URL
            Some(Host::Ipv6(address)) => return Ok(vec![(IpAddr::from(address), port).into()]),
            Some(Host::Domain(name)) => name,
            None => return Err("the URL names no host".into()),
        };
        let found = timeout(CONNECT_MAX, lookup_host((name, port))).await;
        let found = found.map_err(|_| format!("the name {name} was not resolved within {} s", CONNECT_MAX.as_secs()))?;
        let found: Vec<_> = found.map_err(|e| format!("the name {name} has no address: {}", system_words(&e)))?.collect();
        let mut refused: Option<Refused> = None;
        let mut usable = Vec::new();
        for address in found {
            match self.allowed.check(address.ip(), encrypted) {
                Ok(()) if usable.len() < ADDRESSES_MAX => usable.push(address),
                Ok(()) => {}
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        match (usable.is_empty(), refused) {
            (false, _) => Ok(usable),
            (true, Some(why)) => Err(format!("{name}: {why}")),
            (true, None) => Err(format!("the name {name} has no address")),
        }
    }
}

/// The request with its headers; its target is the path alone, since it goes to the endpoint itself.
fn request(url: &Url, message: Message) -> Result<Request<Full<Bytes>>, String> {
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => return Err("the URL names no host".into()),
    };
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::post(target)
        .header("host", host)
        .header("user-agent", concat!("annals/", env!("CARGO_PKG_VERSION")))
        .header("content-type", message.content_type)
        .header("accept", "*/*")
        .header("accept-encoding", "identity")
        .header("connection", "close")
        .header("webhook-id", message.id)
        .header("webhook-timestamp", message.timestamp_s)
        .header("webhook-signature", message.signature);
    request.body(Full::new(message.body.into())).map_err(|e| format!("the request cannot be made: {e}"))
}

fn server_name(url: &Url) -> Result<ServerName<'static>, String> {
    let unusable = |e: &dyn std::fmt::Display| format!("no certificate can be for the URL's host: {e}");
    match url.host() {
        Some(Host::Domain(name)) => ServerName::try_from(name.to_owned()).map_err(|e| unusable(&e)),
        Some(Host::Ipv4(address)) => Ok(ServerName::from(IpAddr::from(address))),
        Some(Host::Ipv6(address)) => Ok(ServerName::from(IpAddr::from(address))),
        None => Err(unusable(&"there is none")),
    }
}

/// Sends the request and reads the answer. The connection is driven here and nowhere else, so that
/// it ends with this future.
async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Answer, String>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let mut builder = http1::Builder::new();
    builder.max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|e| chain(&e))?;
    let answer = async {
        let response = timeout(ANSWER_MAX, sender.send_request(request)).await;
        let response = response.map_err(|_| format!("nothing was answered within {} s", ANSWER_MAX.as_secs()))?;
        Ok(read(response.map_err(|e| chain(&e))?).await)
    };
    alongside(connection, answer).await
}

/// Drives one future while another one needs it; what the first one ends with does not matter.
async fn alongside<T>(drive: impl Future, wanted: impl Future<Output = T>) -> T {
    let (mut drive, mut wanted) = (pin!(drive), pin!(wanted));
    tokio::select! {
        biased;
        done = &mut wanted => return done,
        _ = &mut drive => {}
    }
    wanted.await
}

/// Reads status and headers, and the body as far as it goes in its time; then the connection is dropped.
async fn read(response: Response<Incoming>) -> Answer {
    let header = |name: &str| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let media_type = header("content-type").unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let answer = Answer {
        status: response.status().as_u16(),
        retry_after: header("retry-after").and_then(|text| retry_after(&text, SystemTime::now())),
        location: header("location").map(|text| excerpt(text.as_bytes(), "")),
        media_type,
        excerpt: String::new(),
    };
    let (mut body, mut bytes) = (response.into_body(), Vec::new());
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let data = frame.into_data().unwrap_or_default();
            bytes.extend_from_slice(&data[..data.len().min(BODY_BYTES_MAX - bytes.len())]);
            if bytes.len() >= BODY_BYTES_MAX {
                return;
            }
        }
    };
    let _ = timeout(BODY_MAX, reading).await; // one that does not end is cut
    let excerpt = excerpt(&bytes, &answer.media_type);
    Answer { excerpt, ..answer }
}

/// An error with its causes, each once.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.downcast_ref::<io::Error>().map_or_else(|| error.to_string(), system_words);
        if !text.contains(&words) {
            text += &format!(": {words}");
        }
        cause = error.source();
    }
    text
}

/// `connection refused`, not `Connection refused (os error 111)`.
fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}

/// TLS that trusts whom the system trusts, and also the authorities in a file.
///
/// # Errors
/// If the file cannot be read, or holds no certificate.
pub fn trust(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    let (found, _) = roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca {
        let unreadable = |e: &dyn std::fmt::Display| format!("{} cannot be read as PEM certificates: {e}", path.display());
        let certificates = CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))?;
        let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(|e| unreadable(&e))?;
        if certificates.is_empty() {
            return Err(unreadable(&"there is none in it"));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|e| unreadable(&e))?;
        }
    } else if found == 0 {
        tracing::warn!("the system names no certificate authorities: nothing can be told over https:// without a file of them");
    }
    let provider = Arc::new(crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(versions.map_err(|e| e.to_string())?.with_root_certificates(roots).with_no_client_auth())
}

fn tls_failed(error: &io::Error) -> String {
    let words = system_words(error);
    let remedy =
        if words.contains("UnknownIssuer") { "; `serve --webhook-ca` (ANNALS_WEBHOOK_CA) names an authority of your own" } else { "" };
    format!("TLS: {words}{remedy}")
}

#[cfg(test)]
mod tests;
