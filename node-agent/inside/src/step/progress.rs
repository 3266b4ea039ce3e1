//! What `git clone --progress` says, made into a title.

use crate::text::thousands;

/// How far a clone is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Objects of the whole, where git knows.
    objects: Option<u64>,
    /// How much of them has come, while they come.
    received: Option<u8>,
    /// What it is doing otherwise, such as `resolving deltas 50 %`.
    doing: Option<String>,
    /// Something came from the server.
    pub(super) answered: bool,
}

impl Progress {
    /// Takes one line of git's progress.
    pub(super) fn line(&mut self, line: &str) {
        let remote = line.strip_prefix("remote: ");
        self.answered |= remote.is_some();
        let line = remote.unwrap_or(line);
        let Some((phase, rest)) = line.split_once(": ") else { return };
        let rest = rest.trim_start();
        let percent = rest.split_once('%').and_then(|(number, _)| number.parse::<u8>().ok());
        self.received = None;
        match phase {
            "Receiving objects" | "Unpacking objects" => {
                self.answered = true;
                self.objects = of_total(rest).or(self.objects);
                self.received = percent;
                self.doing = None;
            }
            // A server without git's own protocol: objects come one by one.
            "Fetching objects" => {
                self.answered = true;
                self.objects = leading(rest).or(self.objects);
                self.doing = Some("fetching".to_owned());
            }
            "Enumerating objects" | "Counting objects" | "Compressing objects" => {
                self.doing = Some("the server is counting".to_owned());
            }
            "Resolving deltas" => {
                self.doing = percent.map(|percent| format!("resolving deltas {percent} %"));
            }
            "Updating files" => {
                self.doing = percent.map(|percent| format!("checking out {percent} %"));
            }
            _ => {}
        }
    }

    /// Returns what belongs in the title's brackets while it runs; none where nothing is known.
    pub(super) fn running(&self) -> Option<String> {
        match (self.objects, self.received, &self.doing) {
            (Some(objects), Some(percent), _) => {
                Some(format!("{percent} % of {} objects", thousands(objects)))
            }
            (Some(objects), None, Some(doing)) => {
                Some(format!("{} objects, {doing}", thousands(objects)))
            }
            (None, _, Some(doing)) => Some(doing.clone()),
            (Some(_), None, None) => self.done(),
            (None, percent, None) => percent.map(|percent| format!("{percent} %")),
        }
    }

    /// Returns what belongs in the brackets at the end; none where git named no count.
    pub(super) fn done(&self) -> Option<String> {
        let noun = |count| if count == 1 { "object" } else { "objects" };
        self.objects.map(|count| format!("{} {}", thousands(count), noun(count)))
    }
}

/// `45% (542/1204), …` → 1204.
fn of_total(rest: &str) -> Option<u64> {
    let (_, after) = rest.split_once('/')?;
    leading(after)
}

fn leading(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_from_first_to_last_line() {
        let mut progress = Progress::default();
        let mut after = |line: &str| {
            progress.line(line);
            progress.running()
        };
        assert_eq!(after("Cloning into 'web'..."), None);
        let counting = after("remote: Enumerating objects: 1204, done.");
        assert_eq!(counting.as_deref(), Some("the server is counting"));
        let receiving = after("Receiving objects:  45% (542/1204), 1.20 MiB | 3.00 MiB/s");
        assert_eq!(receiving.as_deref(), Some("45 % of 1,204 objects"));
        let deltas = after("Resolving deltas:  50% (10/20)");
        assert_eq!(deltas.as_deref(), Some("1,204 objects, resolving deltas 50 %"));
        after("Updating files: 100% (90/90), done.");
        assert_eq!(progress.done().as_deref(), Some("1,204 objects"));
        assert!(progress.answered);
    }

    #[test]
    fn a_dumb_server_counts_as_it_goes() {
        let mut progress = Progress::default();
        progress.line("Fetching objects: 12, done.");
        assert_eq!(progress.running().as_deref(), Some("12 objects, fetching"));
        assert_eq!(progress.done().as_deref(), Some("12 objects"));
        assert_eq!(Progress::default().done(), None);
    }
}
