//! A watch that goes on: all changes of some keys from a revision on, as they happen.

use std::collections::VecDeque;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::metadata::MetadataValue;
use tonic_prost::ProstCodec;

use super::{ANSWER, Client, ClientError, Keys, Revision, change, path_of};
use crate::etcd::headed::Headed;
use crate::etcd::message::{WatchBody, WatchCreate, WatchRequest, WatchUnion};

/// What a watch says.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// Changes in order. Where they are not `whole`, more of the last revision are to come.
    Events { events: Vec<Revision>, whole: bool },
    /// All changes up to this revision have come.
    Progress(i64),
}

/// See [`Client::watch`]. Ended by dropping it.
pub struct Changes {
    client: Client,
    answers: Streaming<Headed<WatchBody>>,
    /// The other end takes the end of this one for the end of the watch.
    _asking: mpsc::Sender<WatchRequest>,
    ready: VecDeque<Result<Told, ClientError>>,
}

impl Client {
    /// All changes of the keys from this revision on. Ends with an error when the member has no leader for a while.
    pub async fn watch(&self, keys: &Keys, from: i64) -> Result<Changes, ClientError> {
        let create = WatchUnion::Create(WatchCreate {
            key: keys.start.clone(),
            range_end: keys.end.clone(),
            start_revision: from,
            progress_notify: true,
            // A revision may be larger than what one likes to hold.
            fragment: true,
            ..WatchCreate::default()
        });
        let union = Some(create);
        let (asking, asked) = mpsc::channel(1);
        // The channel is empty and has room.
        let _ = asking.try_send(WatchRequest { union });
        let mut request = self.signed(ReceiverStream::new(asked)).await?;
        let yes = MetadataValue::from_static("true");
        request.metadata_mut().insert("hasleader", yes);
        let begin = async {
            let codec: ProstCodec<WatchRequest, Headed<WatchBody>> = ProstCodec::default();
            let mut grpc = self.grpc().await?;
            let path = path_of("/etcdserverpb.Watch/Watch");
            let answers = grpc.streaming(request, path, codec).await;
            let mut answers = answers.map_err(|status| self.error(&status))?.into_inner();
            let first = answers.message().await;
            let first = first.map_err(|status| self.error(&status))?;
            let first = first.ok_or_else(|| self.broken("the watch ended at once"))?;
            match self.told(first.clone()) {
                // Where it did not begin, it is said why.
                Some(Err(error)) => {
                    if let ClientError::Refused { text, .. } = &error {
                        self.has_to_sign_in(text);
                    }
                    Err(error)
                }
                told => Ok((answers, told)),
            }
        };
        let began = tokio::time::timeout(ANSWER, begin).await;
        let (answers, told) = began.map_err(|_| self.silent(ANSWER))??;
        Ok(Changes {
            client: self.clone(),
            answers,
            _asking: asking,
            ready: told.into_iter().collect(),
        })
    }

    /// What an answer of the one watch of a stream means; nothing where it only says that it begins.
    fn told(&self, answer: Headed<WatchBody>) -> Option<Result<Told, ClientError>> {
        let Headed { header, body } = answer;
        if body.canceled {
            return Some(Err(self.ended(&body)));
        }
        if body.created {
            return None;
        }
        if !body.events.is_empty() {
            return Some(Ok(Told::Events {
                events: body.events.into_iter().map(change).collect(),
                whole: !body.fragment,
            }));
        }
        // Of the whole stream it is said on demand, and by some etcd before the events have come.
        (body.watch_id >= 0).then_some(Ok(Told::Progress(header.revision)))
    }

    fn ended(&self, body: &WatchBody) -> ClientError {
        let reason = &body.cancel_reason;
        if body.compact_revision != 0 {
            return ClientError::Compacted(body.compact_revision);
        }
        let refused = ["permission denied", "invalid auth token", "user name"];
        match refused.iter().any(|known| reason.contains(known)) {
            true => ClientError::Refused {
                url: self.url().into(),
                text: reason.clone(),
            },
            false => self.broken(reason),
        }
    }
}

impl Changes {
    /// Waits for what comes next. Nothing is lost when it is given up.
    pub async fn next(&mut self) -> Result<Told, ClientError> {
        loop {
            if let Some(told) = self.ready.pop_front() {
                return told;
            }
            let answer = self.answers.message().await;
            let told = self.understood(answer);
            self.ready.extend(told);
        }
    }

    /// What has come already, if anything.
    pub fn next_if_ready(&mut self) -> Option<Result<Told, ClientError>> {
        self.next().now_or_never()
    }

    fn understood(
        &self,
        answer: Result<Option<Headed<WatchBody>>, tonic::Status>,
    ) -> Option<Result<Told, ClientError>> {
        match answer {
            Ok(Some(answer)) => self.client.told(answer),
            Ok(None) => Some(Err(self.client.broken("the watch ended"))),
            Err(status) => Some(Err(self.client.error(&status))),
        }
    }
}
