//! The measurements: a table for people, a file for machines.

use std::path::PathBuf;

use serde::Serialize;

/// The bound of the ratio of ours to the rival's.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) enum Must {
    AtLeast(f64),
    AtMost(f64),
}

/// The middle and the spread of some runs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Spread {
    median: f64,
    min: f64,
    max: f64,
}

impl Spread {
    pub(crate) fn of(mut runs: Vec<f64>) -> Spread {
        assert!(!runs.is_empty(), "a spread is of runs");
        runs.sort_by(f64::total_cmp);
        let middle = (runs[(runs.len() - 1) / 2] + runs[runs.len() / 2]) / 2.0;
        Spread { median: middle, min: runs[0], max: runs[runs.len() - 1] }
    }
}

/// One row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) rival: &'static str,
    pub(crate) pairs: usize,
    pub(crate) ours: Spread,
    pub(crate) theirs: Spread,
    /// The ratios of the pairs, ours to the rival's.
    pub(crate) ratio: Spread,
    pub(crate) must: Must,
}

impl Row {
    /// Makes a row of `pairs`: ours and the rival's, measured one after the other.
    pub(crate) fn new(
        what: impl Into<String>,
        unit: &'static str,
        rival: &'static str,
        must: Must,
        pairs: Vec<(f64, f64)>,
    ) -> Row {
        let ratio = Spread::of(pairs.iter().map(|(ours, theirs)| ours / theirs).collect());
        let count = pairs.len();
        let (ours, theirs): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        let (ours, theirs) = (Spread::of(ours), Spread::of(theirs));
        Row { what: what.into(), unit, rival, pairs: count, ours, theirs, ratio, must }
    }

    fn is_met(&self) -> bool {
        match self.must {
            Must::AtLeast(bound) => self.ratio.median >= bound,
            Must::AtMost(bound) => self.ratio.median <= bound,
        }
    }
}

/// All rows.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    rows: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    name: &'static str,
    met: bool,
    #[serde(flatten)]
    row: Row,
}

impl Report {
    pub(crate) fn add(&mut self, name: &'static str, row: Row) {
        self.rows.push(Named { name, met: row.is_met(), row });
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<44} {:>12} {:>12} {:<9} {:<20} {:>8} {:>17} {:>9}  met",
            "what", "ours", "theirs", "unit", "rival", "ratio", "min..max", "must"
        );
        for Named { row, met, .. } in &self.rows {
            let must = match row.must {
                Must::AtLeast(bound) => format!(">= {bound}"),
                Must::AtMost(bound) => format!("<= {bound}"),
            };
            let spread = format!("{:.3}..{:.3}", row.ratio.min, row.ratio.max);
            println!(
                "{:<44} {:>12.2} {:>12.2} {:<9} {:<20} {:>8.3} {:>17} {:>9}  {}",
                row.what,
                row.ours.median,
                row.theirs.median,
                row.unit,
                row.rival,
                row.ratio.median,
                spread,
                must,
                if *met { "yes" } else { "NO" },
            );
        }
    }

    /// Writes `target/bench/rust.json`.
    pub(crate) fn write(&self) -> std::io::Result<PathBuf> {
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
        let folder = target.join("bench");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join("rust.json");
        let text = serde_json::to_string_pretty(self).map_err(std::io::Error::other)?;
        std::fs::write(&path, text + "\n")?;
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_an_even_number_too() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).median, 2.0);
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
    }

    #[test]
    fn a_bound_is_met_by_the_median_of_the_ratios() {
        let row = |must| Row::new("row", "s", "rival", must, vec![(1.0, 1.0), (4.0, 2.0), (90.0, 10.0)]);
        assert!(row(Must::AtLeast(2.0)).is_met() && row(Must::AtMost(2.0)).is_met());
        assert!(!row(Must::AtLeast(2.1)).is_met() && !row(Must::AtMost(1.9)).is_met());
    }
}
