use std::{fs, os::unix::fs::symlink};

use super::*;

fn scanned(folder: &Path, bounds: Bounds) -> Vec<(String, String)> {
    let shown = |reading| match reading {
        Reading::Text(text) => text,
        Reading::Unreadable(why) => format!("unreadable: {why}"),
        Reading::LeftOut(why) => format!("left out: {why}"),
    };
    let scan = scan(folder, bounds).unwrap();
    scan.found.into_iter().map(|(name, reading)| (name, shown(reading))).collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

/// Eight deep, six links to `.` in each are 1.7 million folders, and as many files.
#[test]
fn six_links_to_the_folder_itself_are_told_and_followed_by_none() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join("a.yaml"), "a").unwrap();
    for link in 0..6 {
        symlink(".", root.join(format!("l{link}"))).unwrap();
    }
    let again = "left out: it is the folder itself again, which is read once; remove the link";
    let wanted = [("a.yaml", "a"), ("l0/", again), ("l1/", again), ("l2/", again)];
    let more = [("l3/", again), ("l4/", again), ("l5/", again)];
    assert_eq!(scanned(root, BOUNDS), owned(&[wanted.as_slice(), &more].concat()));
}

/// No circle: each folder holds six links to the next one.
#[test]
fn a_folder_with_many_names_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("d0");
    for depth in 0..8 {
        let here = folder.path().join(format!("d{depth}"));
        fs::create_dir(&here).unwrap();
        for link in 0..6 {
            symlink(format!("../d{}", depth + 1), here.join(format!("l{link}"))).unwrap();
        }
    }
    fs::create_dir(folder.path().join("d8")).unwrap();
    fs::write(folder.path().join("d8/a.yaml"), "a").unwrap();
    let found = scanned(&root, BOUNDS);
    assert_eq!(found.len(), 8 * 5 + 1);
    assert!(found.contains(&(format!("{}a.yaml", "l0/".repeat(8)), "a".to_owned())), "{found:?}");
}

#[test]
fn pipes_devices_and_sockets_are_told_and_hold_up_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe.yaml"), mode).unwrap();
    symlink("/dev/zero", root.join("zero.yaml")).unwrap();
    symlink("nowhere", root.join("gone.yaml")).unwrap();
    fs::write(root.join("z.yaml"), "z").unwrap();
    assert_eq!(
        scanned(root, BOUNDS),
        owned(&[
            ("gone.yaml", "unreadable: No such file or directory (os error 2)"),
            ("pipe.yaml", "unreadable: it is a pipe, not a file"),
            ("z.yaml", "z"),
            ("zero.yaml", "unreadable: it is a device, not a file"),
        ])
    );
}

#[test]
fn each_bound_is_told_where_it_ends_and_the_nearer_files_come_first() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for name in ["a/b/c", "many"] {
        fs::create_dir_all(root.join(name)).unwrap();
    }
    for name in ["z.yaml", "a/y.yaml", "a/b/x.yaml", "many/1", "many/2", "many/3", "many/4"] {
        fs::write(root.join(name), "four").unwrap();
    }
    let bounds = |depth, folders, files, bytes| Bounds { depth, entries: 3, folders, files, bytes };
    let many = ("many/", "unreadable: it holds more than 3 files and folders");
    let deep = ("a/b/", "left out: it lies more than 1 folders deep");
    assert_eq!(
        scanned(root, bounds(1, 9, 9, 99)),
        owned(&[deep, ("a/y.yaml", "four"), many, ("z.yaml", "four")])
    );
    let found = scanned(root, bounds(8, 2, 9, 99));
    assert!(found.contains(&("a/b/".into(), "unreadable: there are more than 2 folders".into())));
    let no_more = ("a/b/x.yaml", "unreadable: there are more than 2 files");
    assert_eq!(
        scanned(root, bounds(8, 9, 2, 99)),
        owned(&[no_more, ("a/y.yaml", "four"), many, ("z.yaml", "four")])
    );
    let too_long = ("a/b/x.yaml", "unreadable: the files before it and it are more than 0 MiB");
    assert_eq!(
        scanned(root, bounds(8, 9, 9, 10)),
        owned(&[too_long, ("a/y.yaml", "four"), many, ("z.yaml", "four")])
    );
}

#[test]
fn a_name_is_shown_without_its_control_characters() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("\x1b[2J.yaml"), "a").unwrap();
    assert_eq!(scanned(folder.path(), BOUNDS), owned(&[(r"\x1b[2J.yaml", "a")]));
}
