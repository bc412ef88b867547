//! Lists as text.

/// Columns under their titles. Text from hosts is escaped.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    Columns::new(titles).lines(rows)
}

/// A table of which some rows are known at a time. A column is as wide as its widest cell so far.
pub(super) struct Columns<const N: usize> {
    titles: [String; N],
    widths: [usize; N],
}

impl<const N: usize> Columns<N> {
    pub(super) fn new(titles: [&str; N]) -> Self {
        Self { titles: titles.map(str::to_owned), widths: [0; N] }
    }

    /// Whether there was no row yet.
    pub(super) fn is_new(&self) -> bool {
        self.widths == [0; N]
    }

    /// More rows, the first ones under the titles.
    pub(super) fn lines(&mut self, rows: &[[String; N]]) -> String {
        let is_new = self.is_new();
        let rows: Vec<[String; N]> =
            rows.iter().map(|row| row.each_ref().map(|cell| shown(cell))).collect();
        for row in std::iter::once(&self.titles).chain(&rows) {
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        let mut text = String::new();
        if is_new {
            let rule = self.widths.map(|width| "-".repeat(width));
            text = line(&self.titles, &self.widths) + &line(&rule, &self.widths);
        }
        rows.iter().for_each(|row| text.push_str(&line(row, &self.widths)));
        text
    }
}

/// A time of RFC 3339 in UTC without the fraction of a second.
pub(super) fn to_seconds(time: &str) -> String {
    time.split_once('.').map_or_else(|| time.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

fn line(cells: &[String], widths: &[usize]) -> String {
    let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    cells.collect::<Vec<_>>().join(" ").trim_end().to_owned() + "\n"
}

fn shown(text: &str) -> String {
    if text.is_empty() {
        return "-".into();
    }
    host::terminal::replace(text, '?')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_control_nothing() {
        let rows =
            [["a".to_owned(), "\u{1b}[2J\u{202e}x".to_owned()], ["bcd".to_owned(), String::new()]];
        let text = table(["ID", "Name"], &rows);
        assert_eq!(text, "ID  Name\n--- ------\na   ?[2J?x\nbcd -\n");
    }

    #[test]
    fn later_rows_stand_under_the_first_ones() {
        let mut columns = Columns::new(["ID", "Name"]);
        let row = |id: &str| [[id.to_owned(), "x".to_owned()]];
        assert!(columns.is_new());
        assert_eq!(columns.lines(&row("abc")), "ID  Name\n--- ----\nabc x\n");
        assert!(!columns.is_new());
        assert_eq!(columns.lines(&row("a")), "a   x\n");
        assert_eq!(columns.lines(&row("abcd")), "abcd x\n");
    }

    #[test]
    fn times_are_shown_to_the_second() {
        for time in ["2026-11-30T23:36:58.875015957Z", "2026-11-30T23:36:58Z"] {
            assert_eq!(to_seconds(time), "2026-11-30T23:36:58Z");
        }
    }
}
