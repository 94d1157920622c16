//! Where the hub is, where its files are kept, and who asks.

use std::path::{Path, PathBuf};

use super::HubError;

/// The hub's default endpoint.
const ENDPOINT: &str = "https://huggingface.co";

/// What a [`super::Hub`] is made from.
#[derive(Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// The address, without a slash at its end.
    pub endpoint: String,
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// For private and gated repositories.
    pub token: Option<String>,
    /// Cached files only; no network.
    pub offline: bool,
}

impl std::fmt::Debug for HubSettings {
    /// A token must not end up in a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HubSettings")
            .field("endpoint", &self.endpoint)
            .field("cache", &self.cache)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish()
    }
}

impl HubSettings {
    /// By the variables that `huggingface_hub` reads (`variable` looks one up): `HF_ENDPOINT`; `HF_HUB_CACHE`, else
    /// `HF_HOME/hub`, else `XDG_CACHE_HOME/huggingface/hub`, else `~/.cache/huggingface/hub`; `HF_TOKEN`, else the
    /// file that `hf auth login` wrote (`HF_TOKEN_PATH`, else `HF_HOME/token`); `HF_HUB_OFFLINE`.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>, offline: bool) -> Result<Self, HubError> {
        let set = |name: &str| variable(name).map(|value| value.trim().to_owned()).filter(|value| !value.is_empty());
        let user_home = || set("HOME").map(PathBuf::from).or_else(std::env::home_dir);
        let cache_home =
            || set("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| user_home().map(|home| home.join(".cache")));
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| cache_home().map(|cache| cache.join("huggingface")));
        let cache = set("HF_HUB_CACHE").map(PathBuf::from).or_else(|| home.as_ref().map(|home| home.join("hub")));
        let cache = cache.and_then(|cache| std::path::absolute(cache).ok()).ok_or_else(|| {
            HubError::new(
                "there is no folder to keep files of the hub in: neither HF_HOME nor HOME is set",
                "set HF_HOME to a folder with enough space",
            )
        })?;
        let token_file = set("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|home| home.join("token")));
        let token = set("HF_TOKEN").or_else(|| token_file.as_deref().and_then(read_token));
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned()).trim_end_matches('/').to_owned();
        let yes = |value: String| matches!(value.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE");
        Ok(Self { endpoint, cache, token, offline: offline || set("HF_HUB_OFFLINE").is_some_and(yes) })
    }
}

fn read_token(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok().map(|token| token.trim().to_owned()).filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> HubSettings {
        let find = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        HubSettings::from_variables(find, false).unwrap()
    }

    #[test]
    fn folders_follow_the_variables_from_the_most_particular_down() {
        let cache = |variables: &[(&str, &str)]| settings(variables).cache;
        assert_eq!(cache(&[("HOME", "/u")]), Path::new("/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "/h")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HOME", "/u"), ("HF_HOME", "/h"), ("HF_HUB_CACHE", "/c")]), Path::new("/c"));
    }

    #[test]
    fn token_endpoint_and_offline_mode() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "hf_file\n").unwrap();
        let home = home.path().to_str().unwrap();
        let from_file = settings(&[("HF_HOME", home)]);
        assert_eq!(from_file.token.as_deref(), Some("hf_file"));
        assert_eq!((from_file.endpoint.as_str(), from_file.offline), (ENDPOINT, false));
        let set = settings(&[
            ("HF_HOME", home),
            ("HF_TOKEN", "hf_set"),
            ("HF_ENDPOINT", "http://mirror/"),
            ("HF_HUB_OFFLINE", "true"),
        ]);
        assert_eq!((set.token.as_deref(), set.endpoint.as_str(), set.offline), (Some("hf_set"), "http://mirror", true));
        assert!(!settings(&[("HF_HOME", home), ("HF_HUB_OFFLINE", "0")]).offline);
        assert!(!format!("{set:?}").contains("hf_set"));
    }
}
