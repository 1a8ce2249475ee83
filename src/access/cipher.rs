//! Versions, cipher suites and curves by the names that Go has for them, as far as they are spoken here.

use rustls::crypto::SupportedKxGroup;
use rustls::crypto::ring::{ALL_CIPHER_SUITES, kx_group};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};

use super::document::Section;
use super::refusal::Refusal;

/// The versions that are spoken, from the oldest on, by their names.
const VERSIONS: [(&str, &SupportedProtocolVersion); 2] =
    [("TLS12", &version::TLS12), ("TLS13", &version::TLS13)];

/// Curves by Go's names.
const CURVES: [(&str, &dyn SupportedKxGroup); 3] = [
    ("X25519", kx_group::X25519),
    ("CurveP256", kx_group::SECP256R1),
    ("CurveP384", kx_group::SECP384R1),
];

/// Suites that Go knows, and that are not spoken here: without forward secrecy, or with CBC, RC4 or 3DES.
const UNSPOKEN_SUITES: [&str; 15] = [
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

/// `min_version` and `max_version`.
pub(super) fn read_versions(
    section: &mut Section<'_>,
) -> Result<Vec<&'static SupportedProtocolVersion>, Refusal> {
    let min = read_version(section, "min_version")?.unwrap_or(0);
    let max = read_version(section, "max_version")?.unwrap_or(VERSIONS.len() - 1);
    if min > max {
        return Err(section
            .field("max_version")
            .refuse("must not be older than min_version"));
    }
    Ok(VERSIONS[min..=max].iter().map(|(_, it)| *it).collect())
}

fn read_version(section: &mut Section<'_>, name: &str) -> Result<Option<usize>, Refusal> {
    let Some(version) = section.text(name)? else {
        return Ok(None);
    };
    let spoken = VERSIONS.iter().position(|(name, _)| *name == version);
    match (spoken, version.as_str()) {
        (Some(position), _) => Ok(Some(position)),
        (None, "TLS10" | "TLS11") => Err(section.field(name).refuse(format!(
            "must be TLS12 or TLS13: {version} is broken, and not spoken here"
        ))),
        (None, _) => Err(section.field(name).refuse("must be TLS12 or TLS13")),
    }
}

/// `cipher_suites`: those that are named, or all.
///
/// In Go it limits TLS 1.2 alone; here, where it names suites of TLS 1.3, it limits that to them as well.
pub(super) fn read_suites(
    section: &mut Section<'_>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<Vec<SupportedCipherSuite>, Refusal> {
    let at = section.field("cipher_suites");
    let names = section.texts("cipher_suites")?;
    if names.is_empty() {
        return Ok(ALL_CIPHER_SUITES.to_vec());
    }
    let mut suites = Vec::with_capacity(names.len());
    for name in names {
        let Some(suite) = find_suite(&name) else {
            let why = if UNSPOKEN_SUITES.contains(&name.as_str()) {
                format!("lists {name}, which is weak, and not spoken here")
            } else {
                format!("lists {name}, which is no cipher suite")
            };
            return Err(at.refuse(why));
        };
        suites.push(suite);
    }
    if !suites.iter().any(is_of_tls13) {
        suites.extend(ALL_CIPHER_SUITES.iter().copied().filter(is_of_tls13));
    }
    for (name, version) in VERSIONS {
        let is_idle = !suites.iter().any(|suite| suite.version() == version);
        if versions.contains(&version) && is_idle {
            return Err(at.refuse(format!(
                "must list a suite of {name}, or min_version exclude it"
            )));
        }
    }
    Ok(suites)
}

fn is_of_tls13(suite: &SupportedCipherSuite) -> bool {
    suite.tls13().is_some()
}

/// rustls says `TLS13_AES_…` where the registry and Go say `TLS_AES_…`.
fn find_suite(name: &str) -> Option<SupportedCipherSuite> {
    // Go's first names for two of them lack the hash, and still go.
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

/// `curve_preferences`: those that are named, in their order, or all.
pub(super) fn read_curves(
    section: &mut Section<'_>,
) -> Result<Vec<&'static dyn SupportedKxGroup>, Refusal> {
    let at = section.field("curve_preferences");
    let names = section.texts("curve_preferences")?;
    if names.is_empty() {
        return Ok(CURVES.iter().map(|(_, group)| *group).collect());
    }
    let find = |name: String| {
        let known = CURVES.iter().find(|(curve, _)| *curve == name);
        known.map(|(_, group)| *group).ok_or_else(|| {
            let spoken = CURVES.map(|(curve, _)| curve).join(", ");
            at.refuse(format!("lists {name}, where only {spoken} are spoken"))
        })
    };
    names.into_iter().map(find).collect()
}
