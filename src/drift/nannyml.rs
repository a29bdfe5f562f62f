//! NannyML's results: the CSV of `RawFilesWriter`, which is `to_df(multilevel=False).to_csv()`, as version 0.13 writes it.
//!
//! Each row is a chunk, of the reference or of the analysis period; each metric has columns that begin with its name and
//! end in `_value`, `_upper_threshold`, `_lower_threshold` and `_alert`. The alerts of the analysis period are the drift;
//! the newest chunk that has one gives the figures. A CSV does not say how many rows it should have, so one that was
//! cut off between two rows is only noticed when no chunk of the analysis period is left.

use annals_events::time::Timestamp;

use super::{Drift, Finding, Moved, Report, Tool, Unreadable, Window};

/// Columns that tell of the chunk.
const CHUNK: [&str; 6] = ["chunk_key", "chunk_start_index", "chunk_end_index", "chunk_start_date", "chunk_end_date", "chunk_period"];
/// How `<column>_<method>` ends, for the drift of one column.
const METHODS: [&str; 6] = ["kolmogorov_smirnov", "jensen_shannon", "wasserstein", "hellinger", "chi2", "l_infinity"];
/// Metrics of all columns together.
const WHOLE: [&str; 2] = ["reconstruction_error", "domain_classifier_auroc"];
/// In results of performance that was calculated.
const TARGETS_MISSING: &str = "chunk_targets_missing_rate";

/// See [`super::read`].
pub(super) fn read(bytes: &[u8]) -> Result<Report, Unreadable> {
    if bytes.starts_with(b"PAR1") {
        return Err(unsupported("it is a Parquet file"));
    }
    if matches!(bytes.first(), Some(b'{' | b'[')) {
        return Err(unsupported("it is JSON"));
    }
    let text = std::str::from_utf8(bytes).map_err(|e| match e.error_len() {
        None => Unreadable::Truncated("it ends within a character".into()),
        Some(_) => malformed(format!("byte {} is not UTF-8", e.valid_up_to())),
    })?;
    let rows = rows(text.strip_prefix('\u{feff}').unwrap_or(text))?;
    let Some((head, chunks)) = rows.split_first() else { return Err(malformed("it has no rows")) };
    let table = Table::new(head)?;
    if let Some((at, row)) = (2..).zip(chunks).find(|(_, row)| row.len() != head.len()) {
        return Err(malformed(format!("row {at} has {} fields, and the first one {}", row.len(), head.len())));
    }
    judge(&table, chunks)
}

fn malformed(what: impl Into<String>) -> Unreadable {
    Unreadable::Malformed(Tool::Nannyml, what.into())
}

fn unsupported(what: impl Into<String>) -> Unreadable {
    Unreadable::Unsupported(Tool::Nannyml, what.into())
}

type Row = Vec<String>;

/// The rows of a CSV (RFC 4180, with the line breaks of any system).
fn rows(text: &str) -> Result<Vec<Row>, Unreadable> {
    let (mut rows, mut row, mut field) = (Vec::new(), Row::new(), String::new());
    let (mut letters, mut is_quoted) = (text.chars().peekable(), false);
    let mut is_ended = true;
    while let Some(letter) = letters.next() {
        is_ended = false;
        match letter {
            '"' if is_quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' if is_quoted || field.is_empty() => is_quoted = !is_quoted,
            letter if is_quoted => field.push(letter),
            ',' => row.push(std::mem::take(&mut field)),
            '\r' if letters.peek() == Some(&'\n') => {}
            '\n' => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
                is_ended = true;
            }
            letter => field.push(letter),
        }
    }
    if is_ended { Ok(rows) } else { Err(Unreadable::Truncated(format!("row {} does not end", rows.len() + 1))) }
}

/// A metric and its columns.
struct Metric {
    moved: Moved,
    name: String,
    feature: Option<String>,
    value: usize,
    upper: Option<usize>,
    lower: Option<usize>,
    alert: usize,
}

/// Where things stand.
struct Table {
    key: usize,
    indices: [usize; 2],
    dates: [usize; 2],
    period: usize,
    metrics: Vec<Metric>,
    /// Metrics with alerts whose measure the file does not name.
    unnamed: Vec<(String, usize)>,
}

impl Table {
    fn new(head: &Row) -> Result<Self, Unreadable> {
        let at = |name: &str| head.iter().position(|column| column == name);
        let chunk = |name: &str| at(name).ok_or_else(|| unsupported(format!("it has no column `{name}` as NannyML 0.13 has it")));
        let mut places = [0; CHUNK.len()];
        for (place, name) in places.iter_mut().zip(CHUNK) {
            *place = chunk(name)?;
        }
        let [key, start_index, end_index, start_date, end_date, period] = places;
        let (mut metrics, mut unnamed) = (Vec::new(), Vec::new());
        for (alert, column) in head.iter().enumerate() {
            let Some(name) = column.strip_suffix("_alert").filter(|name| !name.is_empty()) else { continue };
            let part = |part: &str| at(&format!("{name}{part}"));
            let value = part("_value").ok_or_else(|| malformed(format!("there is a column `{column}` and no `{name}_value`")))?;
            let is_performance = at(TARGETS_MISSING).is_some() || part("_realized").is_some();
            let Some((moved, metric, feature)) = measure(name, is_performance) else {
                unnamed.push((name.to_owned(), alert));
                continue;
            };
            let (upper, lower) = (part("_upper_threshold"), part("_lower_threshold"));
            metrics.push(Metric { moved, name: metric, feature, value, upper, lower, alert });
        }
        Ok(Self { key, indices: [start_index, end_index], dates: [start_date, end_date], period, metrics, unnamed })
    }
}

