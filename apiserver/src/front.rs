//! The server as a service, for listeners and for agents of the same process.
//!
//! There is one handler for all paths, so nothing is gained by a router: it looks for the path twice, keeps its pieces, and
//! boxes what it calls three times. What axum's router does to an answer is done here as well.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, Method, Request, header};
use http_body::Body as _;

use crate::{ApiServer, handler};

/// See the module head. In-process callers put an [`auth::User`] into the request's extensions, or an `Arc` of one, which is
/// trusted; the TLS layer puts a [`crate::PeerCertificate`] there.
#[derive(Clone)]
pub struct Front(Arc<ApiServer>);

impl Front {
    pub(crate) fn new(server: Arc<ApiServer>) -> Front {
        Front(server)
    }
}

impl tower::Service<Request<Body>> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.0.clone();
        Box::pin(async move {
            let method = request.method().clone();
            let response = handler::handle(server, request).await;
            Ok(finished(&method, response))
        })
    }
}

/// The answer to a request by this method as it is sent: with its length where that is known, and to HEAD without its body.
fn finished(method: &Method, mut response: Response) -> Response {
    let size = response.body().size_hint();
    if *method == Method::CONNECT && response.status().is_success() {
        // RFC 9110, 9.3.6: what follows is no content.
        let headers = response.headers();
        let has_content = headers.contains_key(header::CONTENT_LENGTH)
            || headers.contains_key(header::TRANSFER_ENCODING)
            || size.lower() != 0;
        if has_content {
            *response.body_mut() = Body::empty();
        }
        return response;
    }
    if let Some(size) = size.exact()
        && !response.headers().contains_key(header::CONTENT_LENGTH)
    {
        let size = HeaderValue::from(size);
        response.headers_mut().insert(header::CONTENT_LENGTH, size);
    }
    if *method == Method::HEAD {
        *response.body_mut() = Body::empty();
    }
    response
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    #[derive(Clone, Copy, Debug)]
    struct Answer {
        code: u16,
        text: &'static str,
        /// Whether its length is not known.
        is_stream: bool,
        header: Option<(&'static str, &'static str)>,
    }

    impl Answer {
        fn response(self) -> Response {
            let body = match self.is_stream {
                true => {
                    let piece = Ok::<_, Infallible>(Bytes::from_static(self.text.as_bytes()));
                    Body::from_stream(futures::stream::iter([piece]))
                }
                false => Body::from(self.text),
            };
            let mut response = Response::new(body);
            *response.status_mut() = StatusCode::from_u16(self.code).unwrap();
            if let Some((name, value)) = self.header {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            response
        }
    }

    async fn told(response: Response) -> (StatusCode, HeaderMap, Bytes) {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, body)
    }

    #[tokio::test]
    async fn answers_are_sent_as_a_router_sends_them() {
        let plain = Answer {
            code: 200,
            text: "abc",
            is_stream: false,
            header: None,
        };
        let answers = [
            plain,
            Answer { text: "", ..plain },
            Answer { code: 404, ..plain },
            Answer {
                is_stream: true,
                ..plain
            },
            Answer {
                header: Some(("content-length", "3")),
                ..plain
            },
            Answer {
                text: "",
                header: Some(("transfer-encoding", "chunked")),
                ..plain
            },
            Answer {
                code: 101,
                text: "",
                ..plain
            },
        ];
        for answer in answers {
            for method in [Method::GET, Method::HEAD, Method::POST, Method::CONNECT] {
                let router: Router =
                    Router::new().fallback(move || async move { answer.response() });
                let request = Request::builder().method(method.clone()).uri("/a/b");
                let request = request.body(Body::empty()).unwrap();
                let theirs = told(router.oneshot(request).await.unwrap()).await;
                let ours = told(finished(&method, answer.response())).await;
                assert_eq!(ours, theirs, "{method} {answer:?}");
            }
        }
    }
}
