//! What a simulated container does, read from its command line.

use std::time::Duration;

/// Output that a simulated container may produce.
const LOG_LINES_MAX: usize = 1000;

/// What a simulated container does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Program {
    pub(crate) lines: Vec<(Duration, String)>,
    /// When it ends by itself and with which code.
    pub(crate) end: Option<(Duration, i64)>,
}

/// Reads a command line as far as it can be simulated.
pub(crate) fn program(command: &[String], args: &[String]) -> Program {
    let words: Vec<&str> = command.iter().chain(args).map(String::as_str).collect();
    let script = match words.as_slice() {
        [shell, flag, script, ..]
            if shell.ends_with("sh") && flag.starts_with('-') && flag.contains('c') =>
        {
            (*script).to_owned()
        }
        words => words.join(" "),
    };
    let mut program = Program::default();
    let mut at = Duration::ZERO;
    let mut code = 0;
    if script.trim().is_empty() {
        return program;
    }
    for statement in script
        .split([';', '\n'])
        .flat_map(|part| part.split("&&"))
        .map(str::trim)
    {
        let (verb, argument) = statement.split_once(' ').unwrap_or((statement, ""));
        match verb.rsplit('/').next().unwrap_or(verb) {
            "" | ":" | "true" => code = 0,
            "false" => code = 1,
            "echo" => {
                if program.lines.len() < LOG_LINES_MAX {
                    program
                        .lines
                        .push((at, argument.trim_matches(['"', '\'']).to_owned()));
                }
                code = 0;
            }
            "sleep" => match argument
                .trim()
                .parse::<f64>()
                .map(Duration::try_from_secs_f64)
            {
                Ok(Ok(pause)) => {
                    at = at.saturating_add(pause);
                    code = 0;
                }
                _ => return program,
            },
            "exit" => {
                program.end = Some((at, argument.trim().parse().unwrap_or(0)));
                return program;
            }
            _ => return program,
        }
    }
    program.end = Some((at, code));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(command: &[&str]) -> Vec<String> {
        command.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn commands_are_simulated_as_far_as_they_are_understood() {
        let second = Duration::from_secs(1);
        type Case<'a> = (&'a [&'a str], Option<(Duration, i64)>);
        let cases: &[Case<'_>] = &[
            (&[], None),
            (&["nginx"], None),
            (&["sleep", "1"], Some((second, 0))),
            (&["/bin/false"], Some((Duration::ZERO, 1))),
            (&["sh", "-c", "echo hi; sleep 1; exit 3"], Some((second, 3))),
            (&["sh", "-c", "sleep 1 && serve"], None),
            (&["sleep", "infinity"], None),
            (&["sleep", "-1"], None),
        ];
        for (command, end) in cases {
            assert_eq!(program(&words(command), &[]).end, *end, "{command:?}");
        }
        assert_eq!(
            program(&words(&["sh", "-c", "echo 'hi'"]), &[]).lines,
            [(Duration::ZERO, "hi".to_owned())]
        );
    }
}
