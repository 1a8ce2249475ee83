//! The resources of an application, read from Actix' own map: all patterns that a path may lead to, in the order in which
//! routing asks them.
//!
//! Actix finds only the first of them by a path, and which one routing takes depends on guards. The map shows its tree in
//! no other way than by its `Debug` output, which is read here. Where that cannot be read, there is no tree.

use std::cell::OnceCell;

use actix_web::dev::{ResourceDef, ResourceMap};

/// The tree of an application's scopes and resources.
#[derive(Debug)]
pub(super) struct Resources(Node);

/// A scope, or a resource.
#[derive(Debug)]
struct Node {
    /// The patterns that it adds to those of its scope. The first of several is its name.
    patterns: Vec<String>,
    is_prefix: bool,
    /// Made when a path begins as one of the patterns does: an expression is large, and most are never asked.
    definition: OnceCell<ResourceDef>,
    /// None for a resource.
    children: Option<Vec<Node>>,
}

impl Resources {
    /// Reads the tree, if the map shows it in the way that is known here.
    pub(super) fn read(map: &ResourceMap) -> Option<Self> {
        let shown = format!("{map:?}");
        let mut reader = Reader(&shown);
        let root = reader.value()?;
        reader.0.is_empty().then_some(())?;
        Node::of(&root).map(Self)
    }

    /// The patterns of all resources that a path may lead to, in the order of their registration.
    pub(super) fn candidates(&self, path: &str) -> Vec<String> {
        let mut found = Vec::new();
        self.0.collect(path, "", &mut |pattern, _| {
            if !found.contains(&pattern) {
                found.push(pattern);
            }
        });
        found
    }

    /// Whether the resource with this pattern serves everything below its path, as files do.
    pub(super) fn serves_below(&self, path: &str, pattern: &str) -> bool {
        let mut serves_below = false;
        self.0.collect(path, "", &mut |found, is_prefix| {
            serves_below |= is_prefix && found == pattern;
        });
        serves_below
    }
}

impl Node {
    fn of(shown: &Value<'_>) -> Option<Self> {
        let definition = shown.field("pattern")?;
        let Value::Group("Single" | "List", patterns) = definition.field("patterns")? else {
            return None;
        };
        let patterns: Vec<String> = match patterns.first()? {
            (_, Value::Group("", list)) => list.iter().map(|(_, value)| value.text()).collect(),
            (_, single) => Some(vec![single.text()?]),
        }?;
        patterns.first()?;
        let is_prefix = definition.field("is_prefix")?.is_atom("true");
        let children = match shown.field("nodes")? {
            Value::Group("Some", nodes) => {
                let Value::Group("", nodes) = &nodes.first()?.1 else {
                    return None;
                };
                Some(
                    nodes
                        .iter()
                        .map(|(_, node)| Self::of(node))
                        .collect::<Option<_>>()?,
                )
            }
            nodes => nodes.is_atom("None").then_some(None)?,
        };
        Some(Self {
            patterns,
            is_prefix,
            definition: OnceCell::new(),
            children,
        })
    }

    /// How much of a path this matches.
    fn find_match(&self, path: &str) -> Option<usize> {
        let may_match = |pattern: &String| {
            let literal = pattern.split(['{', '*']).next();
            literal.is_some_and(|literal| path.starts_with(literal))
        };
        if !self.patterns.iter().any(may_match) {
            return None;
        }
        let definition = self.definition.get_or_init(|| {
            let patterns = self.patterns.clone();
            if self.is_prefix {
                ResourceDef::prefix(patterns)
            } else {
                ResourceDef::new(patterns)
            }
        });
        definition.find_match(path)
    }

    /// Reports the pattern of each resource that a path may lead to, and whether the resource serves everything below
    /// the path.
    fn collect(&self, path: &str, scope: &str, found: &mut impl FnMut(String, bool)) {
        let Some(rest) = self.find_match(path).and_then(|length| path.get(length..)) else {
            return;
        };
        let own = self.patterns.first().map_or("", String::as_str);
        let pattern = format!("{scope}{own}");
        match &self.children {
            Some(children) => {
                for child in children {
                    child.collect(rest, &pattern, found);
                }
            }
            None => found(pattern, self.is_prefix),
        }
    }
}

/// A value as `Debug` shows it.
#[derive(Debug)]
enum Value<'a> {
    Text(String),
    /// A name or a number alone.
    Atom(&'a str),
    /// A structure, a tuple, a list or a map: its name, which may be empty, and its values with their names, if they have
    /// any.
    Group(&'a str, Vec<(&'a str, Value<'a>)>),
}

impl<'a> Value<'a> {
    fn field(&self, name: &str) -> Option<&Value<'a>> {
        let Value::Group(_, fields) = self else {
            return None;
        };
        let field = fields.iter().find(|(field, _)| *field == name);
        field.map(|(_, value)| value)
    }

    fn text(&self) -> Option<String> {
        match self {
            Value::Text(text) => Some(text.clone()),
            Value::Atom(_) | Value::Group(..) => None,
        }
    }

    fn is_atom(&self, name: &str) -> bool {
        matches!(self, Value::Atom(atom) if *atom == name)
    }
}

