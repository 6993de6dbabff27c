//! Who is who and who may do what, as files say it that a member is told: taken at start, where a file that is not usable is an
//! error, and anew whenever they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use apiserver::{ApiServer, RequestHeaderConfig, files_of_authorization, files_of_kubeconfig};

use crate::cli::AccessArgs;
use crate::pki;
use crate::reload::{Followed, Named};

type Take = fn(&ApiServer, &AccessArgs, &Path, &str) -> Result<(), String>;

/// A file that is told.
struct Told {
    /// In the log and in metrics.
    name: &'static str,
    file: PathBuf,
    /// Files that count as a part of it.
    named: Option<Named>,
    /// What is done with its content.
    take: Take,
}

fn files(args: &AccessArgs) -> Vec<Told> {
    let all: [(&'static str, &Option<PathBuf>, Option<Named>, Take); 4] = [
        (
            "token-auth-file",
            &args.token_auth_file,
            None,
            |api, _, _, text| api.take_token_file(text),
        ),
        (
            "authentication-config",
            &args.authentication_config,
            None,
            |api, _, _, text| api.take_authentication_config(text),
        ),
        (
            "authentication-token-webhook-config",
            &args.authentication_token_webhook_config,
            Some(files_of_kubeconfig),
            |api, args, file, _| {
                let time = Duration::from_secs(args.authentication_token_webhook_cache_seconds);
                api.ask_about_tokens(file, &args.authentication_token_webhook_version, time)
            },
        ),
        (
            "authorization-config",
            &args.authorization_config,
            Some(|_, text| files_of_authorization(text)),
            |api, _, _, text| api.take_authorization_config(text),
        ),
    ];
    let told = all.into_iter();
    told.filter_map(|(name, file, named, take)| {
        Some(Told {
            name,
            file: file.clone()?,
            named,
            take,
        })
    })
    .collect()
}

/// Takes the files for the first time.
pub(crate) fn take(api: &ApiServer, args: &AccessArgs) -> Result<()> {
    for Told {
        name, file, take, ..
    } in files(args)
    {
        let text = pki::read(&file)?;
        take(api, args, &file, &text)
            .map_err(|error| anyhow!("--{name} {}: {error}", file.display()))?;
    }
    Ok(())
}

/// The same files, to be followed.
pub(crate) fn followed(api: &Arc<ApiServer>, args: &AccessArgs) -> Vec<Followed> {
    let followed = files(args).into_iter().map(|told| {
        let (api, args) = (api.clone(), args.clone());
        let Told {
            name,
            file,
            named,
            take,
        } = told;
        let of_take = file.clone();
        Followed::naming(name, file, named, move |text| {
            take(&api, &args, &of_take, text).map_err(anyhow::Error::msg)
        })
    });
    let proxies = args.requestheader_client_ca_file.iter().map(|file| {
        let (api, args) = (api.clone(), args.clone());
        Followed::file("requestheader-client-ca-file", file.clone(), move |text| {
            api.trust_front_proxies(&with_ca(&args, text))
                .map_err(anyhow::Error::msg)
        })
    });
    followed.chain(proxies).collect()
}

/// Which proxies name users in headers.
pub(crate) fn request_header(args: &AccessArgs) -> Result<Option<RequestHeaderConfig>> {
    let Some(file) = &args.requestheader_client_ca_file else {
        return Ok(None);
    };
    let text = pki::read(file).context("--requestheader-client-ca-file")?;
    Ok(Some(with_ca(args, &text)))
}

fn with_ca(args: &AccessArgs, ca_pem: &str) -> RequestHeaderConfig {
    RequestHeaderConfig {
        ca_pem: ca_pem.to_owned(),
        allowed_names: args.requestheader_allowed_names.clone(),
        username_headers: args.requestheader_username_headers.clone(),
        uid_headers: args.requestheader_uid_headers.clone(),
        group_headers: args.requestheader_group_headers.clone(),
        extra_prefixes: args.requestheader_extra_headers_prefix.clone(),
    }
}
