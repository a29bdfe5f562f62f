//! Flags for looking things up by words, and for the search cluster that may answer.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Remote, Workspace};

/// The search cluster.
#[derive(Clone, Debug, Default, Args)]
pub struct SearchCluster {
    /// Keep the documents of the view `search` in this Elasticsearch (7, 8) or OpenSearch (2), and answer from it:
    /// http://HOST:9200, with USER:PASSWORD@ if need be
    #[arg(id = "search", long = "search", env = "ANNALS_SEARCH_URL", value_name = "URL", hide_env_values = true)]
    pub url: Option<String>,
    /// The name of the index there; it is an alias to NAME-000001 and what follows
    #[arg(id = "search_index", long = "search-index", env = "ANNALS_SEARCH_INDEX", default_value = "models", value_name = "NAME", value_parser = index)]
    pub index: String,
    /// File with USER:PASSWORD, or with `ApiKey KEY`
    #[arg(id = "search_auth_file", long = "search-auth-file", env = "ANNALS_SEARCH_AUTH_FILE", value_name = "FILE", requires = "search")]
    pub auth_file: Option<PathBuf>,
    /// File of PEM certificates: authorities to trust besides those of the system
    #[arg(id = "search_ca", long = "search-ca", env = "ANNALS_SEARCH_CA", value_name = "FILE", requires = "search")]
    pub ca: Option<PathBuf>,
}

/// A search.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
#[command(after_help = "Examples:\n  annals search churn forest\n  annals search 'algorithm:forest channel:production'\n  \
    annals search 'fraud* -status:retired' --limit 5 --json\n  annals search reindex\n\
    \nAll words must be there, in whatever order; `word*` takes longer ones, `field:word` looks into one field, `-word` must not be \
    there. Fields: name, version, label, status, channel, alias, owner, algorithm, description, purpose, risk, tag, run, digest, \
    format, licence, uri, data, performance, kind. It answers about now, the newest first.")]
pub struct Search {
    /// Something to be done with the index.
    #[command(subcommand)]
    pub command: Option<SearchCommand>,
    /// What to look for
    #[arg(required = true, value_name = "QUERY")]
    pub query: Vec<String>,
    /// Most documents; all unless given
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// In which workspace; * is all.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where to ask.
    #[command(flatten)]
    pub remote: Remote,
}

/// What can be done with the index.
#[derive(Clone, Debug, Subcommand)]
pub enum SearchCommand {
    /// Make the index of the search cluster anew, beside the old one, then switch
    Reindex(Remote),
}

/// Records of an index that somebody has written by hand.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Each document with name, version, description, data, algorithm and performance becomes a `registered` event: its \
    version is the label, or a tag where it is all digits. The id follows from index and document, so the same index may be imported again. \
    What cannot be one is listed with the reason.")]
pub struct ImportElasticsearch {
    /// The cluster: Elasticsearch 7 or 8, or OpenSearch
    #[arg(value_name = "CLUSTER")]
    pub cluster: String,
    /// The index
    #[arg(long, default_value = "models", value_name = "NAME", value_parser = index)]
    pub index: String,
    /// File with USER:PASSWORD, or with `ApiKey KEY`
    #[arg(long, env = "ANNALS_SEARCH_AUTH_FILE", value_name = "FILE")]
    pub auth_file: Option<PathBuf>,
    /// File of PEM certificates: authorities to trust besides those of the system
    #[arg(long, env = "ANNALS_SEARCH_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Who imports
    #[arg(long, env = "ANNALS_ACTOR", value_name = "NAME")]
    pub actor: Option<String>,
    /// Into which workspace.
    #[command(flatten)]
    pub workspace: Workspace,
    /// Where the engine is.
    #[command(flatten)]
    pub remote: Remote,
}

impl SearchCluster {
    /// What the file says of who we are, if there is one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn authorization(file: Option<&std::path::Path>) -> Result<Option<String>, String> {
        let Some(path) = file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))?;
        let text = text.trim();
        let is_form = (text.starts_with("ApiKey ") || text.contains(':')) && !text.contains('\n');
        if is_form {
            Ok(Some(text.to_owned()))
        } else {
            Err(format!("{} holds neither USER:PASSWORD nor `ApiKey KEY` on one line", path.display()))
        }
    }
}

/// What a cluster takes as the name of an index, with room for what we put behind it.
fn index(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    if text.is_empty() || text.len() > 200 || !text.chars().all(is_plain) || text.starts_with(['.', '_', '-']) {
        return Err("use small letters, digits, `.`, `_` and `-`, beginning with a letter or a digit".into());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_clusters_take() {
        assert_eq!(index("team.models-2"), Ok("team.models-2".into()));
        for bad in ["", "Models", "_all", "-x", ".x", "a,b", "a*", "a/b", &"x".repeat(201)] {
            assert!(index(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn who_we_are_is_in_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("auth");
        for (text, fits) in [("ada:secret\n", true), ("ApiKey abc=\n", true), ("secret", false), ("a:b\nc:d", false), ("", false)] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(SearchCluster::authorization(Some(&file)).is_ok(), fits, "{text}");
        }
        assert_eq!(SearchCluster::authorization(None), Ok(None));
    }
}
