//! The flame graph of a profile: one SVG file with its style and a script that zooms and searches. It loads nothing.
//!
//! The roots are at the top. The width of a frame is its share of the whole; frames of less than a thousandth are left out.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};

use crate::{Profile, ProfileKind, folded::NO_REQUEST};

const STYLE: &str = include_str!("flame/graph.css");
const SCRIPT: &str = include_str!("flame/graph.js");

/// The size of the graph, in units of the SVG.
const WIDTH: f64 = 1_200.0;
const LEFT: f64 = 10.0;
const TOP: f64 = 62.0;
const ROW: f64 = 17.0;
/// The mean width of a character.
const CHARACTER: f64 = 6.4;

/// The smallest share of the whole that is drawn.
const LEAST_SHARE: f64 = 0.001;

/// The number of colours. A crate has always the same one.
const COLOURS: u64 = 8;

/// A function, with all that was reached through it.
#[derive(Default)]
struct Node {
    weight: i64,
    children: BTreeMap<Arc<str>, Node>,
}

impl Node {
    fn add<'a>(&mut self, names: impl Iterator<Item = &'a Arc<str>>, weight: i64) {
        let mut node = self;
        node.weight += weight;
        for name in names {
            node = node.children.entry(Arc::clone(name)).or_default();
            node.weight += weight;
        }
    }
}

/// Draws a profile as an SVG document.
///
/// `nonce` is that of the answer's content security policy, for the style and the script. `colours` is a style sheet that
/// declares the colours `--page`, `--card`, `--text`, `--muted`, `--low` and `--high`.
pub fn flame_graph(profile: &Profile, nonce: &str, colours: &str) -> String {
    let mut root = Node::default();
    for stack in profile.stacks.iter().filter(|stack| stack.weight > 0) {
        let endpoint = match (&stack.endpoint, profile.kind) {
            (Some(endpoint), _) => Some(Arc::clone(endpoint)),
            (None, ProfileKind::Cpu) => Some(NO_REQUEST.into()),
            (None, _) => None,
        };
        let functions = profile.frames_of(stack).map(|frame| &frame.function);
        root.add(endpoint.iter().chain(functions), stack.weight);
    }
    let mut graph = Graph {
        kind: profile.kind,
        total: root.weight.max(1) as f64,
        depth: 0,
        out: String::new(),
    };
    graph.node("all", &root, 0.0, 0);
    document(profile, &graph, nonce, colours)
}

/// The frames that are drawn.
struct Graph {
    kind: ProfileKind,
    total: f64,
    /// The greatest depth.
    depth: usize,
    out: String,
}

impl Graph {
    /// Draws a node at a share of the width, and all nodes below it. The heaviest is on the left.
    fn node(&mut self, name: &str, node: &Node, at: f64, depth: usize) {
        let share = node.weight as f64 / self.total;
        self.depth = self.depth.max(depth);
        self.frame(name, node.weight, (at, share), depth);
        let mut children: Vec<_> = node.children.iter().collect();
        children.sort_by_key(|(_, child)| std::cmp::Reverse(child.weight));
        let mut at = at;
        for (name, child) in children {
            let share = child.weight as f64 / self.total;
            if share >= LEAST_SHARE {
                self.node(name, child, at, depth + 1);
            }
            at += share;
        }
    }

    fn frame(&mut self, name: &str, weight: i64, (at, share): (f64, f64), depth: usize) {
        let (x, width) = (
            LEFT + at * (WIDTH - 2.0 * LEFT),
            share * (WIDTH - 2.0 * LEFT),
        );
        let y = TOP + depth as f64 * ROW;
        let name = escape(name);
        let colour = colour(&name, depth);
        // The script moves the focus by the arrow keys, from the root on.
        let focus = if depth == 0 { " tabindex=\"0\"" } else { "" };
        let amount = amount(self.kind, weight);
        let percent = share * 100.0;
        // Writing to a string cannot fail.
        let _written = writeln!(
            self.out,
            "<g class=\"{colour}\" data-x=\"{at:.6}\" data-w=\"{share:.6}\" data-d=\"{depth}\"{focus}><title>{name}\n{amount}, {percent:.2} %</title>\
             <rect x=\"{x:.2}\" y=\"{y:.0}\" width=\"{width:.2}\" height=\"{ROW:.0}\" rx=\"1\"/>\
             <text x=\"{:.2}\" y=\"{:.1}\">{}</text></g>",
            x + 3.0,
            y + 12.5,
            fitting(&name, width),
        );
    }
}

