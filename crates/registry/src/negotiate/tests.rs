//! Tests negotiation with the headers of Prometheus, of browsers and of other clients, and with malformed ones.

use proptest::prelude::*;

use super::*;

const OM: &str = "application/openmetrics-text";
const PROTO: &str =
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited";

const PROTO_CONTENT: &str =
    "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited";

fn format(accept: &str) -> Format {
    media(accept).format()
}

fn media(accept: &str) -> MediaType {
    negotiate_format(&[accept.as_bytes()])
}

#[test]
fn every_prometheus_gets_what_it_prefers() {
    let old = format!(
        "{OM};version=1.0.0,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    );
    let native = format!(
        "{PROTO},{OM};version=1.0.0;q=0.8,{OM};version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
    );
    let three = format!(
        "{OM};version=1.0.0;escaping=allow-utf-8;q=0.6,{OM};version=0.0.1;q=0.5,\
         text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
    );
    let three_protobuf = format!(
        "{PROTO};q=0.6,{OM};version=1.0.0;escaping=allow-utf-8;q=0.5,{OM};version=0.0.1;q=0.4,\
         text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
    );
    for (accept, expected, who) in [
        (
            "application/openmetrics-text; version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            Format::OpenMetrics,
            "2.5, 2.26",
        ),
        (&old, Format::OpenMetrics, "2.42"),
        (&native, Format::Protobuf, "2.42 with native histograms"),
        (&three, Format::OpenMetrics, "3"),
        (&three_protobuf, Format::Protobuf, "3, protobuf first"),
        (
            &format!("{OM};version=1.0.0;q=0.8,*/*;q=2"),
            Format::OpenMetrics,
            "2.49.0",
        ),
    ] {
        assert_eq!(format(accept), expected, "{who}");
    }
}

#[test]
fn others_get_text_unless_they_ask_for_more() {
    for (accept, expected, why) in [
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
            Format::Text,
            "a browser",
        ),
        ("*/*", Format::Text, "curl"),
        ("", Format::Text, "an empty header"),
        (
            "image/png",
            Format::Text,
            "nothing that is served: never 406",
        ),
        (
            "text/plain;version=2.0.0",
            Format::Text,
            "an unknown version falls back",
        ),
        (
            "application/openmetrics-text;version=2.0.0",
            Format::Text,
            "an unknown version is no match",
        ),
        (
            "APPLICATION/OpenMetrics-Text; Version=1.0.0",
            Format::OpenMetrics,
            "names have no case",
        ),
        (
            "application/openmetrics-text;version=\"1.0.0\"",
            Format::OpenMetrics,
            "a quoted value",
        ),
        (
            "text/*, application/openmetrics-text;q=0.1",
            Format::OpenMetrics,
            "concrete before wildcard",
        ),
        (
            "application/*",
            Format::OpenMetrics,
            "a wildcard of applications",
        ),
        (
            "text/plain;q=0, */*",
            Format::OpenMetrics,
            "text is refused",
        ),
        (
            "text/plain;q=0.5, application/openmetrics-text;q=0",
            Format::Text,
            "q=0 excludes",
        ),
        (
            "application/openmetrics-text;q=0, */*;q=0.5",
            Format::Text,
            "refused, but the rest is not",
        ),
        (
            "text/plain, application/openmetrics-text",
            Format::Text,
            "the first of equals",
        ),
        (
            "application/openmetrics-text;q=abc, text/plain;q=0.1",
            Format::Text,
            "no weight is no range",
        ),
        (
            "application/openmetrics-text;q=-1",
            Format::Text,
            "nor is a negative one",
        ),
        (
            "application/vnd.google.protobuf",
            Format::Text,
            "protobuf of some other message",
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
            Format::Text,
            "another encoding",
        ),
        (";;;,,=,q=1;,\"", Format::Text, "noise"),
    ] {
        assert_eq!(format(accept), expected, "{why}: {accept}");
    }
    assert_eq!(negotiate_format(&[]), Format::Text.into());
    assert_eq!(
        negotiate_format(&[b"\xff\xfe", OM.as_bytes()]),
        Format::OpenMetrics.into()
    );
    assert_eq!(
        negotiate_format(&[b"text/plain;q=0.1", OM.as_bytes()]),
        Format::OpenMetrics.into()
    );
}

