//! Workflow commands of GitHub Actions, one a line
//! (<https://docs.github.com/actions/reference/workflow-commands-for-github-actions>).

/// One workflow command, at a file of the repository where there is one to point at.
pub(crate) fn annotation(kind: &str, file: Option<&str>, title: &str, message: &str) -> String {
    let file = file.map_or_else(String::new, |file| format!("file={},", property(file)));
    format!("::{kind} {file}title={}::{}", property(title), data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_its_line_and_a_title_in_its_property() {
        let line = annotation("error", None, "a: b, 5%", "100 %\r\nnext::error::");
        assert_eq!(line, "::error title=a%3A b%2C 5%25::100 %25%0D%0Anext::error::");
    }
}
