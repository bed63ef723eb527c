//! Where included files come from: the disk, by the command line's means, or the output of `nginx -T`.

use std::collections::BTreeMap;

/// The line by which `nginx -T` begins each file.
const MARK: &str = "# configuration file ";

/// Reads the files that a configuration includes, and those of certificates.
pub trait Files {
    /// The text of a file, or why it cannot be read.
    fn read(&self, path: &str) -> Result<String, String>;

    /// Whether there is something under this path, readable or not.
    fn exists(&self, path: &str) -> bool {
        self.read(path).is_ok()
    }

    /// The files that fit a pattern with `*`, `?` and `[…]`, in order; none is no error.
    fn list(&self, pattern: &str) -> Result<Vec<String>, String>;
}

/// The files in the output of `nginx -T`.
#[derive(Debug, Default)]
pub struct Dump {
    files: BTreeMap<String, String>,
}

impl Dump {
    /// The path of the main file, and all of them; `None` if the text is not such an output.
    pub fn of(text: &str) -> Option<(String, Self)> {
        let mut dump = Self::default();
        let mut first = None;
        let mut current: Option<(String, String)> = None;
        for line in text.split_inclusive('\n') {
            let path = line.trim_end().strip_prefix(MARK).and_then(|path| path.strip_suffix(':'));
            if let Some(path) = path {
                first.get_or_insert_with(|| path.to_owned());
                if let Some((path, text)) = current.replace((path.to_owned(), String::new())) {
                    dump.files.insert(path, text);
                }
            } else if let Some((_, text)) = &mut current {
                text.push_str(line);
            }
        }
        dump.files.extend(current);
        Some((first?, dump))
    }
}

impl Files for Dump {
    fn read(&self, path: &str) -> Result<String, String> {
        self.files
            .get(path)
            .cloned()
            .ok_or_else(|| "it is not in the output of nginx -T".to_owned())
    }

    fn list(&self, pattern: &str) -> Result<Vec<String>, String> {
        let fitting = |path: &&String| {
            let (path, pattern) = (path.split('/'), pattern.split('/'));
            path.clone().count() == pattern.clone().count()
                && path.zip(pattern).all(|(path, pattern)| fits(pattern, path))
        };
        Ok(self.files.keys().filter(fitting).cloned().collect())
    }
}

/// Whether the name of a file fits a pattern, as the shell has it (POSIX, glob(7)): a dot at the front has to be written.
pub fn fits(pattern: &str, name: &str) -> bool {
    if name.starts_with('.') && !pattern.starts_with('.') {
        return false;
    }
    let pattern: Vec<_> = pattern.chars().collect();
    let name: Vec<_> = name.chars().collect();
    // Where the last star was, and what it has taken: nothing before it is tried again.
    let (mut at, mut next, mut star) = (0, 0, None);
    while next < name.len() {
        let one = pattern.get(at).and_then(|wanted| match wanted {
            '*' => None,
            '?' => Some(1),
            '[' => class(&pattern[at..], name[next]),
            '\\' => (pattern.get(at + 1) == Some(&name[next])).then_some(2),
            _ => (*wanted == name[next]).then_some(1),
        });
        match (one, star) {
            (Some(length), _) => {
                at += length;
                next += 1;
            }
            _ if pattern.get(at) == Some(&'*') => {
                star = Some((at, next));
                at += 1;
            }
            (None, Some((place, taken))) => {
                star = Some((place, taken + 1));
                at = place + 1;
                next = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

/// The length of the class of characters at the start, if `wanted` is one of them.
fn class(pattern: &[char], wanted: char) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let start = if negated { 2 } else { 1 };
    let end = start + 1 + pattern.get(start + 1..)?.iter().position(|next| *next == ']')?;
    let (mut at, mut found) = (start, false);
    while at < end {
        if pattern.get(at + 1) == Some(&'-') && at + 2 < end {
            found |= (pattern[at]..=pattern[at + 2]).contains(&wanted);
            at += 3;
        } else {
            found |= pattern[at] == wanted;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, name) in [
            ("*", "chat"),
            ("*.conf", "chat.conf"),
            ("c*t.c?nf", "chat.conf"),
            ("[a-c]hat", "chat"),
            ("[!x]hat", "chat"),
            ("*a*a*", "banana"),
            (".*", ".hidden"),
            ("\\*", "*"),
        ] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("*", ".hidden"),
            ("*.conf", "chat.conf~"),
            ("[a-b]hat", "chat"),
            ("?", ""),
            ("[", "["),
        ] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn the_output_of_nginx_is_taken_apart() {
        let text = "nginx: ok\n# configuration file /etc/nginx/nginx.conf:\na;\n\n# configuration file /etc/nginx/conf.d/x.conf:\nb;\n";
        let (main, dump) = Dump::of(text).unwrap();
        assert_eq!(main, "/etc/nginx/nginx.conf");
        assert_eq!(dump.read(&main).unwrap(), "a;\n\n");
        assert_eq!(dump.list("/etc/nginx/conf.d/*.conf").unwrap(), ["/etc/nginx/conf.d/x.conf"]);
        assert!(dump.read("/etc/nginx/y").is_err());
        assert!(Dump::of("a;").is_none());
    }
}
