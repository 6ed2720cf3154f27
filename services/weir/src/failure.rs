use std::error::Error;
use std::fmt::Display;
use std::process::ExitCode;

/// `EX_USAGE` of sysexits.h: the command or the configuration is ill-formed.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE` of sysexits.h: something that is needed does not answer.
const UNAVAILABLE: u8 = 69;

/// Why the command did not do what it was asked to: a sentence for people and an exit code for scripts.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    pub(crate) fn usage(message: impl Display) -> Self {
        Self { code: USAGE, message: message.to_string() }
    }

    /// With the whole chain of causes.
    pub(crate) fn unavailable(what: &str, error: &(dyn Error + 'static)) -> Self {
        let mut message = what.to_owned();
        let mut cause = Some(error);
        while let Some(error) = cause {
            let text = error.to_string();
            // Many errors repeat their source in their own text.
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        // A driver's error may quote a URL with its password; our own messages never repeat a value.
        Self { code: UNAVAILABLE, message: weir_telemetry::redact(&message).into_owned() }
    }

    /// A service refused or did not answer; what was asked for may be what is wrong.
    pub(crate) fn refused(what: &str, status: &tonic::Status) -> Self {
        use tonic::Code;
        let asked = matches!(status.code(), Code::InvalidArgument | Code::AlreadyExists | Code::NotFound);
        Self { code: if asked { USAGE } else { UNAVAILABLE }, message: format!("{what}: {}", status.message()) }
    }

    /// The books do not balance; what differs has been printed.
    pub(crate) fn drift() -> Self {
        Self { code: 1, message: String::new() }
    }

    #[expect(clippy::print_stderr, reason = "the last word of a command, when no log may have been started")]
    pub(crate) fn report(self) -> ExitCode {
        if !self.message.is_empty() {
            eprintln!("{}", self.message.trim_end());
        }
        ExitCode::from(self.code)
    }
}

impl From<weir_config::Errors> for Failure {
    fn from(errors: weir_config::Errors) -> Self {
        Self::usage(errors)
    }
}
