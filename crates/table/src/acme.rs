//! Who answers the HTTP-01 challenges of ACME (RFC 8555 §8.3): Services that are labelled as cert-manager labels those of its
//! solvers, with the checksums of the name and the token that they answer for.

use std::{collections::BTreeMap, sync::Arc};

use super::{Endpoints, ObjectRef};

/// What a solver answers for: the Adler-32 (RFC 1950 §8.2) of the name, in lower case, and of the token. Others may have the
/// same, so it finds a solver and proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SolverKey {
    /// Of the name.
    pub domain: u32,
    /// Of the token.
    pub token: u32,
}

/// A Service whose pods answer challenges.
#[derive(Clone, Debug, PartialEq)]
pub struct Solver {
    /// The Service.
    pub service: ObjectRef,
    /// Its pods.
    pub endpoints: Endpoints,
}

/// All solvers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Solvers(BTreeMap<SolverKey, Vec<Arc<Solver>>>);

impl SolverKey {
    /// That of a name and a token.
    pub fn new(domain: &str, token: &str) -> Self {
        Self { domain: adler32(domain.as_bytes()), token: adler32(token.as_bytes()) }
    }
}

impl Solvers {
    /// Those that answer for a name and a token, by namespace and name: the first that has a right to it does.
    pub fn of(&self, key: SolverKey) -> &[Arc<Solver>] {
        self.0.get(&key).map(Vec::as_slice).unwrap_or_default()
    }

    /// All of them, by key, then by namespace and name.
    pub fn iter(&self) -> impl Iterator<Item = (SolverKey, &Arc<Solver>)> {
        self.0.iter().flat_map(|(key, solvers)| solvers.iter().map(|solver| (*key, solver)))
    }
}

impl FromIterator<(SolverKey, Solver)> for Solvers {
    fn from_iter<I: IntoIterator<Item = (SolverKey, Solver)>>(solvers: I) -> Self {
        let mut found = BTreeMap::<_, Vec<_>>::new();
        for (key, solver) in solvers {
            found.entry(key).or_default().push(Arc::new(solver));
        }
        for solvers in found.values_mut() {
            solvers.sort_by(|a, b| a.service.cmp(&b.service));
        }
        Self(found)
    }
}

/// The Adler-32 checksum (RFC 1950 §8.2).
fn adler32(bytes: &[u8]) -> u32 {
    const BASE: u32 = 65_521;
    let (low, high) = bytes.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % BASE;
        (low, (high + low) % BASE)
    });
    (high << 16) | low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_adler_32() {
        assert_eq!(adler32(b""), 1);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
        // Sums beyond the base: zlib's of 10,000 times 0xff.
        assert_eq!(adler32(&[0xff; 10_000]), 0xb623_eb2b);
    }
}
