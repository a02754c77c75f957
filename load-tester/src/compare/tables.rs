//! The outcome of a comparison as JSON, Markdown and a plot.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

/// Everything that was measured.
#[derive(Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// Where and with what.
    pub host: Host,
    /// In the order they were measured.
    pub figures: Vec<Figure>,
}

/// The order of the figures' ids.
pub const ORDER: [&str; 13] = [
    "udp-throughput",
    "udp-cpu",
    "udp-veth",
    "udp-veth-cpu",
    "udp-loaded",
    "memory-one-each",
    "memory-uniform",
    "memory-cubic",
    "expiry",
    "expiry-real-time",
    "http-keep-alive",
    "http-close",
    "shards",
];

impl Comparison {
    /// Adds figures of an earlier comparison that are not in this one.
    pub fn add_earlier(&mut self, mut earlier: Vec<Figure>) {
        earlier.retain(|old| self.figures.iter().all(|figure| figure.id != old.id));
        self.figures.append(&mut earlier);
        let place = |figure: &Figure| ORDER.iter().position(|id| *id == figure.id);
        self.figures
            .sort_by_key(|figure| place(figure).unwrap_or(ORDER.len()));
    }
}

/// The machine, the programs and the pinning.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Host {
    /// Model name.
    pub processor: String,
    /// Kernel release.
    pub kernel: String,
    /// Processors of the machine.
    pub processors: usize,
    /// Processor of the servers.
    pub server_cpu: String,
    /// Processor of the generator.
    pub generator_cpu: usize,
    /// Program and version.
    pub versions: Vec<(String, String)>,
    /// How long it all took.
    pub seconds: f64,
}

/// One thing measured for several servers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Figure {
    /// Short and stable, for machines.
    pub id: String,
    /// For people.
    pub title: String,
    /// Unit of all values.
    pub unit: String,
    /// Whether less is better.
    pub lower_is_better: bool,
    /// One per server or variant.
    pub rows: Vec<Row>,
}

/// One server's values.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Row {
    /// Server or variant.
    pub name: String,
    /// A bare responder, the limit of the host.
    pub is_limit: bool,
    /// One per valid run.
    pub values: Vec<f64>,
    /// Middle of the values.
    pub median: Option<f64>,
    /// Least value.
    pub min: Option<f64>,
    /// Greatest value.
    pub max: Option<f64>,
    /// Runs in which the server waited long for its processor: other load on
    /// the machine, so that rates say little.
    pub disturbed: usize,
    /// What else the last run showed.
    pub detail: Option<String>,
    /// What else is worth knowing of any run, and why runs are missing.
    pub notes: Vec<String>,
}

impl Figure {
    /// Which way is good, in words.
    fn direction(&self) -> &'static str {
        if self.lower_is_better {
            "less is better"
        } else {
            "more is better"
        }
    }

    /// Without rows.
    pub fn new(id: &str, title: &str, unit: &str, lower_is_better: bool) -> Figure {
        Figure {
            id: id.into(),
            title: title.into(),
            unit: unit.into(),
            lower_is_better,
            rows: Vec::new(),
        }
    }

    /// The row of that name, made if need be.
    pub fn row(&mut self, name: &str, is_limit: bool) -> &mut Row {
        let index = match self.rows.iter().position(|row| row.name == name) {
            Some(index) => index,
            None => {
                self.rows.push(Row {
                    name: name.into(),
                    is_limit,
                    ..Row::default()
                });
                self.rows.len() - 1
            }
        };
        &mut self.rows[index]
    }
}

impl Row {
    /// Adds a run's value.
    pub fn add(&mut self, value: f64) {
        self.values.push(value);
        let spread = spread(&self.values);
        self.median = spread.map(|(median, _, _)| median);
        self.min = spread.map(|(_, min, _)| min);
        self.max = spread.map(|(_, _, max)| max);
    }

    /// Adds a note once.
    pub fn note(&mut self, text: impl Into<String>) {
        let text = text.into();
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }
}

