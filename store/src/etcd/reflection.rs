//! gRPC server reflection: clients that know no schema ask for it. Versions `v1` and `v1alpha` are the same but for
//! their name.

use prost::Message;

use super::errors::Fault;
use super::rpc::{Answers, Call, Incoming};
use super::schema::SCHEMA;

/// gRPC's number of "not found".
const NOT_FOUND: i32 = 5;
const UNIMPLEMENTED: i32 = 12;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Question {
    #[prost(string, tag = "1")]
    pub(super) host: String,
    #[prost(oneof = "Asked", tags = "3, 4, 6, 7")]
    pub(super) asked: Option<Asked>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Asked {
    #[prost(string, tag = "3")]
    FileByName(String),
    #[prost(string, tag = "4")]
    FileContaining(String),
    #[prost(string, tag = "6")]
    ExtensionNumbers(String),
    #[prost(string, tag = "7")]
    Services(String),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Answer {
    #[prost(string, tag = "1")]
    pub(super) valid_host: String,
    #[prost(message, optional, tag = "2")]
    pub(super) original: Option<Question>,
    #[prost(oneof = "Told", tags = "4, 6, 7")]
    pub(super) told: Option<Told>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Told {
    #[prost(message, tag = "4")]
    Files(Files),
    #[prost(message, tag = "6")]
    Services(Services),
    #[prost(message, tag = "7")]
    Error(Error),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub(super) descriptors: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Services {
    #[prost(message, repeated, tag = "1")]
    pub(super) service: Vec<Service>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Service {
    #[prost(string, tag = "1")]
    pub(super) name: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Error {
    #[prost(int32, tag = "1")]
    pub(super) code: i32,
    #[prost(string, tag = "2")]
    pub(super) message: String,
}

pub(super) async fn reflect(
    call: Call,
    questions: Incoming<Question>,
) -> Result<Answers<Answer>, Fault> {
    let stop = call.front.stop.clone();
    let state = Some((questions, stop));
    Ok(Box::pin(futures::stream::unfold(state, |state| async {
        let (mut questions, stop) = state?;
        let question = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(None),
            question = questions.next() => question,
        };
        match question {
            Ok(None) => None,
            Ok(Some(question)) => Some((Ok(answer(question.request)), Some((questions, stop)))),
            Err(fault) => Some((Err(fault), None)),
        }
    })))
}

fn answer(question: Question) -> Answer {
    let error = |code, message: String| Told::Error(Error { code, message });
    let told = match &question.asked {
        Some(Asked::Services(_)) => Told::Services(Services {
            service: SCHEMA
                .services()
                .into_iter()
                .map(|name| Service { name })
                .collect(),
        }),
        Some(Asked::FileByName(name) | Asked::FileContaining(name)) => {
            match SCHEMA.descriptors(name) {
                Some(descriptors) => Told::Files(Files { descriptors }),
                None => error(NOT_FOUND, format!("{name} is not known")),
            }
        }
        Some(Asked::ExtensionNumbers(name)) => {
            error(NOT_FOUND, format!("{name} has no extensions"))
        }
        None => error(UNIMPLEMENTED, "an unknown question".into()),
    };
    Answer {
        valid_host: question.host.clone(),
        original: Some(question),
        told: Some(told),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asked: Asked) -> Told {
        let question = Question {
            host: String::new(),
            asked: Some(asked),
        };
        answer(question).told.unwrap()
    }

    #[test]
    fn services_files_and_unknown_names() {
        let Told::Services(services) = ask(Asked::Services(String::new())) else {
            panic!("no services");
        };
        assert!(
            services
                .service
                .iter()
                .any(|service| service.name == "etcdserverpb.KV")
        );
        let Told::Files(files) = ask(Asked::FileContaining("etcdserverpb.Watch".into())) else {
            panic!("no files");
        };
        assert_eq!(files.descriptors.len(), 3);
        let Told::Error(error) = ask(Asked::FileByName("none.proto".into())) else {
            panic!("a file out of nothing");
        };
        assert_eq!(error.code, NOT_FOUND);
    }
}
