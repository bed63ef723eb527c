#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn parsed(text: &str) -> Vec<Directive> {
    parse(&Arc::from("x.conf"), text).unwrap()
}

fn error(text: &str) -> String {
    parse(&Arc::from("x.conf"), text).unwrap_err().to_string()
}

/// Name, arguments and line of each directive, blocks in braces.
fn shown(directives: &[Directive]) -> String {
    let one = |directive: &Directive| {
        let words: Vec<_> = std::iter::once(&directive.name).chain(&directive.args).collect();
        let body = match &directive.body {
            Body::None => String::new(),
            Body::Block(inner) => format!(" {{{}}}", shown(inner)),
            Body::Lua(code) => format!(" lua<{code}>"),
        };
        format!("{}:{words:?}{body}", directive.place.line)
    };
    directives.iter().map(one).collect::<Vec<_>>().join(" ")
}

#[test]
fn words_blocks_and_comments() {
    let text = "# a\nuser  www; # b\nhttp {\n server{listen 80;}\n}\na#b c;";
    let tree =
        r##"2:["user", "www"] 3:["http"] {4:["server"] {4:["listen", "80"]}} 6:["a#b", "c"]"##;
    assert_eq!(shown(&parsed(text)), tree);
}

#[test]
fn quotes_and_escapes_are_those_of_nginx() {
    for (text, words) in [
        (r#"a "b c" 'd;e';"#, r#"["a", "b c", "d;e"]"#),
        (r#"a "b\"c" 'd\'e';"#, r#"["a", "b\"c", "d'e"]"#),
        (r"a \.php$ b\\c b\tc;", r#"["a", "\\.php$", "b\\c", "b\tc"]"#),
        (r#"a "" '';"#, r#"["a", "", ""]"#),
        ("a b\"c ${d}e f{\n};", r#"["a", "b\"c", "${d}e", "f"]"#),
        ("a 'b\nc';", r#"["a", "b\nc"]"#),
    ] {
        let text = text.replace("f{\n};", "f;");
        let directive = &parsed(&text)[0];
        let all: Vec<_> = std::iter::once(&directive.name).chain(&directive.args).collect();
        assert_eq!(format!("{all:?}"), words, "{text}");
    }
    // The condition of an `if` may end in a quote.
    let condition = parsed(r#"if ($http_upgrade = "websocket") { return 400; }"#);
    assert_eq!(condition[0].args, ["($http_upgrade", "=", "websocket", ")"]);
}

#[test]
fn places_are_those_of_the_first_word_and_of_the_end() {
    let tree = parsed("http {\n  map $a\n      $b {\n    default x;\n  }\n}\n");
    let map = &tree[0].block()[0];
    assert_eq!((map.place.line, map.end, tree[0].end), (2, 5, 6));
    assert_eq!(map.place.to_string(), "x.conf:2");
    assert_eq!(map.words(), "map $a $b { … }");
}

#[test]
fn lua_is_taken_as_it_is() {
    let code = "\n  -- a } in a comment\n  local s = \"}\" .. '\\'}'\n  local t = [[ } ]]\n  --[==[ }\n ]==]\n  if x then y({1}) end\n";
    let text = format!("access_by_lua_block {{{code}}}\nlisten 80;");
    let tree = parsed(&text);
    assert_eq!(tree[0].body, Body::Lua(code.to_owned()));
    assert_eq!((tree[0].end, tree[1].place.line), (8, 9));
}

#[test]
fn what_nginx_refuses_is_refused_with_its_line() {
    for (text, message) in [
        ("a;\nb", "x.conf:2: the file ends within a directive: \";\" or \"}\" is missing"),
        ("http {\n a;", "x.conf:1: the block that begins here is not closed by \"}\""),
        ("a;\n}", "x.conf:2: \"}\" closes no block"),
        ("a { b }", "x.conf:1: '}' is unexpected here"),
        (";", "x.conf:1: ';' is unexpected here"),
        ("{}", "x.conf:1: '{' is unexpected here"),
        ("a \"b;", "x.conf:1: the quote \" is not closed"),
        ("a \"b\"c;", "x.conf:1: a space is missing after a quote"),
        ("x_by_lua_block { a", "x.conf:1: the block of Lua is not closed"),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
    let deep = "a {".repeat(DEEPEST + 1);
    assert!(error(&deep).ends_with("blocks nest deeper than 40"));
}

/// Trees as files can have them.
fn trees() -> impl Strategy<Value = Vec<Directive>> {
    let word = prop_oneof![
        "[a-z_]{1,8}",
        "[$a-z{} \"'\\\\;#\n\t.]{0,6}",
        "\\PC{0,5}",
        Just("\\.php$".to_owned()),
    ];
    let words = (word.clone(), prop::collection::vec(word, 0..4));
    let made = |(name, args): (String, Vec<String>), body| Directive {
        name,
        args,
        body,
        place: Place { file: Arc::from("x.conf"), line: 0 },
        end: 0,
    };
    let leaf = words.clone().prop_map(move |words| made(words, Body::None));
    let tree = leaf.prop_recursive(4, 32, 5, move |inner| {
        (words.clone(), prop::collection::vec(inner, 0..5))
            .prop_map(move |(words, inner)| made(words, Body::Block(inner)))
    });
    prop::collection::vec(tree, 0..6)
}

/// Without places, which printing changes.
fn bare(directives: &[Directive]) -> Vec<Directive> {
    let bare = |directive: &Directive| Directive {
        place: Place { file: Arc::from("x.conf"), line: 0 },
        end: 0,
        body: match &directive.body {
            Body::Block(inner) => Body::Block(bare(inner)),
            other => other.clone(),
        },
        ..directive.clone()
    };
    directives.iter().map(bare).collect()
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(tree in trees()) {
        let text = to_text(&tree);
        let read = parse(&Arc::from("x.conf"), &text);
        prop_assert_eq!(read.map(|read| bare(&read)), Ok(tree), "{}", text);
    }

    #[test]
    fn no_text_makes_it_panic_and_what_is_read_is_written_and_read_again(
        text in "([a-z ;{}\"'\\\\$#\n\t]|_by_lua_block \\{|--|\\[\\[|\\]\\]|\\PC){0,60}"
    ) {
        if let Ok(read) = parse(&Arc::from("x.conf"), &text) {
            let again = parse(&Arc::from("x.conf"), &to_text(&read)).unwrap();
            prop_assert_eq!(bare(&again), bare(&read));
        }
    }
}