/// A running mean.
#[derive(Default)]
pub struct Mean {
    sum: f64,
    count: usize,
}

impl Mean {
    /// Takes one more value.
    pub fn add(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
    }

    /// The mean, `None` of no values.
    pub fn get(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The mean to the nearest whole number, or `otherwise` of no values.
    pub fn rounded(&self, otherwise: usize) -> usize {
        self.get().map_or(otherwise, |mean| mean.round() as usize)
    }
}

/// The tables for people.
pub fn markdown(comparison: &Comparison) -> String {
    let mut text = String::new();
    let host = &comparison.host;
    let versions: Vec<String> = host
        .versions
        .iter()
        .map(|(name, version)| format!("{name}: {version}"))
        .collect();
    let _ = writeln!(
        text,
        "{} ({} processors), Linux {}; servers on processor {}, generator on {}; {}. Took {:.0} s.\n\n\
         Against the first: the middle of the ratios within each round, with the least and the \
         greatest. Disturbed: runs in which the server waited for its processor over a twentieth \
         of the time (other load, or more threads than processors).",
        host.processor,
        host.processors,
        host.kernel,
        host.server_cpu,
        host.generator_cpu,
        versions.join("; "),
        host.seconds
    );
    for figure in &comparison.figures {
        let direction = figure.direction();
        let _ = writeln!(
            text,
            "\n### {}\n\n{} ({direction})\n",
            figure.title, figure.unit
        );
        let _ = writeln!(
            text,
            "| | median | min..max | runs | disturbed | against the first | notes |"
        );
        let _ = writeln!(text, "|---|---:|---:|---:|---:|---:|---|");
        let base = figure.rows.iter().find(|row| row.median.is_some());
        for row in &figure.rows {
            let number = |value: Option<f64>| value.map_or("-".into(), readable);
            let ratio = base.map_or("-".into(), |base| ratio(row, base));
            let _ = writeln!(
                text,
                "| {} | {} | {}..{} | {} | {} | {ratio} | {} |",
                row.name,
                number(row.median),
                number(row.min),
                number(row.max),
                row.values.len(),
                row.disturbed,
                row.detail
                    .iter()
                    .chain(&row.notes)
                    .cloned()
                    .collect::<Vec<_>>()
                    .join("; ")
                    .replace('|', "/")
            );
        }
    }
    text
}

/// A row's values against another's. Those of one round if there are as many,
/// as a shared host changes its speed from round to round: the middle of these
/// ratios, with the least and the greatest.
fn ratio(row: &Row, base: &Row) -> String {
    if row.values.len() == base.values.len() && row.values.len() > 1 {
        let pairs = row.values.iter().zip(&base.values);
        let ratios: Vec<f64> = pairs.map(|(value, base)| value / base).collect();
        if let Some((median, min, max)) = spread(&ratios) {
            return match std::ptr::eq(row, base) {
                true => "1".into(),
                false => format!("{median:.2} ({min:.2}..{max:.2})"),
            };
        }
    }
    match (row.median, base.median) {
        (Some(median), Some(base)) if base > 0.0 => format!("{:.2}", median / base),
        _ => "-".into(),
    }
}

/// The middle of some values, the least and the greatest; `None` of none.
fn spread(values: &[f64]) -> Option<(f64, f64, f64)> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, max) = (*sorted.first()?, *sorted.last()?);
    let middle = sorted.len() / 2;
    let median = match sorted.len() % 2 {
        0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    };
    Some((median, min, max))
}

