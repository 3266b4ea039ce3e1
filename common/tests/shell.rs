//! Lines that a shell takes apart as they were put together: asked of a shell.

use std::process::Command;

use warren_common::spec::shell_line;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn a_shell_takes_the_line_apart_into_the_same_words() {
    let given = words(&["a b", "", "it's", "$HOME", "--model=x", "a\"b", "*", ";", "~"]);
    let script = format!("printf '%s\\n' {}", shell_line(&given));
    let output = Command::new("bash").args(["-c", &script]).output();
    let text = String::from_utf8(output.expect("bash").stdout).expect("text");
    let mut back: Vec<&str> = text.split('\n').collect();
    back.pop();
    assert_eq!(back, given);
    assert_eq!(shell_line(&words(&["npm", "run", "dev"])), "npm run dev");
}
