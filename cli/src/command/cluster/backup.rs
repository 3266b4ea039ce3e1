//! `warren cluster backup` and `warren cluster verify-backup`.
//!
//! The file is written beside its name, read back whole with the key it was sealed with, and only
//! then takes its name: a file that is there is a backup that opens.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufReader, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;
use tonic::Streaming;
use warren_common::Limits;
use warren_daemon::{
    backup::{self, BackupError, BackupKey, Content, Header, Kdf},
    files,
};
use warren_proto::pb::admin::v1 as pb;

use super::passphrase::{Source, derive};
use crate::{
    api::{self, Api},
    app::App,
    context,
    error::{Error, Kind, Outcome},
    view::{self, Moment, moment},
};

/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

/// Arguments of `cluster backup`.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// Where to write it.
    file: PathBuf,
    #[command(flatten)]
    passphrase: Source,
    /// Replace a file of this name.
    #[arg(long)]
    force: bool,
}

/// Arguments of `cluster verify-backup`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The backup.
    file: PathBuf,
    #[command(flatten)]
    passphrase: Source,
}

#[derive(Debug, Serialize)]
struct View {
    file: String,
    bytes: u64,
    cluster: String,
    cluster_id: String,
    incarnation: u32,
    revision: u64,
    taken_at: Option<Moment>,
    version: String,
    format: u8,
    clients: u64,
    nodes: u64,
    workspaces: u64,
    keys: usize,
    audit_sequence: u64,
    audit_hash: String,
}

pub(crate) async fn run(app: &App, order: &Backup) -> Outcome {
    if order.file.exists() && !order.force {
        let message = format!("{} is there already", order.file.display());
        return Err(Error::new(Kind::Conflict, "FILE_EXISTS", message)
            .next("give another name, or --force to replace it"));
    }
    let mut api = app.api()?;
    let passphrase = order.passphrase.read(app, true)?;
    let kdf = Kdf::fresh().map_err(|error| trouble(&order.file, &error))?;
    app.output.talk("making the key from the passphrase");
    let key = derive(kdf.clone(), passphrase).await.map_err(|e| trouble(&order.file, &e))?;
    let request = pb::BackupRequest {
        key: key.expose().to_vec().into(),
        kdf: Some(pb::BackupKdf {
            algorithm: kdf.algorithm,
            memory_kib: kdf.memory_kib,
            passes: kdf.passes,
            lanes: kdf.lanes,
            salt: kdf.salt,
        }),
    };
    let pieces =
        api.read(async |channel| api::cluster(channel).backup(request.clone()).await).await?;
    let aside = Aside::beside(&order.file)?;
    let written = receive(app, &api, pieces, &aside).await;
    let opened = written.and_then(|()| {
        let whole = open(&aside.path, key).and_then(|(header, content)| {
            content.check()?;
            Ok((header, content))
        });
        whole.map_err(|error| {
            trouble(&order.file, &error).next("nothing was kept; run the command again")
        })
    });
    let (header, content) = opened?;
    aside.keep(&order.file)?;
    show(app, &order.file, (&header, &content))
}

pub(crate) async fn verify(app: &App, order: &Verify) -> Outcome {
    let (header, content) = opened(app, &order.file, &order.passphrase).await?.1;
    content.check().map_err(|error| trouble(&order.file, &error))?;
    show(app, &order.file, (&header, &content))
}

/// Opens a backup with the passphrase that is asked for, and returns its key with it.
///
/// # Errors
/// What is wrong with file or passphrase.
pub(super) async fn opened(
    app: &App,
    file: &Path,
    passphrase: &Source,
) -> Result<(BackupKey, (Header, Content)), Error> {
    let failed = |error: BackupError| trouble(file, &error);
    let source = File::open(file).map_err(|error| failed(BackupError::Io(error)))?;
    // a file that is none is told before anybody types
    let (header, _) = Header::read(&mut BufReader::new(source)).map_err(failed)?;
    let passphrase = passphrase.read(app, false)?;
    let key = derive(header.kdf, passphrase).await.map_err(failed)?;
    let opened = open(file, key.clone()).map_err(failed)?;
    Ok((key, opened))
}

fn open(path: &Path, key: BackupKey) -> Result<(Header, Content), BackupError> {
    let file = File::open(path).map_err(BackupError::Io)?;
    backup::open(&mut BufReader::new(file), |_| Ok(key))
}

