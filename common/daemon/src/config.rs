//! Configuration files: TOML, checked twice.
//!
//! A daemon declares a raw type (`#[derive(Deserialize)] #[serde(deny_unknown_fields)]`, every
//! field defaulted or named in the example) and its own validated `Config`. [`load`] reads the
//! first and hands it to the second: what the file says is refused with line and column, what it
//! means with the field's name.

use std::{
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;
use warren_common::Limits;

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is larger than any configuration.
    #[error("configuration {} has more than {limit} bytes", path.display(), limit = Limits::CONFIG_BYTES)]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
    /// It is no TOML, or has a field that is unknown, missing or of another type. The text shows
    /// the line.
    #[error("configuration {} is wrong: {text}", path.display())]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// What the parser said, with the line.
        text: String,
    },
    /// A value that makes no sense.
    #[error("configuration {}: {field} {why}", path.display())]
    Value {
        /// Which file.
        path: PathBuf,
        /// The field, with its tables: `storage.engine`.
        field: String,
        /// What is wrong, such as `must be one of sled, redb`.
        why: String,
    },
}

/// A field whose value makes no sense; [`load`] adds the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidField {
    field: String,
    why: String,
}

impl InvalidField {
    /// Names the field with its tables, and what is wrong with it, as the end of a sentence that
    /// begins with the field: `must be at least 1`.
    pub fn new(field: impl Into<String>, why: impl fmt::Display) -> Self {
        Self { field: field.into(), why: why.to_string() }
    }
}

/// Reads a file as `Raw` and validates it into `Config`.
///
/// # Errors
/// The file cannot be read, is no TOML of this shape, or a value makes no sense.
pub fn load<Raw, Config>(path: &Path) -> Result<Config, ConfigError>
where
    Raw: DeserializeOwned,
    Config: TryFrom<Raw, Error = InvalidField>,
{
    let raw: Raw = parse(path, &read(path)?)?;
    Config::try_from(raw).map_err(|InvalidField { field, why }| ConfigError::Value {
        path: path.to_owned(),
        field,
        why,
    })
}

/// As [`load`]; the defaults where there is no such file.
///
/// # Errors
/// As [`load`], a missing file aside.
pub fn load_or_default<Raw, Config>(path: &Path) -> Result<Config, ConfigError>
where
    Raw: DeserializeOwned,
    Config: TryFrom<Raw, Error = InvalidField>,
{
    match path.try_exists() {
        Ok(false) => {
            let raw: Raw = parse(path, "")?;
            Config::try_from(raw).map_err(|InvalidField { field, why }| ConfigError::Value {
                path: path.to_owned(),
                field,
                why,
            })
        }
        Ok(true) | Err(_) => load(path),
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read { path: path.to_owned(), source };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut text = String::new();
    let limit = Limits::CONFIG_BYTES as u64;
    file.take(limit + 1).read_to_string(&mut text).map_err(failed)?;
    match text.len() > Limits::CONFIG_BYTES {
        true => Err(ConfigError::TooLarge { path: path.to_owned() }),
        false => Ok(text),
    }
}

fn parse<Raw: DeserializeOwned>(path: &Path, text: &str) -> Result<Raw, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let text = error.to_string().trim_end().to_owned();
        ConfigError::Syntax { path: path.to_owned(), text }
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Raw {
        #[serde(default = "port")]
        port: u16,
    }

    fn port() -> u16 {
        7400
    }

    #[derive(Debug)]
    struct Config {
        port: u16,
    }

    impl TryFrom<Raw> for Config {
        type Error = InvalidField;
        fn try_from(raw: Raw) -> Result<Self, InvalidField> {
            match raw.port {
                0 => Err(InvalidField::new("port", "must be at least 1")),
                port => Ok(Self { port }),
            }
        }
    }

    fn refused(content: &str) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("c.toml");
        std::fs::write(&path, content).expect("written");
        load::<Raw, Config>(&path).expect_err("wrong").to_string()
    }

    #[test]
    fn errors_name_file_line_and_field() {
        let unknown = refused("\n\nprot = 1\n");
        assert!(unknown.contains("c.toml") && unknown.contains("line 3"), "{unknown}");
        assert!(unknown.contains("prot") && unknown.contains("port"), "{unknown}");
        assert!(refused("port = \"x\"").contains("line 1"));
        assert!(refused("port = 0").ends_with("c.toml: port must be at least 1"));
        assert!(refused(&"#".repeat(Limits::CONFIG_BYTES + 1)).contains("more than"));
    }

    #[test]
    fn a_missing_file_is_an_error_or_the_defaults() {
        let path = Path::new("/nowhere/c.toml");
        let error = load::<Raw, Config>(path).expect_err("missing");
        assert_eq!(error.to_string(), "cannot read configuration /nowhere/c.toml");
        let config = load_or_default::<Raw, Config>(path).expect("defaults");
        assert_eq!(config.port, 7400);
    }
}
