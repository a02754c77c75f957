//! Which paths are served: `announce_routes` and `scrape_routes`, compiled at
//! start.
//!
//! A route is made of segments: plain text, `:name` for exactly one segment
//! that is not empty, and `*name` at the end for all that is left, which may
//! be empty (`/users/:passkey/announce`, `/announce/*rest`). Where several
//! routes match, the first segment in which they differ decides: text wins
//! over `:name`, and that over `*name`.
//!
//! Paths are compared as they came, without decoding escapes: no client
//! encodes `/announce`. A tracker has a handful of routes, so they are tried
//! one after the other; this is faster than any tree of them and allocates
//! nothing.

use std::fmt;

/// How many parameters one route may have.
pub const MAX_ROUTE_PARAMETERS: usize = 8;

/// What a route leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteKind {
    /// `announce_routes`
    Announce,
    /// `scrape_routes`
    Scrape,
}

/// The compiled routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    /// Sorted: the first that matches is the right one.
    routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    segments: Vec<Segment>,
    kind: RouteKind,
}

/// In the order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    Text(Box<str>),
    Named(Box<str>),
    Rest(Box<str>),
}

/// Why a route is refused, and which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidRoute {
    /// The route as it was configured.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: InvalidRouteReason,
}

/// What is wrong with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidRouteReason {
    /// It does not begin with `/`.
    NoLeadingSlash,
    /// It has a character that no request path can have.
    InvalidCharacter,
    /// `:` or `*` within a segment.
    MisplacedParameter,
    /// `:` or `*` without a name.
    UnnamedParameter,
    /// Two parameters have one name.
    RepeatedParameter,
    /// `*name` is not the last segment.
    RestNotLast,
    /// More than [`MAX_ROUTE_PARAMETERS`].
    TooManyParameters,
    /// It matches the same paths as a route before it.
    Conflict,
}

impl fmt::Display for InvalidRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pattern, reason } = self;
        let remedy = match reason {
            InvalidRouteReason::NoLeadingSlash => "it has to begin with '/'",
            InvalidRouteReason::InvalidCharacter => {
                "it has a space, a '?', a '#' or another character that a path cannot have"
            }
            InvalidRouteReason::MisplacedParameter => {
                "':' and '*' have to stand at the beginning of a segment, behind a '/'"
            }
            InvalidRouteReason::UnnamedParameter => "':' and '*' need a name behind them",
            InvalidRouteReason::RepeatedParameter => "two of its parameters have the same name",
            InvalidRouteReason::RestNotLast => "'*name' has to be its last segment",
            InvalidRouteReason::TooManyParameters => "it has more than 8 parameters",
            InvalidRouteReason::Conflict => "another route matches the same paths",
        };
        write!(f, "route \"{pattern}\": {remedy}")
    }
}

impl std::error::Error for InvalidRoute {}

/// The route of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteMatch<'r, 'p> {
    /// Where it leads.
    pub kind: RouteKind,
    /// The values of its `:name` and `*name` segments.
    pub parameters: RouteParameters<'r, 'p>,
}

/// Names and values of a matched route; the values are still percent-encoded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteParameters<'r, 'p> {
    entries: [(&'r str, &'p str); MAX_ROUTE_PARAMETERS],
    len: usize,
}

impl<'r, 'p> RouteParameters<'r, 'p> {
    /// The value of the parameter of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'p str> {
        self.iter()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// All of them, from left to right.
    pub fn iter(&self) -> impl Iterator<Item = (&'r str, &'p str)> + '_ {
        self.entries.iter().take(self.len).copied()
    }

    fn push(&mut self, name: &'r str, value: &'p str) {
        if let Some(entry) = self.entries.get_mut(self.len) {
            *entry = (name, value);
            self.len = self.len.saturating_add(1);
        }
    }
}

impl Routes {
    /// Compiles the configured routes.
    ///
    /// # Errors
    ///
    /// The first route that makes no sense or repeats another.
    pub fn compile<S: AsRef<str>>(
        announce_routes: &[S],
        scrape_routes: &[S],
    ) -> Result<Self, InvalidRoute> {
        let mut routes: Vec<Route> = Vec::new();
        let announce = announce_routes
            .iter()
            .map(|route| (route, RouteKind::Announce));
        let scrape = scrape_routes.iter().map(|route| (route, RouteKind::Scrape));
        for (pattern, kind) in announce.chain(scrape) {
            let pattern = pattern.as_ref();
            let invalid = |reason| InvalidRoute {
                pattern: pattern.to_owned(),
                reason,
            };
            let segments = compile_segments(pattern).map_err(invalid)?;
            let route = Route { segments, kind };
            if routes
                .iter()
                .any(|other| preference(other).eq(preference(&route)))
            {
                return Err(invalid(InvalidRouteReason::Conflict));
            }
            routes.push(route);
        }
        routes.sort_by(|a, b| preference(a).cmp(preference(b)));
        Ok(Self { routes })
    }

    /// The route that `path` takes, if any.
    #[must_use]
    pub fn find<'p>(&self, path: &'p str) -> Option<RouteMatch<'_, 'p>> {
        let path = path.strip_prefix('/')?;
        self.routes.iter().find_map(|route| {
            Some(RouteMatch {
                kind: route.kind,
                parameters: match_segments(&route.segments, path)?,
            })
        })
    }
}

