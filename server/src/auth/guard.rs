//! The check of every request, before any handler sees it.

use std::{net::IpAddr, time::Instant};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use kvm_compose::error::{Code, Problem};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{Access, Door, sessions::Sessions};
use crate::{app::App, error::Failure};

/// Paths that show no data and change nothing (the login aside): open to whoever reaches the door.
const OPEN: &[&str] = &["/", "/gui", "/api/health", "/api/docs", "/api/openapi.json", "/api/auth/login", "/gui/stamp"];

/// Style sheets and scripts of the pages, the login page included.
const OPEN_FOLDER: &str = "/assets/";

/// What a request is checked against.
pub struct Guard {
    token: String,
    cookie: String,
    /// Browsers that have logged in.
    pub sessions: Sessions,
}

impl Guard {
    /// A guard that knows the token.
    pub fn new(token: String) -> Self {
        // Cookies do not know ports: servers on one machine would log each other's browsers out if they shared a name.
        let digest = Sha256::digest(token.as_bytes());
        let cookie = digest.iter().take(4).fold(String::from("testbedos-"), |name, byte| format!("{name}{byte:02x}"));
        Guard { token, cookie, sessions: Sessions::default() }
    }

    /// Refuses a request that comes from a foreign page, or that shows too little for where it wants to go.
    pub fn check(&self, door: Door, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Access, Problem> {
        let host = host(uri, headers)?;
        if door == Door::Tcp && !host.is_some_and(is_local) {
            return Err(Problem::new(Code::Forbidden, "the `Host` of the request is not this machine")
                .hint("use http://127.0.0.1 or http://localhost with the server's port"));
        }
        let origin = headers.get(header::ORIGIN);
        if origin.is_some_and(|origin| !is_own_origin(origin, host, door)) {
            return Err(Problem::new(Code::Forbidden, "the request comes from a page of another site"));
        }
        if door == Door::Unix {
            return Ok(Access::Socket);
        }
        let is_open = OPEN.contains(&uri.path()) || uri.path().starts_with(OPEN_FOLDER);
        if headers.contains_key(header::AUTHORIZATION) {
            match self.check_token(headers) {
                Ok(()) => return Ok(Access::Token),
                Err(problem) if !is_open => return Err(problem),
                Err(_) => {}
            }
        }
        if let Some(secret) = self.session(headers) {
            // The browser sends the cookie by itself, so what changes something must come from a page of ours.
            if origin.is_none() && (!method.is_safe() || headers.contains_key(header::UPGRADE)) {
                return Err(Problem::new(Code::Forbidden, "a change that is asked for with a cookie must say from which page (`Origin`)"));
            }
            return Ok(Access::Session(secret));
        }
        if is_open { Ok(Access::Nothing) } else { self.check_token(headers).map(|()| Access::Token) }
    }

    /// The secret of the session whose cookie is shown.
    fn session(&self, headers: &HeaderMap) -> Option<String> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        let mut secrets = cookies.filter_map(|cookie| cookie.trim().split_once('=')).filter(|(name, _)| *name == self.cookie);
        let (_, secret) = secrets.find(|(_, secret)| self.sessions.is_open(secret, Instant::now()))?;
        Some(secret.to_string())
    }

    /// The header that gives a browser its session, or takes it away.
    pub fn cookie(&self, secret: Option<&str>) -> String {
        let age = if secret.is_some() { super::sessions::SESSION_LIFE.as_secs() } else { 0 };
        // Not `Secure`: TCP is plain HTTP on loopback.
        format!("{}={}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}", self.cookie, secret.unwrap_or_default())
    }

    /// True for the token, compared in constant time; that its length is told apart tells nothing, since it is public.
    pub fn is_token(&self, shown: &[u8]) -> bool {
        shown.ct_eq(self.token.as_bytes()).into()
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let shown = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let scheme = shown.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
        if scheme && self.is_token(&shown[7..]) {
            return Ok(());
        }
        let message = if shown.is_empty() { "no token was shown" } else { "the token is wrong" };
        Err(Problem::new(Code::Unauthorized, message).hint(
            "the token is in keys/api-token below the server's data folder: give it to `testbed` with `--token-file` or TESTBED_TOKEN, \
             send it as `Authorization: Bearer …`, or use the Unix socket; `testbed gui` opens the pages",
        ))
    }
}

/// The authority that the client believes to talk to. Two different ones in one request are refused.
fn host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<Option<&'a str>, Problem> {
    let refused = || Problem::new(Code::BadRequest, "the request's `Host` is not one host");
    let mut named = headers.get_all(header::HOST).iter();
    let in_header = named.next().map(|value| value.to_str().map_err(|_| refused())).transpose()?;
    let in_uri = uri.authority().map(|authority| authority.as_str());
    if named.next().is_some() || in_uri.is_some_and(|uri| in_header.is_some_and(|header| header != uri)) {
        return Err(refused());
    }
    Ok(in_uri.or(in_header))
}

/// The host of `host[:port]`, without the brackets of an IPv6 address.
fn without_port(authority: &str) -> Option<&str> {
    let (host, rest) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.find(':').map_or((authority, ""), |colon| authority.split_at(colon)),
    };
    let port = rest.strip_prefix(':').unwrap_or("0");
    let port_is_fine = rest.is_empty() || port.parse::<u16>().is_ok();
    port_is_fine.then_some(host)
}

