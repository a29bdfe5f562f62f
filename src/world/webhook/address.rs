//! Where a webhook may go: no URL may make the engine speak to what only the engine can reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use url::{Host, Url};

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2_048;

/// Networks that are reached although nobody could be there from outside; empty unless configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allowed(Vec<IpNet>);

/// Why a webhook may not go somewhere, for a person who may do something about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

impl From<Vec<IpNet>> for Allowed {
    fn from(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }
}

impl Allowed {
    /// Whether the configuration names it. An IPv4 address in the form of an IPv6 one is that IPv4 address.
    #[must_use]
    pub fn names(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Whether a connection to this address is allowed: it is out in the internet and TLS protects
    /// the way there, or the configuration names it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check(&self, address: IpAddr, encrypted: bool) -> Result<(), Refused> {
        if self.names(address) {
            return Ok(());
        }
        if let Some(what) = inside(address) {
            let how = "`serve --webhook-allow` (ANNALS_WEBHOOK_ALLOW) names networks that may be reached";
            return Err(Refused(format!("{address} is {what}, where webhooks do not go: {how}")));
        }
        if !encrypted {
            return Err(Refused(format!("http:// to {address} would be readable on its way: use https://")));
        }
        Ok(())
    }

    /// Reads a URL that webhooks may go to, as far as that can be told without asking for the name.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn check_url(&self, text: &str) -> Result<Url, Refused> {
        let refused = |why: String| Err(Refused(why));
        if text.len() > URL_BYTES_MAX {
            return refused(format!("the URL has {} bytes, at most {URL_BYTES_MAX} are allowed", text.len()));
        }
        let url = Url::parse(text).map_err(|e| Refused(format!("`{text}` is no URL: {e}")))?;
        if !url.username().is_empty() || url.password().is_some() {
            return refused(
                "the URL holds a user's name or password, which the journal would show for ever: the signature tells who sends".into(),
            );
        }
        let encrypted = match url.scheme() {
            "https" => true,
            "http" if self.0.is_empty() => {
                return refused(
                    "http:// would be readable on its way: use https://, or allow the receiver's network with `serve --webhook-allow`"
                        .into(),
                );
            }
            "http" => false,
            other => return refused(format!("webhooks go to https:// URLs, not to {other}:")),
        };
        if url.port() == Some(0) {
            return refused("port 0 is nobody's".into());
        }
        if url.fragment().is_some() {
            return refused("what stands behind `#` in a URL is never sent: leave it out".into());
        }
        match url.host() {
            None => return refused(format!("`{text}` names no host")),
            // the parser has made 0x7f.1, 2130706433 and 0177.0.0.1 into what they are
            Some(Host::Ipv4(address)) => self.check(address.into(), encrypted)?,
            Some(Host::Ipv6(address)) => self.check(address.into(), encrypted)?,
            Some(Host::Domain(_)) => {}
        }
        Ok(url)
    }
}

/// What kind of place it is, if it is not out in the internet (the IANA registries of special addresses).
fn inside(address: IpAddr) -> Option<&'static str> {
    match address.to_canonical() {
        IpAddr::V4(address) => inside_v4(address),
        IpAddr::V6(address) => inside_v6(address),
    }
}

fn inside_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [0, ..] => Some("this host itself"),
        [127, ..] => Some("a loopback address"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("a private address"),
        [169, 254, ..] => Some("a link-local address, where clouds keep their metadata"),
        [168, 63, 129, 16] => Some("the address of a cloud's own services"),
        [100, 64..=127, ..] => Some("an address behind a provider's translation"),
        [192, 0, 0, _] | [192, 88, 99, _] | [198, 18..=19, ..] | [192, 0, 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => {
            Some("a reserved address")
        }
        [224..=239, ..] => Some("a multicast address"),
        [240..=255, ..] => Some("a reserved address"),
        _ => None,
    }
}

/// Only 2000::/3 is out there, and not all of it: some prefixes hold an IPv4 address, which a tunnel
/// or a translator would reach for us.
fn inside_v6(address: Ipv6Addr) -> Option<&'static str> {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Some("this host itself"),
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("a loopback address"),
        [0xfc00..=0xfdff, ..] => Some("a private address"),
        [0xfe80..=0xfebf, ..] => Some("a link-local address"),
        [0xff00..=0xffff, ..] => Some("a multicast address"),
        [0x64, 0xff9b, ..] | [0x2002, ..] | [0x2001, 0..=0x1ff, ..] => Some("an address that stands for another one"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("a reserved address"),
        [0x2000..=0x3fff, ..] => None,
        _ => Some("a reserved address"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Allowed {
        Allowed::default()
    }

    #[test]
    fn nothing_inside_is_reached_in_whatever_form_it_is_written() {
        for host in [
            "127.0.0.1",
            "127.9.9.9",
            "2130706433",
            "0x7f000001",
            "0177.0.0.1",
            "0x7f.1",
            "127.1",
            "0",
            "0.0.0.0",
            "10.0.0.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "198.18.0.1",
            "203.0.113.7",
            "224.0.0.1",
            "255.255.255.255",
            "[::]",
            "[::1]",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::ffff:10.0.0.1]",
            "[::127.0.0.1]",
            "[fd00:ec2::254]",
            "[fc00::1]",
            "[fe80::1]",
            "[febf::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[64:ff9b::7f00:1]",
            "[64:ff9b:1::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:1::1]",
            "[2001:db8::1]",
            "[100::1]",
            "[4000::1]",
        ] {
            let found = none().check_url(&format!("https://{host}/hook"));
            let refused = found.expect_err(host).to_string();
            assert!(refused.contains("--webhook-allow"), "{host}: {refused}");
        }
    }

    #[test]
    fn what_is_out_there_is_reached() {
        for host in
            ["example.com", "8.8.8.8", "172.15.0.1", "172.32.0.1", "100.128.0.1", "[2606:4700::1111]", "[2a00:1450::1]", "[::ffff:8.8.8.8]"]
        {
            assert!(none().check_url(&format!("https://{host}:8443/hook?a=b")).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_meant_is_refused() {
        for (url, word) in [
            ("https://ada:secret@example.com/", "password"),
            ("https://ada@example.com/", "user"),
            ("http://example.com/", "https://"),
            ("ftp://example.com/", "ftp:"),
            ("file:///etc/passwd", "file:"),
            ("https://", "no URL"),
            ("example.com/hook", "no URL"),
            ("https://example.com:0/", "port 0"),
            ("https://example.com/#top", "#"),
            ("https://exa mple.com/", "no URL"),
        ] {
            let refused = none().check_url(url).expect_err(url).to_string();
            assert!(refused.contains(word), "{url}: {refused}");
        }
        assert!(none().check_url(&format!("https://example.com/{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn the_configuration_opens_networks_and_there_plain_http() {
        let allowed = Allowed::from(["127.0.0.0/8", "::1/128", "10.1.0.0/16"].map(|net| net.parse().unwrap()).to_vec());
        for url in
            ["http://127.0.0.1:9/", "https://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://10.1.2.3/", "http://name/"]
        {
            assert!(allowed.check_url(url).is_ok(), "{url}");
        }
        for url in ["http://10.2.0.1/", "https://10.2.0.1/", "http://8.8.8.8/", "https://[::2]/"] {
            assert!(allowed.check_url(url).is_err(), "{url}");
        }
    }
}