async fn receive(
    app: &App,
    api: &Api,
    mut pieces: Streaming<pb::BackupResponse>,
    aside: &Aside,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| trouble(&aside.path, &BackupError::Io(error));
    let mut file = OpenOptions::new().append(true).open(&aside.path).map_err(failed)?;
    let (mut bytes, mut told) = (0_usize, Instant::now());
    loop {
        let next = tokio::time::timeout(Limits::CALL_TIMEOUT, pieces.message()).await;
        let next = next.map_err(|_| {
            Error::new(Kind::Unreachable, "UNREACHABLE", "the coordinator sends no more")
                .next("nothing was kept; run the command again")
        })?;
        let Some(piece) = next.map_err(|status| api.failed(&status))? else { break };
        file.write_all(&piece.chunk).map_err(failed)?;
        bytes += piece.chunk.len();
        if told.elapsed() >= TELL {
            app.output.talk(&format!("{} MiB", bytes / 1024 / 1024));
            told = Instant::now();
        }
    }
    file.sync_all().map_err(failed)
}

/// A file that is removed again unless it is kept.
struct Aside {
    path: PathBuf,
    kept: bool,
}

impl Aside {
    fn beside(file: &Path) -> Result<Self, Error> {
        let name = file.file_name().ok_or_else(|| Error::usage("the backup needs a file name"))?;
        let mut aside = std::ffi::OsString::from(".");
        aside.push(name);
        aside.push(format!(".{}.tmp", std::process::id()));
        let path = file.with_file_name(aside);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|error| trouble(file, &BackupError::Io(error)))?;
        Ok(Self { path, kept: false })
    }

    fn keep(mut self, file: &Path) -> Result<(), Error> {
        let renamed = fs::rename(&self.path, file);
        renamed.map_err(|error| trouble(file, &BackupError::Io(error)))?;
        self.kept = true;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        let folder = folder.unwrap_or_else(|| Path::new("."));
        files::sync_folder(folder).map_err(|error| context::local(&error))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        if !self.kept {
            // what cannot be removed says by its name that it is nothing
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Says what is wrong with a backup.
pub(super) fn trouble(file: &Path, error: &BackupError) -> Error {
    let shown = file.display();
    let (kind, reason, next) = match error {
        BackupError::WrongKey => (Kind::Failed, "WRONG_PASSPHRASE", Some("try the right one")),
        BackupError::Passphrase(_) => (Kind::Usage, "USAGE", None),
        BackupError::NotOne
        | BackupError::CutOff(_)
        | BackupError::Damaged(_)
        | BackupError::TooLarge { .. } => {
            (Kind::Failed, "BACKUP_DAMAGED", Some("take another copy of it"))
        }
        BackupError::Lacks(_) => (
            Kind::Failed,
            "BACKUP_INCOMPLETE",
            Some("take another one while all coordinators are there, or set that secret again"),
        ),
        BackupError::Newer { .. } => {
            (Kind::Failed, "BACKUP_NEWER", Some("use the warren of the version that wrote it"))
        }
        BackupError::Io(_) => (
            Kind::Failed,
            "LOCAL_IO",
            Some("see that the file is there, may be used, and has room beside it"),
        ),
        BackupError::Randomness | BackupError::Seal => {
            (Kind::Failed, "LOCAL_IO", Some("run the command again"))
        }
    };
    let told = Error::new(kind, reason, format!("{shown}: {error}"));
    let told = match std::error::Error::source(error) {
        Some(cause) => told.why(cause.to_string()),
        None => told,
    };
    match next {
        Some(next) => told.next(next),
        None => told,
    }
}

fn show(app: &App, file: &Path, (header, content): (&Header, &Content)) -> Outcome {
    let bytes = fs::metadata(file).map(|found| found.len());
    let view = View {
        file: file.display().to_string(),
        bytes: bytes.map_err(|error| trouble(file, &BackupError::Io(error)))?,
        cluster: header.name.clone(),
        cluster_id: header.cluster.to_string(),
        incarnation: header.incarnation,
        revision: header.revision,
        taken_at: moment(header.taken.0),
        version: header.version.clone(),
        format: backup::FORMAT,
        clients: content.manifest.clients,
        nodes: content.manifest.nodes,
        workspaces: content.manifest.workspaces,
        keys: content.secrets.len(),
        audit_sequence: content.manifest.audit_sequence,
        audit_hash: content.manifest.audit_hash.clone(),
    };
    app.output.object(&view, &view.file, || {
        let hash: String = view.audit_hash.chars().take(12).collect();
        view::fields(&[
            ("backup", format!("{} ({} bytes)", view.file, view.bytes)),
            ("cluster", format!("{} ({})", view.cluster, view.cluster_id)),
            ("taken", crate::render::time::rfc3339(header.taken)),
            ("version", view.version.clone()),
            ("revision", format!("{}, incarnation {}", view.revision, view.incarnation)),
            (
                "holds",
                format!(
                    "{} clients, {} nodes, {} workspaces, {} keys",
                    view.clients, view.nodes, view.workspaces, view.keys
                ),
            ),
            ("audit", format!("{} records, head {hash}", view.audit_sequence)),
        ])
    })?;
    Ok(0)
}
