//! The words that people give an agent: whether they choose its conversation, or want none.

use warren_common::spec::AgentProgram;

/// What words mean to one agent, with a blank between them. The same letter is something else to
/// another: Codex's `-c` sets a value.
struct Table {
    /// Options that choose the conversation, or want none.
    chosen: &'static str,
    /// Its commands: they want none, or choose it, and nothing may stand before them but options.
    commands: &'static str,
    /// Options whose value is the next word.
    valued: &'static str,
}

/// Commands and options of Claude Code 2.1.
const CLAUDE: Table = Table {
    chosen: "--resume -r --continue -c --session-id --from-pr --fork-session -p --print",
    commands: "agents auth auto-mode config doctor install mcp migrate-installer plugin plugins \
        project remote-control setup-token update upgrade",
    valued: "--add-dir --agent --agents --allowedTools --allowed-tools --append-system-prompt \
        --disallowedTools --disallowed-tools --effort --fallback-model --mcp-config --model \
        --permission-mode --plugin-dir --setting-sources --settings --system-prompt --tools",
};

/// Of Codex CLI 0.169.
const CODEX: Table = Table {
    chosen: "",
    commands: "a agents app app-server apply archive cloud completion debug delete doctor e exec \
        exec-server features fork help login logout mcp mcp-server migrate-rollouts plugin \
        queue remote-control resume review sandbox unarchive update",
    valued: "--add-dir --ask-for-approval -a --cd -C --config -c --disable --enable --image -i \
        --local-provider --model -m --profile -p --remote --sandbox -s",
};

/// Of Gemini CLI 0.60.
const GEMINI: Table = Table {
    chosen: "--resume -r --prompt -p --list-sessions",
    commands: "extension extensions gemma hook hooks mcp skill skills",
    valued: "--allowed-mcp-server-names --allowed-tools --approval-mode --extensions -e \
        --include-directories --model -m --output-format -o --prompt-interactive -i",
};

/// Returns whether these words say which conversation an agent has, or that it is to have none.
pub(super) fn choose(agent: AgentProgram, words: &str) -> bool {
    let table = match agent {
        AgentProgram::Claude => CLAUDE,
        AgentProgram::Codex => CODEX,
        AgentProgram::Gemini => GEMINI,
    };
    let words = split(words);
    let is_chosen = |word: &String| {
        let name = word.split_once('=').map_or(word.as_str(), |(name, _)| name);
        is_one(table.chosen, name)
    };
    words.iter().any(is_chosen) || begins_with_command(&table, &words)
}

/// Returns whether the first word that is no option, and no value of one, is a command. What follows an
/// option that is not known may be its value.
fn begins_with_command(table: &Table, words: &[String]) -> bool {
    let (mut may_be_value, mut is_value) = (false, false);
    for word in words {
        if word == "--" {
            return false;
        }
        if word.starts_with('-') {
            is_value = is_one(table.valued, word);
            may_be_value = is_value || !word.contains('=');
            continue;
        }
        if !is_value && is_one(table.commands, word) {
            return true;
        }
        if !may_be_value {
            // a prompt
            return false;
        }
        (may_be_value, is_value) = (false, false);
    }
    false
}

fn is_one(list: &str, word: &str) -> bool {
    list.split_ascii_whitespace().any(|one| one == word)
}

/// Splits words as a shell does; what is quoted is one.
fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut quote): (Option<String>, Option<char>) = (None, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(mark), character) if mark == character => quote = None,
            (None, '\'' | '"') => {
                quote = Some(character);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, blank) if blank.is_ascii_whitespace() => words.extend(word.take()),
            (_, character) => word.get_or_insert_default().push(character),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_that_chooses_for_one_agent_is_another_thing_for_the_next() {
        for (agent, words) in [
            (AgentProgram::Claude, "-c"),
            (AgentProgram::Claude, "--resume=0199a0b2"),
            (AgentProgram::Claude, "--model m mcp list"),
            (AgentProgram::Codex, "resume --last"),
            (AgentProgram::Gemini, "-p hello"),
            (AgentProgram::Gemini, "extensions list"),
        ] {
            assert!(choose(agent, words), "{agent} {words}");
        }
        for (agent, words) in [
            (AgentProgram::Claude, ""),
            (AgentProgram::Claude, "--model resume-x"),
            (AgentProgram::Claude, "--add-dir plugins"),
            (AgentProgram::Claude, "review"),
            (AgentProgram::Codex, "-c model_provider=mine -p work"),
            (AgentProgram::Gemini, "--model x -c"),
            (AgentProgram::Gemini, "exec"),
        ] {
            assert!(!choose(agent, words), "{agent} {words}");
        }
    }

    #[test]
    fn a_command_of_codex_is_told_from_a_prompt_and_from_the_value_of_an_option() {
        for words in [
            "review",
            "review --uncommitted",
            "apply task_1",
            "-m x exec ls",
            "-m=x e ls",
            "--full-auto exec ls",
            "--new-in-a-later-version 7 login",
            "-c 'model=\"x y\"' review",
        ] {
            assert!(choose(AgentProgram::Codex, words), "{words}");
        }
        for words in [
            "'review the last change'",
            "\"review\\\" and apply\"",
            "fix\\ the\\ review",
            "-m review",
            "--profile login 'go on'",
            "-c a=b 'fix it' review",
            "--search=on fix exec",
            "-- review",
        ] {
            assert!(!choose(AgentProgram::Codex, words), "{words}");
        }
    }
}
