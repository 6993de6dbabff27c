//! The query of a request.

use crate::runtime::ExecRequest;

/// The API server's names (`input`, `output`, `error`) and the public ones (`stdin`, ..) mean the same.
pub(crate) fn exec_request(query: &[(String, String)]) -> ExecRequest {
    let mut request = ExecRequest::default();
    for (name, value) in query {
        let on = is_true(value);
        match name.as_str() {
            "command" => request.command.push(value.clone()),
            "input" | "stdin" => request.stdin |= on,
            "output" | "stdout" => request.stdout |= on,
            "error" | "stderr" => request.stderr |= on,
            "tty" => request.tty |= on,
            _ => {}
        }
    }
    request
}

pub(crate) fn is_true(value: &str) -> bool {
    matches!(value, "1" | "true" | "True" | "TRUE" | "t" | "T")
}

/// Decodes a query string, repeated names kept in order.
pub(crate) fn parse_query(query: Option<&str>) -> Vec<(String, String)> {
    let pairs = query
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
        .collect()
}

fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push((high * 16 + low) as u8);
                        rest = ahead;
                    }
                    _ => bytes.push(byte),
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_in_order() {
        let query = parse_query(Some(
            "command=sh&command=-c&command=echo+a%26b%zz&output=1&tty=true&stdin=0",
        ));
        let request = exec_request(&query);
        assert_eq!(request.command, ["sh", "-c", "echo a&b%zz"]);
        assert!(request.stdout && request.tty && !request.stdin && !request.stderr);
    }
}
