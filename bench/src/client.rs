//! The few etcd calls that the load needs, on tonic without generated code: the messages are `kv`'s.

use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use kv::{PutRequest, PutResponse, RangeRequest, RangeResponse};
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_prost::ProstCodec;

use crate::cluster::Tls;

#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    /// Connects on first use; a lost connection is made anew by the next call.
    pub(crate) fn new(port: u16, tls: &Tls) -> Result<Client> {
        let config = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(
                std::fs::read(&tls.ca).context("reading the CA")?,
            ))
            .identity(Identity::from_pem(
                std::fs::read(&tls.cert)?,
                std::fs::read(&tls.key)?,
            ))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://127.0.0.1:{port}"))?
            .tls_config(config)?
            .connect_timeout(Duration::from_millis(500))
            .tcp_nodelay(true);
        Ok(Client {
            channel: endpoint.connect_lazy(),
        })
    }

    pub(crate) async fn put(&self, key: Vec<u8>, value: Bytes) -> Result<(), tonic::Status> {
        let request = PutRequest {
            key: key.into(),
            value,
            ..Default::default()
        };
        let _: PutResponse = self.unary("/etcdserverpb.KV/Put", request).await?;
        Ok(())
    }

    pub(crate) async fn get(&self, key: &[u8]) -> Result<RangeResponse, tonic::Status> {
        let request = RangeRequest {
            key: Bytes::copy_from_slice(key),
            ..Default::default()
        };
        self.unary("/etcdserverpb.KV/Range", request).await
    }

    async fn unary<Q, A>(&self, path: &'static str, request: Q) -> Result<A, tonic::Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready()
            .await
            .map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let mut request = tonic::Request::new(request);
        request.set_timeout(Duration::from_secs(10));
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc
            .unary(request, http::uri::PathAndQuery::from_static(path), codec)
            .await?;
        Ok(answer.into_inner())
    }
}

/// `Maintenance.Status`, the two fields of it that tell the leader.
#[derive(Clone, PartialEq, prost::Message)]
struct StatusRequest {}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(uint64, tag = "2")]
    member_id: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(uint64, tag = "4")]
    leader: u64,
}

impl Client {
    /// Whether the member behind this connection leads.
    pub(crate) async fn leads(&self) -> Result<bool, tonic::Status> {
        let status: StatusResponse = self
            .unary("/etcdserverpb.Maintenance/Status", StatusRequest {})
            .await?;
        Ok(status.leader != 0
            && status
                .header
                .is_some_and(|header| header.member_id == status.leader))
    }
}
