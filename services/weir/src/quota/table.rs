//! Columns that are as wide as what stands in them.

use std::fmt;

/// Rows of cells under a heading. Numbers stand to the right.
pub(super) struct Table {
    heading: Vec<&'static str>,
    to_the_right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A heading that begins with `>` is of a column of numbers.
    pub(super) fn new(heading: &[&'static str]) -> Self {
        let to_the_right = heading.iter().map(|name| name.starts_with('>')).collect();
        let heading = heading.iter().map(|name| name.trim_start_matches('>')).collect();
        Self { heading, to_the_right, rows: Vec::new() }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.heading[column].len()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.heading.len()).map(width).collect();
        let line = |f: &mut fmt::Formatter<'_>, cells: &[&str]| {
            let mut text = String::from(" ");
            for ((cell, width), to_the_right) in cells.iter().zip(&widths).zip(&self.to_the_right) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                text.push(' ');
                if *to_the_right {
                    text.push_str(&padding);
                    text.push_str(cell);
                } else {
                    text.push_str(cell);
                    text.push_str(&padding);
                }
                text.push(' ');
            }
            writeln!(f, "{}", text.trim_end())
        };
        line(f, &self.heading)?;
        for row in &self.rows {
            line(f, &row.iter().map(String::as_str).collect::<Vec<_>>())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_cells_and_numbers_stand_right() {
        let mut table = Table::new(&["LIMIT", ">USED", "RESETS"]);
        table.row(vec!["budget".into(), "$4.98".into(), "in 3 days".into()]);
        table.row(vec!["müsli".into(), "7".into(), String::new()]);
        assert_eq!(table.to_string(), "  LIMIT    USED  RESETS\n  budget  $4.98  in 3 days\n  müsli       7\n");
    }
}
