//! TLS versions, cipher suites and curves by Go's names, as far as rustls supports them.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, kx_group};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use crate::document::Section;
use crate::error::ConfigError;

/// The supported versions by Go's names, oldest first.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLS12", &version::TLS12), ("TLS13", &version::TLS13)];

/// The supported curves by Go's names.
const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", kx_group::X25519),
    ("CurveP256", kx_group::SECP256R1),
    ("CurveP384", kx_group::SECP384R1),
];

/// Suites that Go knows and rustls does not support: without forward secrecy, or with CBC, RC4 or 3DES.
const WEAK_SUITES: [&str; 15] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256",
];

/// Reads `min_version` and `max_version`.
pub(crate) fn read_versions(
    section: &mut Section<'_>,
) -> Result<Vec<&'static SupportedProtocolVersion>, ConfigError> {
    let min = read_version(section, "min_version")?.unwrap_or(0);
    let max = read_version(section, "max_version")?.unwrap_or(VERSIONS.len() - 1);
    if min > max {
        return Err(section
            .field("max_version")
            .error("must not be older than min_version"));
    }
    Ok(VERSIONS[min..=max].iter().map(|(_, it)| *it).collect())
}

fn read_version(section: &mut Section<'_>, name: &str) -> Result<Option<usize>, ConfigError> {
    let Some(version) = section.text(name)? else {
        return Ok(None);
    };
    let supported = VERSIONS.iter().position(|(name, _)| *name == version);
    match (supported, version.as_str()) {
        (Some(position), _) => Ok(Some(position)),
        (None, "TLS10" | "TLS11") => Err(section.field(name).error(format!(
            "must be TLS12 or TLS13: {version} is broken and not supported"
        ))),
        (None, _) => Err(section.field(name).error("must be TLS12 or TLS13")),
    }
}

/// Reads `cipher_suites`. Without a list, all supported suites are used.
///
/// In Go the list restricts TLS 1.2 only. Here, a list with suites of TLS 1.3 restricts that version too.
pub(crate) fn read_suites(
    section: &mut Section<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Vec<SupportedCipherSuite>, ConfigError> {
    let at = section.field("cipher_suites");
    let names = section.texts("cipher_suites")?;
    if names.is_empty() {
        return Ok(ALL_CIPHER_SUITES.to_vec());
    }
    let mut suites = Vec::with_capacity(names.len());
    for name in names {
        let Some(suite) = find_suite(&name) else {
            let reason = if WEAK_SUITES.contains(&name.as_str()) {
                format!("lists {name}, which is weak and not supported")
            } else {
                format!("lists {name}, which is not a known cipher suite")
            };
            return Err(at.error(reason));
        };
        suites.push(suite);
    }
    if !suites.iter().any(is_of_tls13) {
        suites.extend(ALL_CIPHER_SUITES.iter().copied().filter(is_of_tls13));
    }
    for (name, version) in VERSIONS {
        let has_suite = suites.iter().any(|suite| suite.version() == version);
        if versions.contains(&version) && !has_suite {
            return Err(at.error(format!(
                "must list a suite of {name}, unless min_version excludes {name}"
            )));
        }
    }
    Ok(suites)
}

fn is_of_tls13(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some()
}

/// Finds a suite by Go's name. rustls writes `TLS13_AES_…` where IANA and Go write `TLS_AES_…`.
fn find_suite(name: &str) -> Option<SupportedCipherSuite> {
    // Go's old names of these two lack the hash, and Go still accepts them.
    let name = match name {
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        name => name,
    };
    ALL_CIPHER_SUITES.iter().copied().find(|suite| {
        let ours = suite.suite();
        ours.as_str()
            .is_some_and(|ours| ours.replacen("TLS13_", "TLS_", 1) == name)
    })
}

/// Reads `curve_preferences`, in their order. Without a list, all supported curves are used.
pub(crate) fn read_curves(
    section: &mut Section<'_>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, ConfigError> {
    let at = section.field("curve_preferences");
    let names = section.texts("curve_preferences")?;
    if names.is_empty() {
        return Ok(CURVES.iter().map(|(_, group)| *group).collect());
    }
    let find = |name: String| {
        let known = CURVES.iter().find(|(curve, _)| *curve == name);
        known.map(|(_, group)| *group).ok_or_else(|| {
            let supported = CURVES.map(|(curve, _)| curve).join(", ");
            at.error(format!("lists {name}, but only {supported} are supported"))
        })
    };
    names.into_iter().map(find).collect()
}
