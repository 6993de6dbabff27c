//! The body of a page that is rewritten on its way, unpacked and packed again where it is compressed.

use std::io::{self, Write};

use axum::body::Body;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateDecoder, DeflateEncoder, GzDecoder, GzEncoder};
use futures::{StreamExt, TryStreamExt};

use super::html::Page;
use super::links::Links;

/// So much of a compressed page is unpacked at once: it becomes a thousand times as much at most.
const PACKED_STEP_BYTES: usize = 1024;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
    Deflate,
}

impl Coding {
    /// From `Content-Encoding`; none for what cannot be unpacked here.
    pub(crate) fn of(encoding: &str) -> Option<Coding> {
        match encoding {
            "" | "identity" => Some(Coding::Identity),
            "gzip" => Some(Coding::Gzip),
            "deflate" => Some(Coding::Deflate),
            _ => None,
        }
    }
}

/// The same page with its links rewritten.
pub(crate) fn rewritten(body: Body, coding: Coding, links: Links) -> Body {
    let steps = Steps {
        body: body.into_data_stream().map_err(io::Error::other).boxed(),
        pending: Bytes::new(),
        work: Some(Work::new(coding, links)),
    };
    Body::from_stream(futures::stream::try_unfold(steps, Steps::next))
}

struct Steps {
    body: futures::stream::BoxStream<'static, io::Result<Bytes>>,
    pending: Bytes,
    /// None after the end.
    work: Option<Work>,
}

impl Steps {
    /// What one step of the input becomes.
    async fn next(mut self) -> io::Result<Option<(Bytes, Steps)>> {
        loop {
            let Some(work) = &mut self.work else {
                return Ok(None);
            };
            let out = if !self.pending.is_empty() {
                let step = work.step_bytes().min(self.pending.len());
                work.push(&self.pending.split_to(step))?
            } else if let Some(bytes) = self.body.next().await {
                self.pending = bytes?;
                continue;
            } else {
                self.work
                    .take()
                    .map(Work::finish)
                    .transpose()?
                    .unwrap_or_default()
            };
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), self)));
            }
        }
    }
}

/// Unpacks, rewrites, packs.
struct Work {
    unpack: Unpack,
    page: Page,
    pack: Pack,
}

enum Unpack {
    Identity,
    Gzip(Box<GzDecoder<Vec<u8>>>),
    Deflate(Box<DeflateDecoder<Vec<u8>>>),
}

enum Pack {
    Identity,
    Gzip(GzEncoder<Vec<u8>>),
    Deflate(DeflateEncoder<Vec<u8>>),
}

impl Work {
    fn new(coding: Coding, links: Links) -> Work {
        let fast = Compression::fast();
        let (unpack, pack) = match coding {
            Coding::Identity => (Unpack::Identity, Pack::Identity),
            Coding::Gzip => (
                Unpack::Gzip(Box::new(GzDecoder::new(Vec::new()))),
                Pack::Gzip(GzEncoder::new(Vec::new(), fast)),
            ),
            Coding::Deflate => (
                Unpack::Deflate(Box::new(DeflateDecoder::new(Vec::new()))),
                Pack::Deflate(DeflateEncoder::new(Vec::new(), fast)),
            ),
        };
        Work {
            unpack,
            page: Page::new(links),
            pack,
        }
    }

    fn step_bytes(&self) -> usize {
        match self.unpack {
            Unpack::Identity => usize::MAX,
            _ => PACKED_STEP_BYTES,
        }
    }

    fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        let plain = match &mut self.unpack {
            Unpack::Identity => bytes.to_vec(),
            Unpack::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                std::mem::take(decoder.get_mut())
            }
            Unpack::Deflate(decoder) => {
                decoder.write_all(bytes)?;
                std::mem::take(decoder.get_mut())
            }
        };
        let mut page = Vec::with_capacity(plain.len());
        self.page.push(&plain, &mut page);
        self.pack(page)
    }

    fn pack(&mut self, page: Vec<u8>) -> io::Result<Vec<u8>> {
        Ok(match &mut self.pack {
            Pack::Identity => page,
            Pack::Gzip(encoder) => {
                encoder.write_all(&page)?;
                std::mem::take(encoder.get_mut())
            }
            Pack::Deflate(encoder) => {
                encoder.write_all(&page)?;
                std::mem::take(encoder.get_mut())
            }
        })
    }

    fn finish(mut self) -> io::Result<Vec<u8>> {
        let rest = match &mut self.unpack {
            Unpack::Identity => Vec::new(),
            Unpack::Gzip(decoder) => {
                decoder.try_finish()?;
                std::mem::take(decoder.get_mut())
            }
            Unpack::Deflate(decoder) => {
                decoder.try_finish()?;
                std::mem::take(decoder.get_mut())
            }
        };
        let mut page = Vec::new();
        self.page.push(&rest, &mut page);
        self.page.finish(&mut page);
        let mut out = self.pack(page)?;
        match self.pack {
            Pack::Identity => {}
            Pack::Gzip(encoder) => out.extend(encoder.finish()?),
            Pack::Deflate(encoder) => out.extend(encoder.finish()?),
        }
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use std::io::Read;

    fn links() -> Links {
        Links {
            prefix: "/p".to_owned(),
            backend: "10.0.0.1:80".to_owned(),
            asked: "api".to_owned(),
        }
    }

    fn packed(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    async fn read(body: Vec<u8>, coding: Coding) -> Result<Vec<u8>, axum::Error> {
        let chunks: Vec<_> = body.chunks(7).map(Bytes::copy_from_slice).collect();
        let stream = futures::stream::iter(chunks.into_iter().map(Ok::<_, io::Error>));
        let body = rewritten(Body::from_stream(stream), coding, links());
        Ok(body.collect().await?.to_bytes().to_vec())
    }

    #[tokio::test]
    async fn a_page_is_rewritten_packed_or_not() {
        let page = "<a href='/x'>".repeat(1_000);
        let wanted = "<a href='/p/x'>".repeat(1_000);
        let plain = read(page.clone().into_bytes(), Coding::Identity)
            .await
            .unwrap();
        assert!(plain == wanted.as_bytes());
        let packed = read(packed(page.as_bytes()), Coding::Gzip).await.unwrap();
        let mut unpacked = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut unpacked)
            .unwrap();
        assert!(unpacked == wanted);
        assert!(read(b"no gzip".to_vec(), Coding::Gzip).await.is_err());
    }

    #[tokio::test]
    async fn what_unpacks_to_much_is_held_in_parts() {
        let bomb = packed(&vec![b'x'; 64 << 20]);
        let body = rewritten(Body::from(bomb), Coding::Gzip, links());
        let mut stream = body.into_data_stream();
        let mut largest = 0;
        while let Some(bytes) = stream.next().await {
            largest = largest.max(bytes.unwrap().len());
        }
        assert!(largest < 64 * 1024, "{largest}");
        let mut work = Work::new(Coding::Gzip, links());
        assert_eq!(work.step_bytes(), PACKED_STEP_BYTES);
        assert!(work.push(&[]).unwrap().len() < 64);
    }
}
