//! Lists as text.

/// Columns under their titles. Text from hosts is escaped.
pub(super) fn table<const N: usize>(titles: [&str; N], rows: &[[String; N]]) -> String {
    let rows: Vec<[String; N]> = rows.iter().map(|row| row.each_ref().map(|c| shown(c))).collect();
    let titles = titles.map(str::to_owned);
    let width = |column: usize| {
        let cells = std::iter::once(&titles).chain(&rows).filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let rule = widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>();
    let mut text = line(&titles, &widths) + &line(&rule, &widths);
    rows.iter().for_each(|row| text.push_str(&line(row, &widths)));
    text
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
    fn times_are_shown_to_the_second() {
        for time in ["2026-11-30T23:36:58.875015957Z", "2026-11-30T23:36:58Z"] {
            assert_eq!(to_seconds(time), "2026-11-30T23:36:58Z");
        }
    }
}