fn is_local(authority: &str) -> bool {
    without_port(authority)
        .is_some_and(|host| host.eq_ignore_ascii_case("localhost") || host.parse().is_ok_and(|address: IpAddr| address.is_loopback()))
}

/// True for a page that this server itself served to this client.
fn is_own_origin(origin: &HeaderValue, host: Option<&str>, door: Door) -> bool {
    let authority = origin.to_str().ok().and_then(|text| text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")));
    let Some(authority) = authority else { return false };
    let same = host.is_some_and(|host| host.eq_ignore_ascii_case(authority));
    same && (door == Door::Unix || is_local(authority))
}

/// The guard as a layer.
pub async fn layer(State(app): State<App>, mut request: Request, next: Next) -> Response {
    // A request without a door was made in-process, which only tests do: it is treated as the strict one.
    let door = request.extensions().get::<Door>().copied().unwrap_or(Door::Tcp);
    match app.guard.check(door, request.method(), request.uri(), request.headers()) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(problem) => {
            let unauthorized = problem.code == Code::Unauthorized;
            let mut response = Failure(problem).into_response();
            if unauthorized {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"testbedos\""));
            }
            response
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = header::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
            headers.append(name, HeaderValue::from_str(value).expect("a header's value"));
        }
        headers
    }

    #[test]
    fn tcp_needs_the_token_a_local_host_and_no_foreign_origin() {
        let guard = Guard::new("tbed_secret".to_string());
        let uri = Uri::from_static("/api/version");
        let token = ("authorization", "Bearer tbed_secret");
        for (pairs, expected) in [
            (vec![("host", "127.0.0.1:3355"), token], None),
            (vec![("host", "localhost"), token], None),
            (vec![("host", "[::1]:80"), token], None),
            (vec![("host", "127.0.0.1:3355"), token, ("origin", "http://127.0.0.1:3355")], None),
            (vec![("host", "127.0.0.1:3355")], Some(Code::Unauthorized)),
            (vec![("host", "127.0.0.1:3355"), ("authorization", "Bearer wrong")], Some(Code::Unauthorized)),
            (vec![("host", "127.0.0.1:3355"), ("authorization", "Bearer ")], Some(Code::Unauthorized)),
            (vec![("host", "127.0.0.1:3355"), ("authorization", "tbed_secret")], Some(Code::Unauthorized)),
            (vec![("host", "evil.example:3355"), token], Some(Code::Forbidden)),
            (vec![("host", "127.0.0.1.evil.example"), token], Some(Code::Forbidden)),
            (vec![("host", "localhost:3355@evil.example"), token], Some(Code::Forbidden)),
            (vec![token], Some(Code::Forbidden)),
            (vec![("host", "127.0.0.1"), ("host", "evil.example"), token], Some(Code::BadRequest)),
            (vec![("host", "127.0.0.1:3355"), token, ("origin", "http://evil.example")], Some(Code::Forbidden)),
            (vec![("host", "127.0.0.1:3355"), token, ("origin", "null")], Some(Code::Forbidden)),
            (vec![("host", "127.0.0.1:3355"), token, ("origin", "http://localhost:9999")], Some(Code::Forbidden)),
        ] {
            let found = guard.check(Door::Tcp, &Method::GET, &uri, &request(&pairs)).err().map(|problem| problem.code);
            assert_eq!(found, expected, "{pairs:?}");
        }
        assert!(guard.check(Door::Unix, &Method::GET, &uri, &request(&[("host", "anything")])).is_ok());
        let foreign = request(&[("host", "localhost"), ("origin", "http://evil.example")]);
        assert!(guard.check(Door::Unix, &Method::GET, &uri, &foreign).is_err());
    }

    #[test]
    fn a_cookie_lets_in_and_changes_only_from_our_own_page() {
        let guard = Guard::new("tbed_secret".to_string());
        let secret = guard.sessions.open(Instant::now()).expect("a session");
        let set = guard.cookie(Some(&secret));
        assert!(set.contains("HttpOnly") && set.contains("SameSite=Strict") && set.contains("Path=/"), "{set}");
        let cookie = format!("other=1; {}", set.split(';').next().expect("the pair"));
        let shown = ("cookie", cookie.as_str());
        let (host, origin) = (("host", "127.0.0.1:3355"), ("origin", "http://127.0.0.1:3355"));
        let wrong = format!("{}=0", guard.cookie);
        let try_it = |method: Method, pairs: &[(&str, &str)]| {
            guard.check(Door::Tcp, &method, &Uri::from_static("/api/deployments"), &request(pairs)).map_err(|problem| problem.code)
        };
        assert_eq!(try_it(Method::GET, &[host, shown]), Ok(Access::Session(secret.clone())));
        assert_eq!(try_it(Method::POST, &[host, shown, origin]), Ok(Access::Session(secret)));
        assert_eq!(try_it(Method::POST, &[host, shown]), Err(Code::Forbidden));
        assert_eq!(try_it(Method::DELETE, &[host, shown]), Err(Code::Forbidden));
        assert_eq!(try_it(Method::GET, &[host, shown, ("upgrade", "websocket")]), Err(Code::Forbidden));
        assert_eq!(try_it(Method::POST, &[host, shown, ("origin", "http://127.0.0.1:1")]), Err(Code::Forbidden));
        assert_eq!(try_it(Method::GET, &[host, ("cookie", &wrong)]), Err(Code::Unauthorized));
        assert_eq!(try_it(Method::GET, &[host, shown, ("authorization", "Bearer wrong")]), Err(Code::Unauthorized));
    }
}
