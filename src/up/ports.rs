//! Whether the ports of a plan can be had.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::POLL;

const PORT_PATIENCE: Duration = Duration::from_secs(5);

pub(super) fn require_free(port: u16, what: &str, flag: &str, is_new: bool) -> Result<()> {
    let other = match is_new {
        true => format!("choose another with {flag}"),
        false => format!(
            "make the cluster anew on another: `kontiki reset`, then `kontiki up {flag} PORT`"
        ),
    };
    // A member that was just killed has its ports for a moment longer than its process can be seen.
    let patience = if is_new {
        Duration::ZERO
    } else {
        PORT_PATIENCE
    };
    match bind_within(port, patience) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => bail!(
            "port {port} ({what}) is in use by another program. `ss -ltnp 'sport = :{port}'` shows which. Stop it, or {other}"
        ),
        Err(error) => Err(error).with_context(|| format!("cannot listen on port {port} ({what})")),
    }
}

pub(crate) fn is_free(port: u16) -> bool {
    bind_within(port, Duration::ZERO).is_ok()
}

/// Whether the port can be had, tried again and again while it is in use.
fn bind_within(port: u16, patience: Duration) -> std::io::Result<()> {
    let deadline = Instant::now() + patience;
    loop {
        match TcpListener::bind(("0.0.0.0", port)) {
            Err(error)
                if error.kind() == std::io::ErrorKind::AddrInUse && Instant::now() < deadline =>
            {
                std::thread::sleep(POLL);
            }
            bound => return bound.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_named_with_the_way_out() {
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = require_free(port, "API port of member m1", "--api-port", true)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(&port.to_string()) && error.contains("--api-port"),
            "{error}"
        );
    }

    #[test]
    fn a_port_that_is_given_up_in_a_moment_is_waited_for() {
        let taken = TcpListener::bind(("0.0.0.0", 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = bind_within(port, Duration::ZERO).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| bind_within(port, Duration::from_secs(60)));
            drop(taken);
            assert!(waiting.join().unwrap().is_ok());
        });
    }
}
