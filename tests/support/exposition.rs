//! A small reader of the text exposition: families with their types, samples by name and labels.
//!
//! It reads version 0.0.4 of the text format. It shares no code with the encoder that it checks.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of one sample.
pub(crate) type Labels = BTreeMap<String, String>;

/// The contents of the `# TYPE` and `# HELP` lines of a family.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    /// `counter`, `gauge`, `histogram`, `summary` or `untyped`. Empty without a `# TYPE` line.
    pub(crate) kind: String,
    /// The help text, still escaped.
    pub(crate) help: String,
}

/// One scrape.
#[derive(Debug, Default, Clone)]
pub(crate) struct Exposition {
    families: BTreeMap<String, Family>,
    samples: BTreeMap<(String, Labels), f64>,
}

impl Exposition {
    /// Reads a whole scrape. The error contains the line that violates the format.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut exposition = Self::default();
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("the last line does not end in a line feed".to_owned());
        }
        for (number, line) in text.lines().enumerate() {
            exposition
                .read_line(line)
                .map_err(|why| format!("line {}: {why}: {line}", number + 1))?;
        }
        Ok(exposition)
    }

    fn read_line(&mut self, line: &str) -> Result<(), String> {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            let family = self.families.entry(name.to_owned()).or_default();
            if !family.help.is_empty() {
                return Err("a second HELP".to_owned());
            }
            help.clone_into(&mut family.help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').ok_or("a TYPE without a type")?;
            let family = self.families.entry(name.to_owned()).or_default();
            if !family.kind.is_empty() {
                return Err("a second TYPE".to_owned());
            }
            kind.clone_into(&mut family.kind);
        } else if !line.is_empty() && !line.starts_with('#') {
            let (name, labels, value) = read_sample(line)?;
            if self.samples.insert((name, labels), value).is_some() {
                return Err("a repeated sample".to_owned());
            }
        }
        Ok(())
    }

    /// The metadata of a family.
    pub(crate) fn family(&self, name: &str) -> Option<&Family> {
        self.families.get(name)
    }

    /// The names of all families with a `# TYPE` or `# HELP` line.
    pub(crate) fn family_names(&self) -> impl Iterator<Item = &str> {
        self.families.keys().map(String::as_str)
    }

    /// Every sample, sorted by name and labels.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (&str, &Labels, f64)> {
        self.samples
            .iter()
            .map(|((name, labels), value)| (name.as_str(), labels, *value))
    }

    /// The value of exactly this series.
    pub(crate) fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        self.samples.get(&(name.to_owned(), labels)).copied()
    }

    /// The value of exactly this series. Panics with all series of that name if it is missing.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or_else(|| {
            panic!(
                "no sample {name}{labels:?}; the samples of that name: {:#?}",
                self.series(name)
            )
        })
    }

    /// The increase of this series since `before`. A missing series counts as 0.
    pub(crate) fn rise(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.get(name, labels).unwrap_or(0.0) - before.get(name, labels).unwrap_or(0.0)
    }

    /// The sum over all series of this name with at least these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.samples()
            .filter(|(sample, of_sample, _)| {
                *sample == name
                    && labels
                        .iter()
                        .all(|&(label, value)| of_sample.get(label).is_some_and(|has| has == value))
            })
            .map(|(_, _, value)| value)
            .sum()
    }

    /// The increase since `before` of the sum over all series with these labels.
    pub(crate) fn sum_rise(&self, before: &Self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.sum(name, labels) - before.sum(name, labels)
    }

    /// All series of this sample name.
    pub(crate) fn series(&self, name: &str) -> Vec<(&Labels, f64)> {
        self.samples()
            .filter(|(sample, _, _)| *sample == name)
            .map(|(_, labels, value)| (labels, value))
            .collect()
    }

    /// The distinct combinations of label names among the series of this name.
    pub(crate) fn label_names(&self, name: &str) -> BTreeSet<Vec<String>> {
        self.series(name)
            .into_iter()
            .map(|(labels, _)| labels.keys().cloned().collect())
            .collect()
    }
}

/// A count as a whole number.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
pub(crate) fn whole(count: f64) -> u64 {
    count as u64
}

/// Reads `name{label="value",…} number [timestamp]`.
fn read_sample(line: &str) -> Result<(String, Labels, f64), String> {
    let name_end = line.find(['{', ' ']).ok_or("a sample without a value")?;
    let (name, rest) = line.split_at(name_end);
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || !name.chars().all(legal)
    {
        return Err("an illegal metric name".to_owned());
    }
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => read_labels(rest)?,
        None => (Labels::new(), rest),
    };
    let mut fields = rest.split_ascii_whitespace();
    let number = fields.next().ok_or("a sample without a value")?;
    let value = match number {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        number => number.parse().map_err(|_| "a value that is not a number")?,
    };
    Ok((name.to_owned(), labels, value))
}

/// Reads the labels and the closing brace. Returns the rest of the line too.
fn read_labels(mut rest: &str) -> Result<(Labels, &str), String> {
    let mut labels = Labels::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (label, after) = rest.split_once("=\"").ok_or("a label without a value")?;
        let (value, after) = read_label_value(after)?;
        if labels.insert(label.to_owned(), value).is_some() {
            return Err(format!("the label {label} twice"));
        }
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// Reads a value and the closing quote, and resolves the three escapes of the format.
fn read_label_value(text: &str) -> Result<(String, &str), String> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                _ => return Err("an unknown escape".to_owned()),
            },
            character => value.push(character),
        }
    }
    Err("a label value that does not end".to_owned())
}