fn document(profile: &Profile, graph: &Graph, nonce: &str, colours: &str) -> String {
    let height = TOP + (graph.depth + 1) as f64 * ROW + 12.0 + 16.0 * profile.notes.len() as f64;
    let nonce = escape(nonce);
    let mut notes = String::new();
    for (at, note) in profile.notes.iter().enumerate() {
        let y = height - 8.0 - 16.0 * (profile.notes.len() - 1 - at) as f64;
        let note = escape(note);
        let _written = write!(
            notes,
            "<text class=\"note\" x=\"{LEFT}\" y=\"{y}\">{note}</text>"
        );
    }
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"100%\">\n\
         <style nonce=\"{nonce}\"><![CDATA[{colours}{STYLE}]]></style>\n\
         <text class=\"head\" x=\"{LEFT}\" y=\"22\">{}</text>\n\
         <foreignObject x=\"{LEFT}\" y=\"30\" width=\"300\" height=\"26\"><input xmlns=\"http://www.w3.org/1999/xhtml\" id=\"search\" type=\"search\" placeholder=\"Search functions\" aria-label=\"Search functions\"/></foreignObject>\n\
         <text id=\"reading\" x=\"322\" y=\"48\"></text>\n\
         {}{notes}\n\
         <script nonce=\"{nonce}\"><![CDATA[{SCRIPT}]]></script>\n\
         </svg>\n",
        heading(profile),
        graph.out,
    )
}

/// What the profile is, in one line.
fn heading(profile: &Profile) -> String {
    let total = amount(profile.kind, profile.total());
    let seconds = profile.duration.as_secs_f64();
    match profile.kind {
        ProfileKind::Cpu => format!(
            "Processor time: {total} in {seconds:.1} s, {} samples by {}",
            profile.count(),
            profile.method.words()
        ),
        ProfileKind::Heap => format!("Live allocations: {total}"),
        ProfileKind::HeapGrowth => format!("Growth of live allocations in {seconds:.1} s: {total}"),
    }
}

/// An amount with its unit.
fn amount(kind: ProfileKind, weight: i64) -> String {
    let weight = weight as f64;
    match kind {
        ProfileKind::Cpu if weight >= 1e9 => format!("{:.2} s", weight / 1e9),
        ProfileKind::Cpu => format!("{:.0} ms", weight / 1e6),
        _ if weight >= 1_048_576.0 => format!("{:.1} MiB", weight / 1_048_576.0),
        _ => format!("{:.1} KiB", weight / 1_024.0),
    }
}

/// The class of a frame's colour: by the crate of its function.
fn colour(name: &str, depth: usize) -> String {
    if depth == 0 {
        return "root".to_owned();
    }
    let path = name.trim_start_matches("&lt;");
    let mut hasher = DefaultHasher::new();
    path.split("::").next().hash(&mut hasher);
    format!("c{}", hasher.finish() % COLOURS)
}

/// The beginning of an escaped name that fits into a width. The script draws it anew where it runs.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a small number"
)]
fn fitting(escaped: &str, width: f64) -> &str {
    let most = ((width - 6.0) / CHARACTER).max(0.0) as usize;
    let is_whole = escaped.len() <= most;
    if is_whole { escaped } else { "" }
}

/// The text without characters that XML gives a meaning to, or forbids.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::profile;

    #[test]
    fn a_frame_is_as_wide_as_its_share_and_has_its_numbers() {
        let profile = profile(&[
            ("/a", &["main", "hot"], 3_000_000_000),
            ("/a", &["main", "cold"], 1_000_000_000),
        ]);
        let graph = flame_graph(&profile, "n", "");
        for expected in [
            "Processor time: 4.00 s in 10.0 s, 2 samples by perf events",
            "<title>all\n4.00 s, 100.00 %</title>",
            "<title>/a\n4.00 s, 100.00 %</title>",
            "data-x=\"0.000000\" data-w=\"0.750000\" data-d=\"3\"><title>hot\n3.00 s, 75.00 %</title>",
            "data-x=\"0.750000\" data-w=\"0.250000\" data-d=\"3\"><title>cold\n1.00 s, 25.00 %</title>",
        ] {
            assert!(graph.contains(expected), "{expected}\n{graph}");
        }
    }

    #[test]
    fn a_name_cannot_break_out_of_the_document() {
        let name = "<x as y>::f\u{1}]]></title><script>alert('1')</script>\"";
        let profile = profile(&[("/<b>&", &[name], 1_000)]);
        let graph = flame_graph(&profile, "\"><script>", "");
        assert_eq!(graph.matches("<script").count(), 1, "{graph}");
        assert!(!graph.contains('\u{1}') && graph.contains("/&lt;b&gt;&amp;"));
    }

    #[test]
    fn what_shrank_and_what_is_tiny_is_not_drawn() {
        let mut profile = profile(&[
            ("", &["grew"], 2_000_000),
            ("", &["shrank"], -2_000_000),
            ("", &["tiny"], 1),
        ]);
        profile.kind = ProfileKind::HeapGrowth;
        let graph = flame_graph(&profile, "n", "");
        assert!(
            graph.contains("<title>grew\n1.9 MiB, 100.00 %</title>"),
            "{graph}"
        );
        assert!(!graph.contains("shrank") && !graph.contains("tiny"));
        assert!(!graph.contains(NO_REQUEST));
    }

    #[test]
    fn an_empty_profile_is_a_document_as_well() {
        let graph = flame_graph(&profile(&[]), "n", ":root { --page: #fff; }");
        assert!(graph.contains("0 samples") && graph.ends_with("</svg>\n"));
        assert!(graph.contains("<![CDATA[:root { --page: #fff; }"));
    }
}
