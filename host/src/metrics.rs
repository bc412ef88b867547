//! Prometheus' text format, version 0.0.4.

use std::fmt::{Display, Write};

/// What a family's samples mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It rises and falls.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

/// A page of metrics. A family is announced, then come its samples.
#[derive(Debug, Default)]
pub struct Page(String);

impl Page {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Announces a family. `name` and `help` are the program's own words.
    pub fn family(&mut self, name: &str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self
    }

    /// A sample. Values of labels may be anything; their names are the program's own.
    pub fn sample(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        value: impl Display,
    ) -> &mut Self {
        self.0.push_str(name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let open = if index == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{}\"", escape(text));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
        self
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &str, kind: Kind, help: &str, value: impl Display) -> &mut Self {
        self.family(name, kind, help).sample(name, &[], value)
    }

    /// The text.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_is_in_the_text_format_and_labels_are_escaped() {
        let mut page = Page::new();
        page.single("a_total", Kind::Counter, "What is counted.", 3);
        page.family("b", Kind::Gauge, "Another.");
        page.sample("b", &[("x", "a\"b\\c\nd"), ("y", "")], 0.5);
        let expected = "# HELP a_total What is counted.\n# TYPE a_total counter\na_total 3\n\
             # HELP b Another.\n# TYPE b gauge\nb{x=\"a\\\"b\\\\c\\nd\",y=\"\"} 0.5\n";
        assert_eq!(page.into_text(), expected);
    }
}
