use crate::{admin::testing::table, table::TableCell};

use super::*;

fn published(hosts: &[(&str, usize)]) -> Arc<TableVersion> {
    let cell = TableCell::default();
    cell.publish(table(hosts)).unwrap()
}

fn page(published: &Arc<TableVersion>, query: &str) -> Value {
    let mut text = Vec::new();
    Page::of(Arc::clone(published), &Wanted::of(Some(query)).unwrap()).write(&mut |part| {
        text.extend_from_slice(&part);
        true
    });
    serde_json::from_slice(&text).unwrap()
}

/// `host: matches`, as far as a page has them.
fn told(page: &Value) -> Vec<String> {
    let hosts = page["hosts"].as_array().unwrap();
    hosts
        .iter()
        .map(|host| {
            let matches = host["matches"].as_array().unwrap().iter();
            let paths: Vec<_> = matches.map(|one| one["path"].as_str().unwrap()).collect();
            format!("{} {}", host["hostname"].as_str().unwrap(), paths.join(","))
        })
        .collect()
}

/// All pages, as `next` leads to them.
fn walk(published: &Arc<TableVersion>, query: &str) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut query = query.to_owned();
    loop {
        let page = page(published, &query);
        pages.push(told(&page));
        let Some(next) = page["next"].as_str() else { return pages };
        query = next.strip_prefix("/debug/table?").unwrap().to_owned();
        assert!(pages.len() < 100, "there is no end");
    }
}

#[test]
fn pages_follow_each_other_and_tell_each_match_once() {
    let published = published(&[("b.test", 3), ("a.test", 1), ("*.a.test", 2), ("c.test", 0)]);
    assert_eq!(
        walk(&published, ""),
        [["a.test /0", "b.test /0,/1,/2", "c.test ", "*.a.test /0,/1"]]
    );
    assert_eq!(
        walk(&published, "limit=2"),
        [
            vec!["a.test /0", "b.test /0"],
            vec!["b.test /1,/2"],
            vec!["c.test ", "*.a.test /0"],
            vec!["*.a.test /1"]
        ]
    );
    assert_eq!(walk(&published, "limit=2&host=B.test"), [["b.test /0,/1"], ["b.test /2"]]);
    assert_eq!(walk(&published, "host=x.a.test"), [["*.a.test /0,/1"]]);
    assert_eq!(walk(&published, "after=b.test"), [["c.test ", "*.a.test /0,/1"]]);
}

#[test]
fn what_makes_no_sense_is_told() {
    for query in ["limit=0", "limit=1001", "limit=x", "after=a:b", "host", "x=1", "host=%ff"] {
        assert!(Wanted::of(Some(query)).is_err(), "{query}");
    }
    assert!(Wanted::of(None).is_ok() && Wanted::of(Some("")).is_ok());
}

/// The 25 routes were 122 MB at once.
#[test]
fn a_page_of_a_table_of_any_size_is_small_and_its_parts_are_smaller() {
    let names: Vec<_> = (0..25).map(|host| format!("h{host}.test")).collect();
    let hosts: Vec<_> = names.iter().map(|name| (name.as_str(), 1_000)).collect();
    let published = published(&hosts);
    let wanted = Wanted::of(None).unwrap();
    let (mut all, mut largest) = (0, 0);
    Page::of(Arc::clone(&published), &wanted).write(&mut |part| {
        all += part.len();
        largest = largest.max(part.len());
        true
    });
    assert!(all < 1 << 20, "{all}");
    assert!(largest < 2 * PART, "{largest}");
}

#[test]
fn nothing_more_is_made_for_a_reader_that_has_left() {
    let published = published(&[("a.test", 1_000)]);
    let mut parts = 0;
    Page::of(published, &Wanted::of(Some("limit=1000")).unwrap()).write(&mut |_| {
        parts += 1;
        false
    });
    assert_eq!(parts, 1);
}
