//! Hides what is plainly a secret in a text that people are shown: the value of `--token X`,
//! `TOKEN=X` and `Authorization: X`, the password in an address, and keys known by how they begin.
//!
//! It knows secrets by their names and looks; one that has neither is shown. Used for what agents run
//! and for what browsers show.

/// What stands in a secret's place.
const HIDDEN: &str = "***";
/// How the keys of well-known services begin.
const BEGINNINGS: [&str; 14] = [
    "sk-",
    "rk_",
    "sk_",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "xoxb-",
    "xoxp-",
    "AKIA",
    "AIza",
];
/// Fewer characters are hardly a key.
const KEY_BYTES: usize = 16;
/// The last word of a secret's name.
const NAMES: [&str; 8] =
    ["token", "secret", "password", "passwd", "passphrase", "apikey", "authorization", "bearer"];
/// A `key` is a secret's name after one of these words.
const KEYS: [&str; 4] = ["api", "access", "private", "secret"];
/// What stands between `Authorization:` and its value.
const SCHEMES: [&str; 4] = ["bearer ", "basic ", "token ", "digest "];

/// More names of secrets, in addresses alone: what passes a login on, and signatures.
const IN_ADDRESSES: [&str; 14] = [
    "jwt",
    "otp",
    "pwd",
    "samlresponse",
    "code",
    "state",
    "sig",
    "signature",
    "auth",
    "session",
    "sessionid",
    "sid",
    "ticket",
    "credential",
];
/// Addresses that carry their content with them.
const BODIES: [&str; 2] = ["data:", "javascript:"];

/// Returns a browser's address without its secrets: without user and password, without the values of
/// what is named like a secret, and of `data:` nothing but the type.
pub fn mask_address(address: &str) -> String {
    if let Some(scheme) = BODIES.iter().find(|scheme| begins(address, scheme)) {
        let kind = &address[scheme.len()..];
        let kind = &kind[..kind.find(|c: char| !in_type(c)).unwrap_or(kind.len())];
        let kind = if *scheme == "data:" { kind } else { "" };
        let comma = if kind.is_empty() { "" } else { "," };
        return format!("{scheme}{kind}{comma}{HIDDEN}");
    }
    let (head, tail) = address.split_at(address.find(['?', '#']).unwrap_or(address.len()));
    let head = match head.split_once("://") {
        Some((scheme, rest)) => {
            let host = rest.find('/').unwrap_or(rest.len());
            match rest[..host].rfind('@') {
                Some(at) => format!("{scheme}://{HIDDEN}{}", mask(&rest[at..])),
                None => format!("{scheme}://{}", mask(rest)),
            }
        }
        None => mask(head),
    };
    let mut masked = head;
    for part in tail.split_inclusive(['&', '#', '?', ';']) {
        match part.split_once('=') {
            Some((name, value)) if is_secret(name) || is_secret_in_address(name) => {
                let end = value.find(['&', '#', '?', ';']).unwrap_or(value.len());
                masked.extend([name, "=", HIDDEN, &value[end..]]);
            }
            _ => masked.push_str(&mask(part)),
        }
    }
    masked
}

fn begins(text: &str, with: &str) -> bool {
    text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with))
}

fn in_type(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '/' | '-' | '+' | '.')
}

fn is_secret_in_address(name: &str) -> bool {
    let name = parted(name);
    let last = name.rsplit(['_', '-', '.', '[']).next().unwrap_or_default();
    IN_ADDRESSES.contains(&last) || NAMES.contains(&last)
}

/// Returns a name in small letters with its words apart: `accessToken` as `access-token`.
fn parted(name: &str) -> String {
    let (mut parted, mut small) = (String::with_capacity(name.len() + 4), false);
    for letter in name.trim_end_matches(']').chars() {
        if letter.is_ascii_uppercase() && small {
            parted.push('-');
        }
        small = letter.is_ascii_lowercase();
        parted.push(letter.to_ascii_lowercase());
    }
    parted
}

