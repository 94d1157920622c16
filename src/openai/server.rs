//! What a server says of itself.

use serde_json::Value;

use super::client::Client;
use super::failure::{Cause, RequestError};

/// A server and the model that it is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerInfo {
    /// What the model is asked for as.
    pub model: String,
    /// What the server has loaded under that name, where it tells.
    pub root: Option<String>,
    /// Prompt plus output at most, in tokens, where the server tells.
    pub context_tokens: Option<usize>,
    /// Who serves: `vllm`, `llamacpp`, `sglang`, a gateway's own name; as the list of models or the `Server` header tells.
    pub software: Option<String>,
    /// Its version, where it tells.
    pub version: Option<String>,
}

impl ServerInfo {
    /// Asks a server. `named` is the model that the user wants; `None` is the one that it serves, if that is one.
    pub async fn ask(client: &Client, named: Option<&str>) -> Result<Self, RequestError> {
        let address = client.address();
        let listed = client.get(address.route("/models")).await;
        let (list, header) = match (listed, named) {
            (Ok(found), _) => found,
            // Some gateways list nothing; whether the name is right, the first request will tell.
            (Err(error), Some(name))
                if matches!(error.cause, Cause::Status(400 | 404 | 405 | 501) | Cause::Malformed) =>
            {
                return Ok(Self { model: name.to_owned(), ..Self::default() });
            }
            (Err(error), _) => return Err(error),
        };
        let mut info = Self::of(&list, named)?;
        info.software = info.software.or(header);
        let version = client.get(address.beside("/version")).await.ok();
        info.version = version.and_then(|(value, _)| value.get("version").and_then(Value::as_str).map(str::to_owned));
        Ok(info)
    }

    fn of(list: &Value, named: Option<&str>) -> Result<Self, RequestError> {
        let empty = Vec::new();
        let models = list.get("data").or_else(|| list.get("models")).and_then(Value::as_array).unwrap_or(&empty);
        let text = |model: &Value, key: &str| model.get(key).and_then(Value::as_str).map(str::to_owned);
        let ids: Vec<String> = models.iter().filter_map(|model| text(model, "id")).collect();
        let refuse = |why: String| Err(RequestError::new(Cause::Status(404), why));
        let id = match (named, ids.as_slice()) {
            (Some(name), _) => name,
            (None, [only]) => only,
            (None, []) => return refuse("the server lists no model".to_owned()),
            (None, several) => {
                let shown = several.iter().take(8).map(String::as_str).collect::<Vec<_>>().join(", ");
                return refuse(format!("the server lists {} models and none was named: {shown}", several.len()));
            }
        };
        let found = models.iter().find(|model| text(model, "id").as_deref() == Some(id));
        let Some(model) = found else {
            // Aliases need not be listed.
            return Ok(Self { model: id.to_owned(), ..Self::default() });
        };
        // vLLM and SGLang; gateways; llama.cpp, of one of its slots.
        let context = ["/max_model_len", "/context_length", "/max_context_length", "/meta/n_ctx"]
            .iter()
            .find_map(|key| model.pointer(key)?.as_u64());
        Ok(Self {
            model: id.to_owned(),
            root: text(model, "root").filter(|root| root != id),
            context_tokens: context.and_then(|tokens| usize::try_from(tokens).ok()),
            software: text(model, "owned_by"),
            version: None,
        })
    }

    /// What a run is bound to: answers of another model, or of another server, do not belong to it.
    pub fn identity(&self) -> String {
        let root = self.root.as_ref().map(|root| format!(" ({root})")).unwrap_or_default();
        let context = self.context_tokens.map(|tokens| format!(", context {tokens}")).unwrap_or_default();
        format!("{}{root}{context}", self.model)
    }

    /// Name and version of the software, as far as they are known.
    pub fn software_in_words(&self) -> String {
        let name = self.software.as_deref().unwrap_or("unknown");
        self.version.as_ref().map_or_else(|| name.to_owned(), |version| format!("{name} {version}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_one_model_that_is_served_need_not_be_named() {
        let list = json!({"object": "list", "data": [
            {"id": "m", "owned_by": "vllm", "root": "/models/m", "max_model_len": 2048}]});
        let info = ServerInfo::of(&list, None).unwrap();
        assert_eq!(
            (info.model.as_str(), info.root.as_deref(), info.context_tokens),
            ("m", Some("/models/m"), Some(2048))
        );
        assert_eq!(info.identity(), "m (/models/m), context 2048");
        assert_eq!(ServerInfo::of(&list, Some("alias")).unwrap().identity(), "alias");
        let info = ServerInfo { version: Some("0.24.0".to_owned()), ..info };
        assert_eq!(info.software_in_words(), "vllm 0.24.0");
        assert_eq!(ServerInfo::default().software_in_words(), "unknown");
        let llama =
            json!({"data": [{"id": "m", "owned_by": "llamacpp", "meta": {"n_ctx": 2048, "n_ctx_train": 8192}}]});
        assert_eq!(ServerInfo::of(&llama, None).unwrap().context_tokens, Some(2048));
    }

    #[test]
    fn of_several_models_one_has_to_be_named() {
        let list = json!({"data": [{"id": "a"}, {"id": "b", "root": "b"}]});
        let error = ServerInfo::of(&list, None).unwrap_err();
        assert!(error.message.contains("2 models") && error.message.contains("a, b"), "{error}");
        assert_eq!(ServerInfo::of(&list, Some("b")).unwrap().root, None);
        assert!(ServerInfo::of(&json!({"data": []}), None).unwrap_err().message.contains("no model"));
    }
}
