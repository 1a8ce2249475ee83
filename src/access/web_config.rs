//! The web configuration file of the Prometheus exporters, as its fields: what each is called, what it may say, and what
//! is refused because nobody would get what they asked for.
//!
//! <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>. What certificates and
//! keys are worth is for `tls` to say.

use std::path::Path;

use actix_web::http::header::{HeaderName, HeaderValue};

use super::cipher;
use super::document::Section;
use super::files::Files;
use super::rate_limit::RateLimit;
use super::refusal::{Field, Refusal};
use super::tls::{ClientAuth, Pem, TlsTerms};
use super::users::User;

/// The headers that may be set, each with the values that it may have; an empty list stands for any.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Content-Security-Policy", &[]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-XSS-Protection", &[]),
    ("Strict-Transport-Security", &[]),
];

/// What a web configuration says.
#[derive(Debug, Default)]
pub(super) struct WebConfig {
    /// How to encrypt; `None` where it does not.
    pub(super) tls: Option<TlsTerms>,
    /// Headers for each answer.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Who may enter by basic authentication; nobody is asked where there is none.
    pub(super) users: Vec<User>,
    /// How often requests may come; `None` where that is not limited.
    pub(super) rate_limit: Option<RateLimit>,
}

impl WebConfig {
    /// Reads the document in the file `path`, and the files that it names; relative paths in it are relative to it.
    pub(super) fn read(path: &Path, files: &mut Files) -> Result<Self, Refusal> {
        let at = Field::root(path);
        let contents = files
            .read(path)
            .map_err(|error| at.refuse(format!("cannot be read: {error}")))?;
        let mut document = Section::parse(&contents, path)?;
        let (http2, headers) = read_http(document.section("http_server_config")?)?;
        let tls = document.section("tls_server_config")?;
        let mut pems = Pems {
            directory: path.parent().unwrap_or(Path::new("")),
            files,
        };
        let tls = read_tls(tls, &mut pems, http2)?;
        let users = document.section("basic_auth_users")?.into_texts()?;
        let users = read_users(&document.field("basic_auth_users"), users)?;
        let rate_limit = read_rate_limit(document.section("rate_limit")?)?;
        document.finish()?;
        Ok(Self {
            tls,
            headers,
            users,
            rate_limit,
        })
    }
}

/// How what is encoded as PEM is read.
struct Pems<'a> {
    directory: &'a Path,
    files: &'a mut Files,
}

impl Pems<'_> {
    /// What stands in the document itself (`cert`), or in a file (`cert_file`).
    fn read(&mut self, section: &mut Section<'_>, name: &str) -> Result<Option<Pem>, Refusal> {
        let file_name = format!("{name}_file");
        let at_file = section.field(&file_name);
        let inline = section.text(name)?;
        let file = section.text(&file_name)?;
        match (inline, file) {
            (None, None) => Ok(None),
            (Some(text), None) => Ok(Some(Pem::inline(section.field(name).to_string(), text))),
            (None, Some(path)) => {
                let path = self.directory.join(path);
                Pem::read(at_file.to_string(), &path, self.files).map(Some)
            }
            (Some(_), Some(_)) => {
                Err(at_file.refuse(format!("is given beside {name}: one of them must go")))
            }
        }
    }
}

fn read_http(mut section: Section<'_>) -> Result<(bool, Vec<(HeaderName, HeaderValue)>), Refusal> {
    let http2 = section.switch("http2", true)?;
    let mut fields = section.section("headers")?;
    let mut headers = Vec::new();
    for (name, allowed) in HEADERS {
        if !fields.has(name) {
            continue;
        }
        let value = fields.text(name)?.unwrap_or_default();
        let field = fields.field(name);
        if !allowed.is_empty() && !allowed.contains(&value.as_str()) {
            return Err(field.refuse(format!("must be {}", allowed.join(" or "))));
        }
        // As exporters send it, and so no header can begin in it.
        let value = value.replace(['\r', '\n'], " ");
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        let value = HeaderValue::from_bytes(value.as_bytes())
            .map_err(|_| field.refuse("must be a text without control characters"))?;
        // A name of the table is the name of a header.
        headers.extend(HeaderName::try_from(name).ok().map(|name| (name, value)));
    }
    fields.finish()?;
    section.finish()?;
    Ok((http2, headers))
}

