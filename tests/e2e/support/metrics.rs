//! Prometheus' text format, as far as these tests need it.

/// What `/metrics` said.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum of all samples of `name` that have these labels; `None` if there is no such sample.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let wanted: Vec<_> =
            labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let values = self.0.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let (found, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels: Vec<_> = labels.trim_end_matches('}').split(',').collect();
            (found == name && wanted.iter().all(|label| labels.contains(&label.as_str())))
                .then(|| value.parse::<f64>().ok())
                .flatten()
        });
        values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
    }
}

#[test]
fn samples_are_added_up_by_their_labels() {
    let metrics = Metrics::new(
        "# TYPE a counter\na{x=\"1\",y=\"1\"} 2\na{x=\"1\",y=\"2\"} 3\nab{x=\"1\"} 9\nb 4\n".into(),
    );
    assert_eq!(metrics.sum("a", &[("x", "1")]), Some(5.0));
    assert_eq!(metrics.sum("a", &[("x", "1"), ("y", "2")]), Some(3.0));
    assert_eq!(metrics.sum("b", &[]), Some(4.0));
    assert_eq!(metrics.sum("a", &[("x", "2")]), None);
}
