//! The program: see `tidegate --help`.

fn main() {
    print!("{}", tidegate::api::crd_yaml());
}
