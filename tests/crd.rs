//! The CustomResourceDefinition in `crds/` is the one that the program prints.

use tidegate::api::{CRD_NAME, crd_yaml};

#[test]
fn the_file_holds_what_the_program_prints() {
    let file = format!("{}/crds/{CRD_NAME}.yaml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&file).expect("the CRD's file is readable");
    assert!(text == crd_yaml(), "{file} is out of date: run `make crd`");
}
