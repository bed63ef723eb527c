//! From the paths of others to those of a `WebSocketRoute`: prefixes by bytes, and regular expressions that are no more than a
//! few literal paths.
//!
//! Pure, and of the standard library alone.

/// The most literal paths that one regular expression may stand for.
const MOST_PATHS: usize = 16;

/// A path that a request is compared with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Whether the whole path is meant, not its beginning.
    pub exact: bool,
    /// Begins with a slash.
    pub value: String,
}

impl Path {
    /// Everything below `value`, by whole elements.
    pub fn prefix(value: impl Into<String>) -> Self {
        Self { exact: false, value: value.into() }
    }

    /// `value` and nothing else.
    pub fn exact(value: impl Into<String>) -> Self {
        Self { exact: true, value: value.into() }
    }

    /// Whether every request that this takes is below `other`, by whole elements.
    pub fn is_below(&self, other: &Self) -> bool {
        let (own, stem) = (self.value.trim_end_matches('/'), other.value.trim_end_matches('/'));
        if other.exact {
            return self == other;
        }
        own.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// The paths of a regular expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Literal {
    /// What it stands for.
    pub paths: Vec<Path>,
    /// Whether it also takes paths that go on within an element (`^/ws` takes `/wsx`), which a prefix does not.
    pub within_elements: bool,
}

/// A decoded path as it stands in requests: what is no graphic ASCII is percent-encoded. `None` where no sound path comes of it.
pub fn encode(path: &str) -> Option<String> {
    if !path.starts_with('/') || path.contains("//") {
        return None;
    }
    if path.split('/').any(|element| matches!(element, "." | "..")) {
        return None;
    }
    let mut text = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'?' | b'#' | b'%' => text.push_str(&format!("%{byte:02X}")),
            _ if byte.is_ascii_graphic() => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    (text.len() <= 1024).then_some(text)
}

/// The literal paths that a regular expression (PCRE) stands for, if that is all it does: `^/ws`, `^/(ws|live)/`, `^/ws$`,
/// `^/ws(/|$)`, `^/ws/?$`, `^/ws/.*`.
pub fn literal(regex: &str) -> Option<Literal> {
    let body = regex.strip_prefix('^')?;
    let mut stems = vec![String::new()];
    let mut rest = body;
    loop {
        if let Some(tail) = Tail::of(rest) {
            return tail.apply(stems);
        }
        let next = rest.chars().next()?;
        match next {
            '(' => {
                let (branches, after) = group(&rest[1..])?;
                let mut longer = Vec::new();
                for stem in &stems {
                    longer.extend(branches.iter().map(|branch| format!("{stem}{branch}")));
                }
                stems = longer;
                rest = after;
            }
            _ => {
                let (character, after) = character(rest)?;
                stems.iter_mut().for_each(|stem| stem.push(character));
                rest = after;
            }
        }
        if stems.len() > MOST_PATHS || rest.starts_with(['?', '*', '+', '{']) {
            return Tail::of_quantified(rest, &mut stems);
        }
    }
}

/// How a regular expression ends.
enum Tail {
    /// Nothing more, or `.*`: anything may follow.
    Open,
    /// `$`
    End,
    /// `/?$`
    EndOrSlash,
    /// `(/|$)`, `(/.*)?$` and the like: an element ends here.
    Element,
    /// `.+`: something must follow.
    Something,
}

impl Tail {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "" | ".*" | ".*$" | "(.*)" | "(.*)$" => Self::Open,
            "$" => Self::End,
            "/?$" => Self::EndOrSlash,
            "(/|$)" | "($|/)" | "(?:/|$)" | "(?:$|/)" | "(/.*)?$" | "(?:/.*)?$" | "(/|$)(.*)"
            | "(/|$)(.*)$" | "(/|$).*" | "(/|$).*$" | "(/.*|$)" => Self::Element,
            ".+" | ".+$" | "(.+)" | "(.+)$" => Self::Something,
            _ => return None,
        })
    }

    /// A character with a question mark is known only as a slash at the end.
    fn of_quantified(rest: &str, stems: &mut [String]) -> Option<Literal> {
        let slashed = stems.iter().all(|stem| stem.ends_with('/'));
        if !slashed || !matches!(rest, "?" | "?$") || stems.len() > MOST_PATHS {
            return None;
        }
        let stems = stems.iter().map(|stem| stem[..stem.len() - 1].to_owned()).collect();
        if rest == "?$" { Self::EndOrSlash.apply(stems) } else { Self::Open.apply(stems) }
    }

    fn apply(&self, stems: Vec<String>) -> Option<Literal> {
        let mut paths = Vec::new();
        let mut within_elements = false;
        for stem in stems {
            if stem.is_empty() {
                // "^" and "^.*" are everything.
                if !matches!(self, Self::Open) {
                    return None;
                }
                paths.push(Path::prefix("/"));
                continue;
            }
            let stem = encode(&stem)?;
            // nginx has merged slashes before it looks: where one stands already, none follows.
            let slashed = stem.ends_with('/');
            match self {
                Self::End | Self::EndOrSlash | Self::Element if slashed => {
                    paths.push(Path::exact(stem));
                }
                Self::Open | Self::Something => {
                    within_elements |= !slashed;
                    paths.push(Path::prefix(stem));
                }
                Self::Element => paths.push(Path::prefix(stem)),
                Self::End => paths.push(Path::exact(stem)),
                Self::EndOrSlash => {
                    paths.push(Path::exact(format!("{stem}/")));
                    paths.push(Path::exact(stem));
                }
            }
        }
        paths.sort();
        paths.dedup();
        (paths.len() <= MOST_PATHS).then_some(Literal { paths, within_elements })
    }
}

