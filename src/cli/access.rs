//! Who is who, and who may do what.

use std::path::PathBuf;

use clap::Args;

/// Files about users and rights; what they say holds anew whenever they change.
#[derive(Args, Clone)]
pub(crate) struct AccessArgs {
    /// AuthenticationConfiguration: issuers of tokens (OpenID Connect), and who may come without credentials
    #[arg(long, env = "KONTIKI_AUTHENTICATION_CONFIG", value_name = "FILE")]
    pub(crate) authentication_config: Option<PathBuf>,
    /// AuthorizationConfiguration: who is asked whether a user may do something [default: Node, then RBAC]
    #[arg(long, env = "KONTIKI_AUTHORIZATION_CONFIG", value_name = "FILE")]
    pub(crate) authorization_config: Option<PathBuf>,
    /// Kubeconfig of a webhook that knows tokens which nobody else knows
    #[arg(
        long,
        env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_CONFIG",
        value_name = "FILE"
    )]
    pub(crate) authentication_token_webhook_config: Option<PathBuf>,
    /// Version of the TokenReviews that it gets
    #[arg(long, value_name = "VERSION", env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_VERSION", default_value = "v1", value_parser = ["v1", "v1beta1"])]
    pub(crate) authentication_token_webhook_version: String,
    /// Its answers hold for so many seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "KONTIKI_AUTHENTICATION_TOKEN_WEBHOOK_CACHE_SECONDS",
        default_value_t = 120
    )]
    pub(crate) authentication_token_webhook_cache_seconds: u64,
    /// Static tokens, a line each: token,user,uid,"group1,group2"
    #[arg(long, env = "KONTIKI_TOKEN_AUTH_FILE", value_name = "FILE")]
    pub(crate) token_auth_file: Option<PathBuf>,
    /// Authorities of proxies that name users in headers
    #[arg(
        long,
        env = "KONTIKI_REQUESTHEADER_CLIENT_CA_FILE",
        value_name = "FILE"
    )]
    pub(crate) requestheader_client_ca_file: Option<PathBuf>,
    /// Common names of these proxies, separated by commas [default: any]
    #[arg(
        long,
        value_name = "NAME",
        env = "KONTIKI_REQUESTHEADER_ALLOWED_NAMES",
        value_delimiter = ','
    )]
    pub(crate) requestheader_allowed_names: Vec<String>,
    /// Headers with the user's name
    #[arg(
        long,
        value_name = "HEADER",
        env = "KONTIKI_REQUESTHEADER_USERNAME_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-User"
    )]
    pub(crate) requestheader_username_headers: Vec<String>,
    /// Headers with the user's uid
    #[arg(
        long,
        value_name = "HEADER",
        env = "KONTIKI_REQUESTHEADER_UID_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Uid"
    )]
    pub(crate) requestheader_uid_headers: Vec<String>,
    /// Headers with the user's groups
    #[arg(
        long,
        value_name = "HEADER",
        env = "KONTIKI_REQUESTHEADER_GROUP_HEADERS",
        value_delimiter = ',',
        default_value = "X-Remote-Group"
    )]
    pub(crate) requestheader_group_headers: Vec<String>,
    /// Prefixes of headers with whatever else is known of the user
    #[arg(
        long,
        value_name = "PREFIX",
        env = "KONTIKI_REQUESTHEADER_EXTRA_HEADERS_PREFIX",
        value_delimiter = ',',
        default_value = "X-Remote-Extra-"
    )]
    pub(crate) requestheader_extra_headers_prefix: Vec<String>,
}