fn read_rate_limit(mut section: Section<'_>) -> Result<Option<RateLimit>, Refusal> {
    let interval = section.duration("interval")?;
    let burst = u64::try_from(section.whole("burst")?).unwrap_or(0);
    let at_burst = section.field("burst");
    section.finish()?;
    let limit = RateLimit::new(interval, burst);
    if limit.is_some() && burst == 0 {
        tracing::warn!("{at_burst} is 0: every request to the ops endpoints is answered 429");
    }
    Ok(limit)
}

fn read_users(at: &Field<'_>, entries: Vec<(String, String)>) -> Result<Vec<User>, Refusal> {
    let read = |(name, hash): (String, String)| {
        // Whoever mixed the two up has written the hash where the name is told.
        if name.starts_with('$') {
            return Err(at.refuse("must list names, each with the hash of its password"));
        }
        if name.contains(':') || name.chars().any(char::is_control) {
            return Err(at.refuse(
                "must list names that can be sent: without colons and control characters",
            ));
        }
        let at = at.child(&name);
        User::new(name, hash).map_err(|reason| at.refuse(reason))
    };
    entries.into_iter().map(read).collect()
}

fn read_tls(
    mut section: Section<'_>,
    pems: &mut Pems<'_>,
    http2: bool,
) -> Result<Option<TlsTerms>, Refusal> {
    if section.is_empty() {
        return Ok(None);
    }
    let certificate = pems.read(&mut section, "cert")?;
    let key = pems.read(&mut section, "key")?;
    let versions = cipher::read_versions(&mut section)?;
    let suites = cipher::read_suites(&mut section, &versions)?;
    let groups = cipher::read_curves(&mut section)?;
    let prefer_server_order = section.switch("prefer_server_cipher_suites", true)?;
    let client_auth = read_client_auth(&mut section, pems)?;
    let missing = |name: &str| {
        let reason = "is missing: there is no TLS without a certificate and its key";
        section.field(name).refuse(reason)
    };
    let (no_certificate, no_key) = (missing("cert_file"), missing("key_file"));
    section.finish()?;
    Ok(Some(TlsTerms {
        certificate: certificate.ok_or(no_certificate)?,
        key: key.ok_or(no_key)?,
        client_auth,
        versions,
        suites,
        groups,
        prefer_server_order,
        http2,
    }))
}

/// Who of the clients must show a certificate, by Go's names for it.
fn read_client_auth(
    section: &mut Section<'_>,
    pems: &mut Pems<'_>,
) -> Result<Option<ClientAuth>, Refusal> {
    let at = section.field("client_auth_type");
    let at_authorities = section.field("client_ca_file");
    let at_names = section.field("client_allowed_sans");
    let mode = section.text("client_auth_type")?;
    let authorities = pems.read(section, "client_ca")?;
    let names = section.texts("client_allowed_sans")?;
    let mandatory = match mode.as_deref() {
        None | Some("NoClientCert") => {
            let idle = "has no effect without client_auth_type: RequireAndVerifyClientCert";
            if authorities.is_some() {
                return Err(at_authorities.refuse(idle));
            }
            if !names.is_empty() {
                return Err(at_names.refuse(idle));
            }
            return Ok(None);
        }
        Some("RequireAndVerifyClientCert") => true,
        Some("VerifyClientCertIfGiven") => false,
        Some(unverified @ ("RequestClientCert" | "RequireAnyClientCert")) => {
            return Err(at.refuse(format!(
                "must not be {unverified}, which verifies nobody: RequireAndVerifyClientCert does"
            )));
        }
        Some(_) => {
            return Err(at.refuse(
                "must be NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
            ));
        }
    };
    if !mandatory && !names.is_empty() {
        return Err(at_names.refuse(
            "needs client_auth_type: RequireAndVerifyClientCert, as who has no certificate has no name",
        ));
    }
    let missing = "is missing: clients' certificates are verified against it";
    Ok(Some(ClientAuth {
        authorities: authorities.ok_or_else(|| at_authorities.refuse(missing))?,
        mandatory,
        names,
    }))
}