/// The literal alternatives of a group, and what follows it.
fn group(text: &str) -> Option<(Vec<String>, &str)> {
    let mut rest = text.strip_prefix("?:").unwrap_or(text);
    let mut branches = vec![String::new()];
    loop {
        match rest.chars().next()? {
            ')' => {
                rest = &rest[1..];
                break;
            }
            '|' => {
                branches.push(String::new());
                rest = &rest[1..];
            }
            _ => {
                let (character, after) = character(rest)?;
                branches.last_mut()?.push(character);
                rest = after;
            }
        }
        if rest.starts_with(['?', '*', '+', '{']) {
            return None;
        }
    }
    (branches.len() <= MOST_PATHS).then_some((branches, rest))
}

/// One character that stands for itself.
fn character(text: &str) -> Option<(char, &str)> {
    let mut chars = text.chars();
    let mut next = chars.next()?;
    if next == '\\' {
        next = chars.next().filter(|escaped| !escaped.is_ascii_alphanumeric())?;
    } else if matches!(
        next,
        '^' | '$' | '.' | '[' | ']' | '|' | '(' | ')' | '?' | '*' | '+' | '{' | '}'
    ) {
        return None;
    }
    Some((next, chars.as_str()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn shown(regex: &str) -> String {
        let Some(Literal { paths, within_elements }) = literal(regex) else { return "none".into() };
        let paths: Vec<_> = paths
            .iter()
            .map(|path| format!("{}{}", if path.exact { "=" } else { "" }, path.value))
            .collect();
        format!("{}{}", paths.join(" "), if within_elements { " …" } else { "" })
    }

    #[test]
    fn expressions_that_are_a_few_literal_paths_are_those() {
        for (regex, paths) in [
            ("^/ws", "/ws …"),
            ("^/ws/", "/ws/"),
            ("^/ws$", "=/ws"),
            ("^/ws/?$", "=/ws =/ws/"),
            ("^/ws/?", "/ws …"),
            ("^/ws(/|$)", "/ws"),
            ("^/ws(/|$)(.*)", "/ws"),
            ("^/ws//?$", "=/ws/"),
            ("^/ws/(/|$)", "=/ws/"),
            ("^//?$", "=/"),
            ("^/ws/.*", "/ws/"),
            ("^/(ws|live)/", "/live/ /ws/"),
            ("^/(?:ws|live)$", "=/live =/ws"),
            ("^/api/v1\\.0/ws", "/api/v1.0/ws …"),
            ("^", "/"),
            ("^/", "/"),
        ] {
            assert_eq!(shown(regex), paths, "{regex}");
        }
    }

    #[test]
    fn what_is_more_than_that_is_not_taken_for_it() {
        for regex in [
            "/ws$",
            "\\.php$",
            "^/user/[^/]+/ws",
            "^/ws\\d+",
            "^/(a|b+)/",
            "^/a*b",
            "^/(a|(b|c))",
            "^/ws(.*)/x",
            "^/a{2}",
            "^/a|/b",
            "^ws",
            "^$",
            "^/x(",
            "^/a/../b",
        ] {
            assert_eq!(shown(regex), "none", "{regex}");
        }
    }

    #[test]
    fn paths_are_encoded_as_requests_have_them() {
        assert_eq!(encode("/a b/ü").as_deref(), Some("/a%20b/%C3%BC"));
        assert_eq!(encode("/a?b").as_deref(), Some("/a%3Fb"));
        for bad in ["ws", "", "/a//b", "/a/./b", "/.."] {
            assert_eq!(encode(bad), None, "{bad}");
        }
    }

    #[test]
    fn below_means_by_whole_elements() {
        let below = |a: &str, b: &str| Path::prefix(a).is_below(&Path::prefix(b));
        assert!(below("/ws/a", "/ws") && below("/ws", "/") && below("/ws/", "/ws"));
        assert!(!below("/wsx", "/ws") && !below("/", "/ws"));
        assert!(!Path::prefix("/a").is_below(&Path::exact("/a")));
    }
}