#[test]
fn a_content_type_names_the_escaping_scheme_only_if_the_client_does() {
    for (accept, content_type, escaping) in [
        (
            "text/plain",
            "text/plain; version=0.0.4; charset=utf-8",
            Escaping::Underscores,
        ),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3",
            "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8",
            Escaping::AllowUtf8,
        ),
        (
            "text/plain;version=1.0.0",
            "text/plain; version=1.0.0; charset=utf-8",
            Escaping::Underscores,
        ),
        (
            "text/plain;version=0.0.4;escaping=allow-utf-8",
            "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Escaping::Underscores,
        ),
        (
            "text/plain;version=0.0.4;escaping=values",
            "text/plain; version=0.0.4; charset=utf-8; escaping=values",
            Escaping::Values,
        ),
        (
            "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.1,text/plain;version=0.0.4",
            "text/plain; version=0.0.4; charset=utf-8",
            Escaping::Underscores,
        ),
        (
            "text/plain;version=1.0.0;q=0,text/*",
            "text/plain; version=0.0.4; charset=utf-8",
            Escaping::Underscores,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=dots",
            "application/openmetrics-text; version=1.0.0; charset=utf-8; escaping=dots",
            Escaping::Dots,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=none",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Escaping::Underscores,
        ),
        (
            &format!("{PROTO};q=0.6,{OM};version=1.0.0;escaping=allow-utf-8;q=0.5"),
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8",
            Escaping::AllowUtf8,
        ),
        (
            &format!("{PROTO},text/plain;version=0.0.4;q=0.5"),
            PROTO_CONTENT,
            Escaping::Underscores,
        ),
        (
            &format!("{PROTO};escaping=allow-utf-8"),
            "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited; escaping=allow-utf-8",
            Escaping::AllowUtf8,
        ),
    ] {
        let media = media(accept);
        assert_eq!(media.content_type(), content_type, "{accept}");
        assert_eq!(media.escaping(), escaping, "{accept}");
    }
}

#[test]
fn encodings_go_by_weight() {
    for (accept, expected, why) in [
        ("gzip", Encoding::Gzip, "Prometheus"),
        (
            "gzip, deflate, br, zstd",
            Encoding::Zstd,
            "a browser: the cheaper of equals",
        ),
        ("zstd;q=0.5, gzip;q=0.8", Encoding::Gzip, "by weight"),
        (
            "identity, gzip;q=0.5",
            Encoding::Identity,
            "none is preferred",
        ),
        ("identity;q=0.2, gzip;q=0.5", Encoding::Gzip, "none is not"),
        ("gzip;q=0", Encoding::Identity, "refused"),
        ("zstd;q=0, *", Encoding::Gzip, "anything but"),
        ("*;q=0", Encoding::Identity, "there is always an answer"),
        ("deflate, br", Encoding::Identity, "none that is offered"),
        ("X-GZIP", Encoding::Gzip, "an alias"),
        ("", Encoding::Identity, "nothing"),
    ] {
        assert_eq!(negotiate_encoding(&[accept.as_bytes()]), expected, "{why}");
    }
    assert_eq!(negotiate_encoding(&[]), Encoding::Identity);
}

proptest! {
    #[test]
    fn whatever_is_sent_there_is_an_answer(headers in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..4)) {
        let headers: Vec<&[u8]> = headers.iter().map(Vec::as_slice).collect();
        negotiate_format(&headers);
        negotiate_encoding(&headers);
    }

    #[test]
    fn noise_around_a_range_does_not_hide_it(noise in "[a-z/*;= ]{0,20}") {
        prop_assume!(!noise.contains("q=") && !noise.contains("q ="));
        let accept = format!("{noise},{OM};version=1.0.0");
        prop_assert_eq!(format(&accept), Format::OpenMetrics);
    }
}