/// All figures as groups of horizontal bars, the spread drawn over each.
pub fn svg(comparison: &Comparison) -> String {
    const ROW: usize = 22;
    const HEAD: usize = 34;
    const LEFT: usize = 210;
    const BAR: f64 = 440.0;
    let drawn: Vec<&Figure> = comparison
        .figures
        .iter()
        .filter(|f| f.rows.iter().any(|r| r.median.is_some()))
        .collect();
    let height: usize = 16
        + drawn
            .iter()
            .map(|f| HEAD + ROW * f.rows.len() + 12)
            .sum::<usize>();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"780\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>"
    );
    let mut y = 8;
    for figure in drawn {
        let direction = figure.direction();
        let _ = writeln!(
            text,
            "<text x=\"8\" y=\"{}\" font-weight=\"bold\">{}</text><text x=\"772\" y=\"{}\" text-anchor=\"end\" fill=\"#666\">{}, {direction}</text>",
            y + 18,
            escape(&figure.title),
            y + 18,
            escape(&figure.unit)
        );
        y += HEAD;
        let longest = figure
            .rows
            .iter()
            .filter_map(|row| row.max)
            .fold(f64::MIN_POSITIVE, f64::max);
        for row in &figure.rows {
            let x = |value: f64| LEFT as f64 + BAR * (value / longest).clamp(0.0, 1.0);
            let _ = writeln!(
                text,
                "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                LEFT - 8,
                y + 13,
                escape(&row.name)
            );
            if let (Some(median), Some(min), Some(max)) = (row.median, row.min, row.max) {
                let colour = match (row.is_limit, row.name.starts_with("karuta")) {
                    (true, _) => "#bbbbbb",
                    (_, true) => "#2b7a3d",
                    _ => "#5b84b1",
                };
                let _ = writeln!(
                    text,
                    "<rect x=\"{LEFT}\" y=\"{y}\" width=\"{:.1}\" height=\"16\" fill=\"{colour}\"/>\
                     <path d=\"M{:.1} {} H{:.1}\" stroke=\"black\"/>\
                     <text x=\"{:.1}\" y=\"{}\">{}</text>",
                    x(median) - LEFT as f64,
                    x(min),
                    y + 8,
                    x(max),
                    x(max) + 6.0,
                    y + 13,
                    readable(median)
                );
            }
            y += ROW;
        }
        y += 12;
    }
    text.push_str("</svg>\n");
    text
}

/// Three or more digits, thousands apart.
fn readable(value: f64) -> String {
    if value < 10.0 {
        return format!("{value:.2}");
    }
    if value < 1000.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn comparison() -> Comparison {
        let mut figure = Figure::new("x", "Title & more", "requests/s", false);
        for value in [300_000.0, 100_000.0, 200_000.0] {
            figure.row("karuta", false).add(value);
        }
        figure.row("other", false).add(1234.5);
        for value in [600_000.0, 100_000.0, 100_000.0] {
            figure.row("as often", false).add(value);
        }
        figure.row("missing", false).note("not installed | really");
        figure.row("missing", false).note("not installed | really");
        let host = Host {
            processor: "p".into(),
            kernel: "k".into(),
            processors: 2,
            server_cpu: "0".into(),
            generator_cpu: 1,
            versions: vec![("a".into(), "1".into())],
            seconds: 1.0,
        };
        Comparison {
            host,
            figures: vec![figure],
        }
    }

    #[test]
    fn the_table_has_median_and_spread() {
        let text = markdown(&comparison());
        assert!(
            text.contains("| karuta | 200,000 | 100,000..300,000 | 3 | 0 | 1 |  |"),
            "{text}"
        );
        assert!(
            text.contains("| other | 1,234 | 1,234..1,234 | 1 | 0 | 0.01 |  |"),
            "{text}"
        );
        assert!(
            text.contains("| as often | 100,000 | 100,000..600,000 | 3 | 0 | 1.00 (0.50..2.00) |"),
            "{text}"
        );
        assert!(
            text.contains("| missing | - | -..- | 0 | 0 | - | not installed / really |"),
            "{text}"
        );
    }

    #[test]
    fn the_plot_has_a_bar_per_measured_row() {
        let text = svg(&comparison());
        assert_eq!(text.matches("height=\"16\"").count(), 3, "{text}");
        assert!(text.contains("Title &amp; more"), "{text}");
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let mut figure = Figure::new("", "", "", true);
        figure.row("a", false).add(1.0);
        figure.row("a", false).add(4.0);
        assert_eq!(figure.rows[0].median, Some(2.5));
    }
}
