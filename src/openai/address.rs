//! An endpoint's address, as the user gives it.

use std::fmt;

use reqwest::Url;

use crate::fault::Fault;

/// The root of an API: `http://host:port/v1`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(Url);

/// What people copy along with the root.
const ROUTES: [&str; 4] = ["/chat/completions", "/completions", "/models", "/responses"];

impl Address {
    /// Whether a word means an endpoint and no file.
    pub fn is_one(text: &str) -> bool {
        ["http://", "https://"].iter().any(|scheme| text.trim().to_ascii_lowercase().starts_with(scheme))
    }

    /// Reads an address. Where it has no path, `/v1` is meant.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        const SHAPE: &str = "give the root of the API, such as `http://localhost:8000/v1`";
        let text = text.trim();
        if !Self::is_one(text) {
            return Err(Fault::new(
                format!("{text} is no address: it begins with neither http:// nor https://"),
                SHAPE,
            ));
        }
        let mut url = Url::parse(text).map_err(|error| Fault::new(format!("{text} is no address: {error}"), SHAPE))?;
        let refuse = |why: &str, hint: &str| Err(Fault::new(format!("the address {text} {why}"), hint));
        if !url.username().is_empty() || url.password().is_some() {
            // It would stand in every file of the run.
            return refuse(
                "holds a user or a password",
                "put the key into the environment: `OPENAI_API_KEY`, or `--api-key-env NAME`",
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("has something behind `?` or `#`", SHAPE);
        }
        if url.host_str().is_none() {
            return refuse("names no host", SHAPE);
        }
        let path = url.path().trim_end_matches('/').to_owned();
        if let Some(route) = ROUTES.iter().find(|route| path.ends_with(**route)) {
            let root = text.trim_end_matches('/').strip_suffix(route).unwrap_or(text);
            return refuse(
                &format!("ends in {route}, which is a route of the API"),
                &format!("give its root: `{root}`"),
            );
        }
        url.set_path(if path.is_empty() { "/v1" } else { &path });
        Ok(Self(url))
    }

    /// A route of the API: `/completions`.
    pub(super) fn route(&self, route: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{route}", self.0.path()));
        url
    }

    /// A route beside the API, such as `/health`, which servers have at their own root.
    pub(super) fn beside(&self, route: &str) -> Url {
        let mut url = self.0.clone();
        url.set_path(&format!("{}{route}", self.0.path().trim_end_matches("/v1")));
        url
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_an_api_is_read_however_it_is_written() {
        for (text, root) in [
            ("http://localhost:8000/v1", "http://localhost:8000/v1"),
            ("http://localhost:8000", "http://localhost:8000/v1"),
            (" HTTP://localhost:8000/v1/ ", "http://localhost:8000/v1"),
            ("https://gateway.example/openai/v1", "https://gateway.example/openai/v1"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), root);
        }
        let address = Address::parse("http://h:1/team/v1").unwrap();
        assert_eq!(address.route("/models").as_str(), "http://h:1/team/v1/models");
        assert_eq!(address.beside("/health").as_str(), "http://h:1/team/health");
    }

    #[test]
    fn what_is_no_root_is_refused_with_a_way_out() {
        for (text, part) in [
            ("localhost:8000", "begins with neither"),
            ("http://", "is no address"),
            ("http://me:secret@h/v1", "a password"),
            ("http://h/v1/chat/completions", "give its root: `http://h/v1`"),
            ("http://h/v1/completions/", "give its root: `http://h/v1`"),
            ("http://h/v1?key=1", "behind `?`"),
        ] {
            let message = Address::parse(text).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("hint: "), "{text}: {message}");
        }
        assert!(!Address::parse("http://me:secret@h/v1").unwrap_err().to_string().contains("`secret`"));
        assert!(Address::is_one("https://x") && !Address::is_one("./http") && !Address::is_one("org/model"));
    }
}
