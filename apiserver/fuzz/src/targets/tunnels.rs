//! The frames of exec, attach and port-forward.

use crate::Target;
use http::{HeaderMap, HeaderName, HeaderValue};
use spdy::connection::{Connection, Role};
use spdy::headers::{Compressor, Decompressor, Headers};

const STREAMS_MAX: usize = 8;

pub(crate) const SPDY: Target = Target {
    name: "spdy",
    help: "what comes in over a SPDY connection, in pieces of any size: what waits for the other side stays bounded",
    seeds: || {
        let mut client = Connection::new(Role::Client, STREAMS_MAX);
        let first = client.open(&Headers::new(&[("streamtype", "stdin")]));
        client.open(&Headers::new(&[("streamtype", "error"), ("port", "80")]));
        if let Some(id) = first {
            client.send(id, vec![b'x'; 300].into());
            client.finish(id);
        }
        client.go_away(0);
        vec![client.output().to_vec()]
    },
    run: |bytes| {
        for (role, size) in [(Role::Server, bytes.len().max(1)), (Role::Client, 7)] {
            let mut connection = Connection::new(role, STREAMS_MAX);
            for piece in bytes.chunks(size) {
                let ended = connection.receive(piece).is_err();
                while connection.next_event().is_some() {}
                assert!(connection.pending_bytes() <= bytes.len() + 1024);
                if ended {
                    break;
                }
            }
        }
        let mut headers = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(bytes) {
            headers.insert(http::header::UPGRADE, value.clone());
            headers.insert(http::header::CONNECTION, value.clone());
            headers.insert(HeaderName::from_static("x-stream-protocol-version"), value);
        }
        let _ = spdy::is_upgrade(&headers);
        let _ = spdy::negotiate(&headers, &["v4.channel.k8s.io"]);
    },
};

pub(crate) const SPDY_HEADERS: Target = Target {
    name: "spdy-headers",
    help: "a compressed block of SPDY headers: one that swells without end is refused",
    seeds: || {
        let headers = Headers::new(&[("streamtype", "stdout"), ("requestid", "1")]);
        vec![Compressor::default().compress(&headers)]
    },
    run: |bytes| {
        let mut decompressor = Decompressor::default();
        if let Ok(headers) = decompressor.decompress(bytes) {
            let _ = (headers.get("streamtype"), headers.is_empty());
            let _ = decompressor.decompress(bytes);
        }
    },
};
