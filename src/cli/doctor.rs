//! `tidegate doctor`: settings from arguments and environment, the steps as they go on, the verdict.

use std::{
    env,
    io::{IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use tidegate_core::escape;

use super::{args::DoctorArgs, print};
use crate::doctor::{
    Proxy, Settings, Target, Told, Trust, diagnosis::diagnose, examine, no_proxy_covers, report,
};

/// Runs `tidegate doctor`. The exit code is that of the first fault.
pub(super) fn run(args: &DoctorArgs) -> Result<ExitCode> {
    let settings = settings(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    if args.json {
        let steps = runtime.block_on(examine(&settings, &mut |_| {}));
        let verdict = diagnose(&settings, &steps);
        let document = report::json(&settings, &steps, &verdict);
        print(&escape::json(&format!("{document:#}\n")))?;
        return Ok(ExitCode::from(verdict.exit_code()));
    }
    let mut screen = Screen::new();
    screen.print(&report::head(&settings));
    let steps = runtime.block_on(examine(&settings, &mut |told| match told {
        Told::Step(step) => screen.print(&report::step(&settings, step)),
        Told::Waiting(name, so_far, most) => {
            screen.wait(name, &report::waiting(name, so_far, most));
        }
    }));
    let verdict = diagnose(&settings, &steps);
    screen.print(&report::verdict(&verdict));
    screen.end()?;
    Ok(ExitCode::from(verdict.exit_code()))
}

/// Standard output, with a line that is written over on a terminal.
struct Screen {
    terminal: bool,
    waiting: bool,
    /// What was last said to take long, where no line can be written over.
    announced: &'static str,
    result: std::io::Result<()>,
}

impl Screen {
    fn new() -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { terminal, waiting: false, announced: "", result: Ok(()) }
    }

    fn print(&mut self, text: &str) {
        if std::mem::take(&mut self.waiting) {
            self.write("\r\x1b[K");
        }
        self.write(text);
    }

    fn wait(&mut self, name: &'static str, text: &str) {
        if self.terminal {
            self.waiting = true;
            self.write(&format!("\r\x1b[K{text}"));
        } else if self.announced != name {
            self.announced = name;
            self.write(&format!("{text}\n"));
        }
    }

    fn write(&mut self, text: &str) {
        if self.result.is_ok() {
            let mut out = std::io::stdout().lock();
            self.result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }

    /// What went wrong with writing. The verdict is the exit code all the same only where it could be read.
    fn end(self) -> std::io::Result<()> {
        self.result
    }
}

fn settings(args: &DoctorArgs) -> Result<Settings> {
    let given = match &args.ca {
        None => Vec::new(),
        Some(path) => {
            let what = || format!("--ca {}", path.display());
            let read = CertificateDer::pem_file_iter(path).with_context(what)?;
            let read: Vec<_> = read.collect::<Result<_, _>>().with_context(what)?;
            if read.is_empty() {
                bail!("--ca {}: there is no certificate in it", path.display());
            }
            read
        }
    };
    Ok(Settings {
        target: args.url.clone(),
        proxy: match args.proxy.as_deref() {
            Some("none") => None,
            // Here and not by clap, whose message would repeat the password.
            Some(url) => Some(url.parse().map_err(|error: String| anyhow!("--proxy: {error}"))?),
            None => proxy_of(&args.url, |name| env::var(name).ok())?,
        },
        trust: Trust {
            given: given.into(),
            insecure: args.insecure,
            expect_issuer: args.expect_issuer.clone(),
            pin: args.pin.map(|pin| pin.0),
        },
        subprotocols: args.subprotocol.clone(),
        headers: args.header.clone(),
        origin: args.origin.clone(),
        send: args.send.clone(),
        idle: args.idle.map(|idle| idle.get()),
        patience: args.timeout.get(),
    })
}

/// The proxy that the environment names for a URL, by the names that curl and others know.
fn proxy_of(target: &Target, variable: impl Fn(&str) -> Option<String>) -> Result<Option<Proxy>> {
    let first = |names: &[&'static str]| {
        let set = names.iter().map(|name| (*name, variable(name)));
        set.filter_map(|(name, value)| Some((name, value?)))
            .find(|(_, value)| !value.trim().is_empty())
    };
    let names: &[&str] = match target.secure {
        true => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        false => &["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"],
    };
    let Some((name, proxy)) = first(names) else { return Ok(None) };
    let exempt = first(&["no_proxy", "NO_PROXY"]);
    if exempt.is_some_and(|(_, list)| no_proxy_covers(&list, target)) {
        return Ok(None);
    }
    let proxy = proxy.trim().parse();
    proxy.map(Some).map_err(|error: String| anyhow!("{name}: {error}; --proxy none goes without"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(url: &str, set: &[(&str, &str)]) -> Result<Option<String>> {
        let variable = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let proxy = proxy_of(&url.parse().unwrap(), variable)?;
        Ok(proxy.map(|proxy| proxy.to_string()))
    }

    #[test]
    fn the_proxy_is_that_of_the_scheme_unless_the_host_is_exempt() {
        let both = [("HTTPS_PROXY", "http://u:p@tls:3128"), ("HTTP_PROXY", "plain:80")];
        assert_eq!(found("wss://a", &both).unwrap().as_deref(), Some("tls:3128"));
        assert_eq!(found("ws://a", &both).unwrap().as_deref(), Some("plain:80"));
        let lower = [("https_proxy", "http://low:1"), ("HTTPS_PROXY", "http://up:2")];
        assert_eq!(found("wss://a", &lower).unwrap().as_deref(), Some("low:1"));
        assert_eq!(
            found("wss://a", &[("ALL_PROXY", "http://x:1")]).unwrap().as_deref(),
            Some("x:1")
        );
        let exempt = [("HTTPS_PROXY", "http://x:1"), ("NO_PROXY", "a.example")];
        assert_eq!(found("wss://a.example", &exempt).unwrap(), None);
        assert_eq!(found("wss://a", &[("HTTPS_PROXY", " ")]).unwrap(), None);
        let error = found("wss://a", &[("ALL_PROXY", "socks5://u:secret@x")]).unwrap_err();
        assert!(
            error.to_string().starts_with("ALL_PROXY: ") && !error.to_string().contains("secret")
        );
    }
}