/// Returns the text without its secrets.
pub fn mask(text: &str) -> String {
    let (mut masked, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(next) = rest.chars().next() {
        if let Some(address) = rest.strip_prefix("://") {
            let (user, after) = user(address);
            masked.extend(["://", user]);
            rest = after;
            if !user.is_empty() {
                masked.push_str(HIDDEN);
            }
            continue;
        }
        let (name, after) = rest.split_at(rest.find(|c| !in_name(c)).unwrap_or(rest.len()));
        if name.is_empty() {
            masked.push(next);
            rest = &rest[next.len_utf8()..];
            continue;
        }
        masked.push_str(if is_key(name) { HIDDEN } else { name });
        rest = after;
        if let Some(sign) = is_secret(name).then(|| sign(name, after)).flatten() {
            let sign = sign + scheme(&after[sign..]);
            let (sign, value) = after.split_at(sign);
            masked.extend([sign, HIDDEN]);
            rest = &value[end(value)..];
        }
    }
    masked
}

fn in_name(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-')
}

fn is_key(word: &str) -> bool {
    let begins = BEGINNINGS.iter().any(|beginning| word.starts_with(beginning));
    begins && word.len() >= KEY_BYTES && word.bytes().any(|byte| byte.is_ascii_digit())
}

fn is_secret(name: &str) -> bool {
    let name = parted(name);
    let mut words = name.rsplit(['_', '-']);
    let last = words.next().unwrap_or_default();
    NAMES.contains(&last) || last == "key" && words.next().is_some_and(|word| KEYS.contains(&word))
}

/// Returns how many bytes stand between a secret's name and its value; none where no value follows.
fn sign(name: &str, after: &str) -> Option<usize> {
    let quoted = usize::from(after.starts_with(['"', '\'']));
    let told = &after[quoted..];
    let blanks = |text: &str| text.len() - text.trim_start_matches(' ').len();
    let sign = if told.starts_with('=') {
        quoted + 1
    } else if let Some(value) = told.strip_prefix(':') {
        quoted + 1 + blanks(value)
    } else if name.starts_with('-') || name.eq_ignore_ascii_case("bearer") {
        blanks(after)
    } else {
        0
    };
    let value = after[sign..].trim_start_matches(['"', '\'']);
    let is_value = |next: char| !next.is_whitespace() && next != '-';
    (sign > 0 && value.starts_with(is_value)).then_some(sign)
}

/// Returns the length of the scheme that a value begins with.
fn scheme(value: &str) -> usize {
    let begins = |scheme: &&&str| {
        value.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    SCHEMES.iter().find(begins).map_or(0, |scheme| scheme.len())
}

/// Returns where a value ends: at its closing quote, else before what no value holds.
fn end(value: &str) -> usize {
    let Some(quote) = value.chars().next().filter(|first| matches!(first, '"' | '\'')) else {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | ';' | '&');
        return value.find(ends).unwrap_or(value.len());
    };
    value[1..].find(quote).map_or(value.len(), |at| at + 2)
}

/// Returns the user of an address with its colon, and what follows the password; an address without
/// a password has neither.
fn user(address: &str) -> (&str, &str) {
    let ends = |c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'');
    let host = &address[..address.find(ends).unwrap_or(address.len())];
    let at = host.rfind('@');
    match at.and_then(|at| Some((at, host[..at].find(':')?))) {
        Some((at, colon)) => (&address[..=colon], &address[at..]),
        None => ("", address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_without_what_they_carry() {
        for (address, shown) in [
            ("https://shop.example/cart?n=1#top", "https://shop.example/cart?n=1#top"),
            ("https://me:pw@h.example/x", "https://***@h.example/x"),
            ("https://abc@h.example/x@y", "https://***@h.example/x@y"),
            ("https://h/cb?code=abc&state=x&n=1", "https://h/cb?code=***&state=***&n=1"),
            (
                "https://h/?access_token=abc#id_token=d&n=1",
                "https://h/?access_token=***#id_token=***&n=1",
            ),
            (
                "https://b/o?X-Amz-Signature=ab&X-Amz-Date=2",
                "https://b/o?X-Amz-Signature=***&X-Amz-Date=2",
            ),
            (
                "https://h/?accessToken=a&user[token]=b&SAMLResponse=c&clientSecret=d&monkey=e",
                "https://h/?accessToken=***&user[token]=***&SAMLResponse=***&clientSecret=***&monkey=e",
            ),
            ("https://h/sk-ant-api03-abcdefgh", "https://h/***"),
            ("data:text/html,<p>secret", "data:text/html,***"),
            ("DATA:,x", "data:***"),
            ("javascript:alert(1)", "javascript:***"),
            ("about:blank", "about:blank"),
            ("chrome://newtab/", "chrome://newtab/"),
            ("", ""),
        ] {
            assert_eq!(mask_address(address), shown, "{address}");
        }
        let odd = ["https://@", "?=&", "://", "a=b?c#d", "https://ä@ü/?token=ö&x", "data:"];
        odd.iter().for_each(|odd| drop(mask_address(odd)));
    }

    #[test]
    fn secrets_are_hidden_and_the_rest_stays() {
        for (text, shown) in [
            ("curl -H 'Authorization: Bearer ab.c1' x", "curl -H 'Authorization: Bearer ***' x"),
            ("curl -H \"authorization: abc\" x", "curl -H \"authorization: ***\" x"),
            ("curl -H 'X-Api-Key: abc'", "curl -H 'X-Api-Key: ***'"),
            ("gh --token abc --verbose", "gh --token *** --verbose"),
            ("gh --token=abc; ls", "gh --token=***; ls"),
            ("NPM_TOKEN=abc npm publish", "NPM_TOKEN=*** npm publish"),
            ("export PASSWORD='two words' && make", "export PASSWORD=*** && make"),
            ("AWS_SECRET_ACCESS_KEY=ab/c+1 aws", "AWS_SECRET_ACCESS_KEY=*** aws"),
            ("{\"token\": \"abc\", \"n\": 1}", "{\"token\": ***, \"n\": 1}"),
            ("curl 'https://h/?token=abc&n=1'", "curl 'https://h/?token=***&n=1'"),
            ("git clone https://me:abc@host/x:y@z", "git clone https://me:***@host/x:y@z"),
            ("echo sk-ant-api03-abcdefgh x", "echo *** x"),
            ("echo ghp_0123456789abcdefghij.", "echo ***."),
            ("TOKEN=", "TOKEN="),
            ("--token", "--token"),
            ("", ""),
        ] {
            assert_eq!(mask(text), shown);
        }
        for plain in [
            "cargo test --token --verbose",
            "model --max-tokens 100 --key up",
            "git clone ssh://git@host/x",
            "pip install sk-learn-something",
            "ünï: tokens, a secret and a task-0123456789abcdef",
            "KEY=1 make",
        ] {
            assert_eq!(mask(plain), plain);
        }
    }
}
