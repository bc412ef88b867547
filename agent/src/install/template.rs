//! Templates: a placeholder is a word in capitals between two @.

/// The template with each placeholder's values in place. A line with a placeholder appears once for each value of it:
/// not at all if there is none.
pub(super) fn fill(template: &str, values: &[(&str, Vec<String>)]) -> String {
    let mut lines: Vec<String> = template.lines().map(str::to_owned).collect();
    for (name, values) in values {
        let mark = format!("@{name}@");
        lines = lines
            .into_iter()
            .flat_map(|line| match line.contains(&mark) {
                true => values.iter().map(|value| line.replace(&mark, value)).collect(),
                false => vec![line],
            })
            .collect();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn a_line_for_each_value() {
        let values = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let filled = fill(
            "a=@A@\nb=@B@ rw\n\nc=@C@\n~@system\n",
            &[("A", values(&["1", "2"])), ("B", values(&[])), ("C", values(&["@A@"]))],
        );
        assert_eq!(filled, "a=1\na=2\n\nc=@A@\n~@system\n");
    }
}