/// What a metric is, from its name: results of data quality do not say what was measured of a column.
fn measure(name: &str, is_performance: bool) -> Option<(Moved, String, Option<String>)> {
    if is_performance {
        return Some((Moved::Performance, name.to_owned(), None));
    }
    if WHOLE.contains(&name) {
        return Some((Moved::Data, name.to_owned(), None));
    }
    let (column, method) = METHODS.iter().find_map(|method| Some((name.strip_suffix(method)?.strip_suffix('_')?, method)))?;
    Some((Moved::Data, (*method).to_owned(), Some(column.to_owned())))
}

fn judge(table: &Table, chunks: &[Row]) -> Result<Report, Unreadable> {
    let undecided = |what: &str| Unreadable::Undecided(Tool::Nannyml, what.into());
    let analysed: Vec<&Row> = chunks.iter().filter(|row| row[table.period] == "analysis").collect();
    if analysed.is_empty() {
        return Err(undecided("it has no chunk of the analysis period"));
    }
    if table.metrics.is_empty() && table.unnamed.is_empty() {
        return Err(undecided("no column is an alert"));
    }
    let (mut judged, mut alerting, mut newest) = (0, 0, None);
    for row in &analysed {
        let mut findings = Vec::new();
        for metric in &table.metrics {
            judged += 1;
            if alerts(&row[metric.alert])? {
                findings.push(found(metric, row)?);
            }
        }
        if !findings.is_empty() {
            alerting += 1;
            newest = Some((*row, findings));
        }
    }
    let Some((row, findings)) = newest else {
        for (name, alert) in &table.unnamed {
            for row in &analysed {
                if alerts(&row[*alert])? {
                    return Err(undecided(&format!("there is an alert for `{name}`, and the file does not say what was measured of it")));
                }
                judged += 1;
            }
        }
        return Ok(Report { judged, drift: None });
    };
    let mut features: Vec<String> = findings.iter().filter_map(|finding| finding.feature.clone()).collect();
    features.dedup(); // the methods of a column stand side by side
    let remark = format!("chunk {}{}; {alerting} of {} chunks have alerts", row[table.key], dates(table, row), analysed.len());
    Ok(Report { judged, drift: Drift::of(findings, features, window(table, row), &remark) })
}

fn alerts(field: &str) -> Result<bool, Unreadable> {
    match field {
        "True" | "true" => Ok(true),
        "False" | "false" | "" => Ok(false),
        other => Err(malformed(format!("an alert is `{}`", other.chars().take(32).collect::<String>()))),
    }
}

fn figure(field: &str) -> Option<f64> {
    field.parse().ok().filter(|figure: &f64| figure.is_finite())
}

fn found(metric: &Metric, row: &Row) -> Result<Finding, Unreadable> {
    let Metric { moved, name, feature, .. } = metric;
    let observed = figure(&row[metric.value]).ok_or_else(|| malformed(format!("there is an alert for `{name}`, and no figure")))?;
    let limit = |column: Option<usize>| column.and_then(|column| figure(&row[column]));
    let upper = limit(metric.upper).filter(|upper| observed > *upper);
    let threshold = upper.or_else(|| limit(metric.lower).filter(|lower| observed < *lower));
    Ok(Finding { moved: *moved, metric: name.clone(), observed, threshold, feature: feature.clone() })
}

/// As they stand in the file: they have no zone, mostly.
fn dates(table: &Table, row: &Row) -> String {
    let [start, end] = table.dates.map(|column| row[column].as_str());
    if start.is_empty() || end.is_empty() { String::new() } else { format!(" from {start} to {end}") }
}

/// Dates only if they name their zone: nobody here knows which one a bare date is in.
fn window(table: &Table, row: &Row) -> Option<Window> {
    let [start, end] = table.dates.map(|column| row[column].replacen(' ', "T", 1));
    let is_time = |text: &String| text.len() <= 64 && Timestamp::parse(text).is_ok();
    let [first, last] = table.indices.map(|column| row[column].parse::<u64>().ok());
    let n = first.zip(last).and_then(|(first, last)| last.checked_sub(first)?.checked_add(1));
    let window = Window { start: Some(start).filter(is_time), end: Some(end).filter(is_time), n };
    Some(window).filter(|window| *window != Window::default())
}