/// Matches a path without its leading slash.
fn match_segments<'r, 'p>(
    segments: &'r [Segment],
    path: &'p str,
) -> Option<RouteParameters<'r, 'p>> {
    let mut parameters = RouteParameters::default();
    let mut left = Some(path);
    for segment in segments {
        let rest = left?;
        if let Segment::Rest(name) = segment {
            parameters.push(name, rest);
            return Some(parameters);
        }
        let (part, behind) = match rest.split_once('/') {
            Some((part, behind)) => (part, Some(behind)),
            None => (rest, None),
        };
        match segment {
            Segment::Text(text) if **text == *part => {}
            Segment::Named(name) if !part.is_empty() => parameters.push(name, part),
            _ => return None,
        }
        left = behind;
    }
    left.is_none().then_some(parameters)
}

fn compile_segments(pattern: &str) -> Result<Vec<Segment>, InvalidRouteReason> {
    let path = pattern
        .strip_prefix('/')
        .ok_or(InvalidRouteReason::NoLeadingSlash)?;
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) || path.contains(['?', '#']) {
        return Err(InvalidRouteReason::InvalidCharacter);
    }
    let mut segments = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    for part in path.split('/') {
        if matches!(segments.last(), Some(Segment::Rest(_))) {
            return Err(InvalidRouteReason::RestNotLast);
        }
        let name = part.strip_prefix([':', '*']);
        if name.unwrap_or(part).contains([':', '*']) {
            return Err(InvalidRouteReason::MisplacedParameter);
        }
        let Some(name) = name else {
            segments.push(Segment::Text(part.into()));
            continue;
        };
        if name.is_empty() {
            return Err(InvalidRouteReason::UnnamedParameter);
        }
        if names.contains(&name) {
            return Err(InvalidRouteReason::RepeatedParameter);
        }
        names.push(name);
        segments.push(if part.starts_with(':') {
            Segment::Named(name.into())
        } else {
            Segment::Rest(name.into())
        });
    }
    if names.len() > MAX_ROUTE_PARAMETERS {
        return Err(InvalidRouteReason::TooManyParameters);
    }
    Ok(segments)
}

/// What makes one route come before another: the kinds of its segments and
/// their texts, not the names of parameters.
fn preference(route: &Route) -> impl Iterator<Item = (u8, &str)> {
    route.segments.iter().map(|segment| match segment {
        Segment::Text(text) => (0, &**text),
        Segment::Named(_) => (1, ""),
        Segment::Rest(_) => (2, ""),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(announce: &[&str], scrape: &[&str]) -> Routes {
        Routes::compile(announce, scrape).expect("valid routes")
    }

    #[test]
    fn finds_the_most_specific_route() {
        let routes = routes(
            &[
                "/*rest",
                "/announce",
                "/users/:passkey/announce",
                "/users/me/announce",
                "/:a/:d/:c",
            ],
            &["/scrape", "/users/:passkey/scrape", "/:b/y/:c"],
        );
        for (path, kind, parameters) in [
            ("/announce", RouteKind::Announce, vec![]),
            ("/scrape", RouteKind::Scrape, vec![]),
            ("/users/me/announce", RouteKind::Announce, vec![]),
            (
                "/users/a%2Fb/announce",
                RouteKind::Announce,
                vec![("passkey", "a%2Fb")],
            ),
            ("/users/x/scrape", RouteKind::Scrape, vec![("passkey", "x")]),
            (
                "/users//scrape",
                RouteKind::Announce,
                vec![("rest", "users//scrape")],
            ),
            ("/", RouteKind::Announce, vec![("rest", "")]),
            // The names of parameters do not matter for the order.
            ("/x/y/z", RouteKind::Scrape, vec![("b", "x"), ("c", "z")]),
            (
                "/x/w/z",
                RouteKind::Announce,
                vec![("a", "x"), ("d", "w"), ("c", "z")],
            ),
        ] {
            let found = routes.find(path).expect(path);
            assert_eq!(found.kind, kind, "{path}");
            assert_eq!(
                found.parameters.iter().collect::<Vec<_>>(),
                parameters,
                "{path}"
            );
        }
    }

    #[test]
    fn other_paths_have_no_route() {
        let routes = routes(&["/announce", "/:key/announce"], &["/scrape/*rest"]);
        for path in [
            "",
            "/",
            "announce",
            "/announce/",
            "/Announce",
            "//announce",
            "/scrape",
        ] {
            assert_eq!(routes.find(path), None, "{path}");
        }
        let found = routes.find("/scrape/").expect("an empty rest");
        assert_eq!(found.parameters.get("rest"), Some(""));
    }

    #[test]
    fn says_what_is_wrong_with_a_route() {
        for (pattern, reason) in [
            ("", InvalidRouteReason::NoLeadingSlash),
            ("announce", InvalidRouteReason::NoLeadingSlash),
            ("/a b", InvalidRouteReason::InvalidCharacter),
            ("/a?b", InvalidRouteReason::InvalidCharacter),
            ("/a:b", InvalidRouteReason::MisplacedParameter),
            ("/:a*b", InvalidRouteReason::MisplacedParameter),
            ("/:/a", InvalidRouteReason::UnnamedParameter),
            ("/*", InvalidRouteReason::UnnamedParameter),
            ("/:a/:a", InvalidRouteReason::RepeatedParameter),
            ("/*a/b", InvalidRouteReason::RestNotLast),
            (
                "/:a/:b/:c/:d/:e/:f/:g/:h/:i",
                InvalidRouteReason::TooManyParameters,
            ),
        ] {
            let error = Routes::compile(&[pattern], &[]).expect_err(pattern);
            assert_eq!(error.reason, reason, "{pattern}");
            assert!(error.to_string().contains(pattern));
        }
        let error = Routes::compile(&["/:a/x"], &["/:b/x"]).expect_err("the same paths");
        assert_eq!(error.pattern, "/:b/x");
        assert_eq!(error.reason, InvalidRouteReason::Conflict);
    }
}
