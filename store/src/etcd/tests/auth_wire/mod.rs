//! Users and roles, as clients meet them.

mod changes;
mod rights;
mod users;

use super::super::auth::*;
use super::super::message::WatchRequest;
use super::super::methods::METHODS;
use super::*;
use kv::{Permission, PermissionKind, RangeRequest};
use tonic::Code;

type Outcome = Result<(), (Code, String)>;

const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const NOBODY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const BAD_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");

fn refused(with: (Code, &str)) -> Outcome {
    Err((with.0, with.1.into()))
}

/// Somebody: by a token, by the name in a certificate, or nobody.
struct Client {
    channel: Channel,
    token: Option<String>,
}

impl Client {
    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static(path);
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc.unary(self.signed(request), path, codec);
        Ok(tokio::time::timeout(SOON, answer)
            .await
            .expect("an answer comes")?
            .into_inner())
    }

    fn signed<T>(&self, request: T) -> Request<T> {
        let mut request = Request::new(request);
        if let Some(token) = &self.token {
            let token = token.parse().unwrap();
            request.metadata_mut().insert("token", token);
        }
        request
    }

    /// Whether it was done.
    async fn does<Q: Message + 'static>(&self, path: &'static str, request: Q) -> Outcome {
        match self.ask::<Q, Headed<Empty>>(path, request).await {
            Ok(_) => Ok(()),
            Err(status) => Err((status.code(), status.message().into())),
        }
    }

    async fn auth<Q: Message + 'static>(&self, method: &'static str, request: Q) -> Outcome {
        let mut methods = METHODS.iter().map(|method| method.path);
        let path = methods.find(|path| path.strip_prefix("/etcdserverpb.Auth/") == Some(method));
        self.does(path.expect(method), request).await
    }

    async fn add_user(&self, name: &str, role: &str) {
        self.auth("UserAdd", user(name, "pw")).await.unwrap();
        let granted = self.auth("UserGrantRole", user_role(name, role));
        granted.await.unwrap();
    }

    async fn may(&self, role: &str, kind: PermissionKind, key: &str, range_end: &str) {
        let permission = Permission {
            kind: kind as i32,
            key: bytes(key),
            range_end: bytes(range_end),
        };
        let grant = RoleGrantRequest {
            name: role.into(),
            permission: Some(permission),
        };
        self.auth("RoleGrantPermission", grant).await.unwrap();
    }

    async fn put(&self, key: &str) -> Outcome {
        self.does("/etcdserverpb.KV/Put", put(key)).await
    }

    async fn get(&self, key: &str, range_end: &str) -> Outcome {
        self.does("/etcdserverpb.KV/Range", range(key, range_end))
            .await
    }

    async fn watch(&self) -> Talk<WatchRequest, Headed<WatchBody>> {
        let (say, said) = mpsc::channel(64);
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let request = self.signed(ReceiverStream::new(said));
        let answers = grpc.streaming(request, path, ProstCodec::default()).await;
        Talk {
            say,
            heard: answers.unwrap().into_inner(),
        }
    }
}

fn user(name: &str, password: &str) -> UserAddRequest {
    UserAddRequest {
        name: name.into(),
        password: password.into(),
        ..UserAddRequest::default()
    }
}

fn name(name: &str) -> NameRequest {
    NameRequest { name: name.into() }
}

fn user_role(user: &str, role: &str) -> UserRoleRequest {
    UserRoleRequest {
        user: user.into(),
        role: role.into(),
    }
}

fn password(name: &str, password: &str) -> UserChangePasswordRequest {
    UserChangePasswordRequest {
        name: name.into(),
        password: password.into(),
        ..UserChangePasswordRequest::default()
    }
}

fn put(key: &str) -> kv::PutRequest {
    kv::PutRequest {
        key: bytes(key),
        value: bytes("v"),
        ..kv::PutRequest::default()
    }
}

fn range(key: &str, range_end: &str) -> RangeRequest {
    RangeRequest {
        key: bytes(key),
        range_end: bytes(range_end),
        ..RangeRequest::default()
    }
}

fn create(key: &str, range_end: &str) -> WatchRequest {
    WatchRequest {
        union: Some(WatchUnion::Create(WatchCreate {
            key: bytes(key),
            range_end: bytes(range_end),
            ..WatchCreate::default()
        })),
    }
}

/// A server with the user `root` and, in role `r`, the user `u`, who reads a to c and writes b to d.
struct Guarded {
    bench: Bench,
    root: Client,
    u: Client,
}

impl Guarded {
    async fn new() -> Guarded {
        let options = Options {
            bcrypt_cost: 4,
            ..Options::default()
        };
        let bench = Bench::of(MemStore::new(), options).await;
        let mut root = nobody(&bench).await;
        root.add_user("root", "root").await;
        root.auth("RoleAdd", name("r")).await.unwrap();
        root.add_user("u", "r").await;
        root.may("r", PermissionKind::Read, "a", "c").await;
        root.may("r", PermissionKind::Write, "b", "d").await;
        root.auth("AuthEnable", Empty {}).await.unwrap();
        root = signed_in(&bench, "root").await.unwrap();
        let u = signed_in(&bench, "u").await.unwrap();
        Guarded { bench, root, u }
    }
}

async fn nobody(bench: &Bench) -> Client {
    Client {
        channel: connect(&bench.front, bench.front.clients.nameless()).await,
        token: None,
    }
}

async fn by_certificate(bench: &Bench, name: &str) -> Client {
    let endpoint = Endpoint::from_static("http://pipe");
    Client {
        channel: connect_as(endpoint, &bench.front, Some(name)).await,
        token: None,
    }
}

async fn signed_in(bench: &Bench, name: &str) -> Result<Client, Status> {
    let mut client = nobody(bench).await;
    client.token = Some(token(bench, name, "pw").await?);
    Ok(client)
}

async fn token(bench: &Bench, name: &str, password: &str) -> Result<String, Status> {
    let request = AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    let path = "/etcdserverpb.Auth/Authenticate";
    let answer: Headed<AuthenticateBody> = bench.call(path, request).await?;
    Ok(answer.body.token)
}