/// Deepest nesting that is read.
const MOST_LEVELS: usize = 256;

/// Reads `Debug` output.
struct Reader<'a>(&'a str);

impl<'a> Reader<'a> {
    fn value(&mut self) -> Option<Value<'a>> {
        self.value_within(MOST_LEVELS)
    }

    fn value_within(&mut self, levels: usize) -> Option<Value<'a>> {
        let levels = levels.checked_sub(1)?;
        if self.0.starts_with('"') {
            return self.text().map(Value::Text);
        }
        let name = self.name();
        self.skip(" ");
        let Some(opening @ ('{' | '(' | '[')) = self.0.chars().next() else {
            return (!name.is_empty()).then_some(Value::Atom(name));
        };
        let closing = match opening {
            '{' => '}',
            '(' => ')',
            _ => ']',
        };
        self.0 = &self.0[1..];
        let mut values = Vec::new();
        loop {
            self.skip(" ");
            if let Some(rest) = self.0.strip_prefix(closing) {
                self.0 = rest;
                return Some(Value::Group(name, values));
            }
            let mut value = self.value_within(levels)?;
            let mut field = "";
            if self.skip(": ") {
                if let Value::Atom(name) = value {
                    field = name;
                }
                value = self.value_within(levels)?;
            }
            values.push((field, value));
            self.skip(",");
        }
    }

    fn name(&mut self) -> &'a str {
        let end = self
            .0
            .find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.'))
            .unwrap_or(self.0.len());
        let (name, rest) = self.0.split_at(end);
        self.0 = rest;
        name
    }

    fn skip(&mut self, token: &str) -> bool {
        let rest = self.0.strip_prefix(token);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A string in quotes, with its escapes undone.
    fn text(&mut self) -> Option<String> {
        let mut text = String::new();
        let mut chars = self.0.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Some(text);
                }
                '\\' => match chars.next()?.1 {
                    'n' => text.push('\n'),
                    'r' => text.push('\r'),
                    't' => text.push('\t'),
                    '0' => text.push('\0'),
                    'u' => {
                        let digits = chars.by_ref().skip(1).map(|(_, c)| c);
                        let digits: String = digits.take_while(|c| *c != '}').collect();
                        text.push(char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?);
                    }
                    escaped => text.push(escaped),
                },
                c => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use actix_web::{App, HttpResponse, dev::Service, guard, test as actix_test, web};

    use super::*;

    /// The resources of an application, read by its first request.
    async fn read(config: impl FnOnce(&mut web::ServiceConfig)) -> Resources {
        let resources = Rc::new(RefCell::new(None));
        let seen = Rc::clone(&resources);
        let app = App::new()
            .configure(config)
            .wrap_fn(move |request, service| {
                *seen.borrow_mut() = Resources::read(request.resource_map());
                service.call(request)
            });
        let app = actix_test::init_service(app).await;
        actix_test::call_service(&app, actix_test::TestRequest::default().to_request()).await;
        resources.take().expect("Actix' map of resources is read")
    }

    #[actix_web::test]
    async fn all_resources_that_a_path_may_lead_to_are_found_in_their_order() {
        let ok = || web::to(HttpResponse::Ok);
        let resources = read(|config| {
            config
                .service(web::resource("/w/{id}").guard(guard::Get()).route(ok()))
                .service(web::resource("/w/boom").name("a \"name\"").route(ok()))
                .service(web::resource(["/one", "/two/{n:\\d+}"]).route(ok()))
                .service(
                    web::scope("/users/{user}")
                        .service(web::resource("").route(ok()))
                        .service(web::scope("/posts").route("/{post}", ok())),
                )
                .service(web::scope("").route("/w/{other}", ok()))
                .service(web::resource("/{tail:.*}").route(ok()))
                .external_resource("elsewhere", "https://example.com/{id}");
        })
        .await;
        for (path, expected) in [
            ("/w/1", &["/w/{id}", "/w/{other}", "/{tail:.*}"][..]),
            (
                "/w/boom",
                &["/w/{id}", "/w/boom", "/w/{other}", "/{tail:.*}"],
            ),
            ("/one", &["/one", "/{tail:.*}"]),
            ("/two/12", &["/one", "/{tail:.*}"]),
            ("/two/x", &["/{tail:.*}"]),
            ("/users/ada", &["/users/{user}", "/{tail:.*}"]),
            (
                "/users/ada/posts/3",
                &["/users/{user}/posts/{post}", "/{tail:.*}"],
            ),
            ("no path", &[]),
        ] {
            assert_eq!(resources.candidates(path), expected, "{path}");
        }
    }

    #[test]
    fn any_output_is_read_or_refused() {
        for (shown, is_read) in [
            (
                "A { b: \"c\\\"\\u{e9}\\n\", d: [1, 2], e: (Weak), f: {\"g\": H(3)} }",
                true,
            ),
            ("A { b: ", false),
            ("\"open", false),
            ("\"\\u{zz}\"", false),
            ("", false),
            (&"(".repeat(100_000), false),
        ] {
            assert_eq!(Reader(shown).value().is_some(), is_read);
        }
    }
}
