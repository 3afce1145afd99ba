//! Columns, as Docker's tables have them.

/// The narrowest column, and the blanks between two.
const NARROWEST: usize = 10;
const GAP: usize = 3;

/// Aligns lines whose cells are separated by tabs. The last cell of a line is not padded.
pub fn align(lines: &[String]) -> String {
    align_from(lines, NARROWEST)
}

/// As [`align`], with columns of at least this width.
pub fn align_from(lines: &[String], narrowest: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| column + 1 < row.len());
        let longest = cells.map(|row| row[column].chars().count()).max();
        longest.map_or(0, |longest| (longest + GAP).max(narrowest))
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (index, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if index + 1 < row.len() {
                let blanks = widths[index].saturating_sub(cell.chars().count());
                text.extend(std::iter::repeat_n(' ', blanks));
            }
        }
        text.push('\n');
    }
    text
}

/// Cuts a text to so many characters, the last of which shows that it was cut.
pub fn ellipsis(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_string();
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// An id as lists show it: twelve digits, without `sha256:`.
pub fn short_id(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_dockers() {
        let lines = ["CONTAINER ID\tIMAGE\tNAMES", "0123456789ab\tbusybox:latest\tweb", "x\ty\tz"];
        let lines = lines.map(String::from);
        assert_eq!(
            align(&lines),
            "CONTAINER ID   IMAGE            NAMES\n\
             0123456789ab   busybox:latest   web\n\
             x              y                z\n"
        );
        assert_eq!(align(&["A\tB".into()]), "A         B\n");
        assert_eq!(align(&[]), "");
    }

    #[test]
    fn long_texts_are_cut_by_characters() {
        assert_eq!(ellipsis("\"sleep 1000000 and äöü more\"", 20), "\"sleep 1000000 and …");
        assert_eq!(ellipsis("short", 20), "short");
        assert_eq!(short_id("sha256:0123456789abcdef"), "0123456789ab");
        assert_eq!(short_id("012"), "012");
    }
}
