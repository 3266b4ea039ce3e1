//! As much of a DNS message (RFC 1035, EDNS of RFC 6891) as a forwarder has to look at.
//!
//! Pure, total: any bytes are judged.

/// Bytes before the question.
const HEADER: usize = 12;
/// The class of the internet.
const INTERNET: u16 = 1;
/// Types that ask for a whole zone: IXFR and AXFR.
const TRANSFERS: [u16; 2] = [251, 252];
/// A name, at most, its lengths and end included.
const NAME: usize = 255;

/// What a message from a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// One question that may be passed on.
    Question,
    /// A question that is answered here.
    Refused(Code),
    /// No question: no answer either.
    Malformed,
}

/// An answer without records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Nobody could be asked.
    ServerFailure = 2,
    /// Not a query.
    NotImplemented = 4,
    /// Not for workspaces.
    Refused = 5,
}

/// Judges a message.
pub fn judge(message: &[u8]) -> Judged {
    let Some(end) = question_end(message) else { return Judged::Malformed };
    let flags = number(message, 2);
    let (is_answer, operation) = (flags >> 15 == 1, (flags >> 11) & 0xf);
    // one question, no answer, no authority, and at most the record that EDNS adds
    let counts = [4, 6, 8, 10].map(|at| number(message, at));
    if is_answer || counts[0] != 1 || counts[1] != 0 || counts[2] != 0 || counts[3] > 1 {
        return Judged::Malformed;
    }
    if counts[3] == 0 && end != message.len() {
        return Judged::Malformed;
    }
    if operation != 0 {
        return Judged::Refused(Code::NotImplemented);
    }
    let (kind, class) = (number(message, end - 4), number(message, end - 2));
    // a name of one label is of the host's own network, if of any; the next resolver in the
    // workspace's list, the engine's, knows what root attached to its bridge
    let single = message.get(HEADER).is_some_and(|first| usize::from(*first) + HEADER + 6 == end);
    if class != INTERNET || TRANSFERS.contains(&kind) || (single && end > HEADER + 5) {
        return Judged::Refused(Code::Refused);
    }
    Judged::Question
}

/// Returns whether `answer` answers `question`: its id, an answer, and the same question (the case
/// of letters aside, which some resolvers change).
pub fn answers(question: &[u8], answer: &[u8]) -> bool {
    let (Some(asked), Some(told)) = (question_end(question), question_end(answer)) else {
        return false;
    };
    number(question, 0) == number(answer, 0)
        && number(answer, 2) >> 15 == 1
        && number(answer, 4) == 1
        && question[HEADER..asked].eq_ignore_ascii_case(&answer[HEADER..told])
}

/// Returns the id.
pub fn id(message: &[u8]) -> u16 {
    number(message, 0)
}

/// Puts another id in.
pub fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.get_mut(..2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// Returns an answer without records; none where the message has no question.
pub fn refusal(message: &[u8], code: Code) -> Option<Vec<u8>> {
    let end = question_end(message)?;
    let mut answer = message[..end].to_vec();
    // it is an answer; operation and wish for recursion as asked; recursion is to be had
    answer[2] = 0x80 | (answer[2] & 0x79);
    answer[3] = 0x80 | code as u8;
    answer[4..HEADER].copy_from_slice(&[0, 1, 0, 0, 0, 0, 0, 0]);
    Some(answer)
}

/// Returns where the first question ends; none where it is none, or its name is compressed.
fn question_end(message: &[u8]) -> Option<usize> {
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        if length > 63 || at + length - HEADER > NAME {
            return None;
        }
        at += length;
    }
    let end = at + 4;
    (message.len() >= end).then_some(end)
}

/// Returns the number at a place; zero past the end.
fn number(message: &[u8], at: usize) -> u16 {
    let byte = |at: usize| message.get(at).copied().unwrap_or(0);
    u16::from_be_bytes([byte(at), byte(at + 1)])
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn question(name: &str, kind: u16, class: u16) -> Vec<u8> {
        let mut message = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).expect("short"));
            message.extend(label.as_bytes());
        }
        message.push(0);
        message.extend(kind.to_be_bytes());
        message.extend(class.to_be_bytes());
        message
    }

    #[test]
    fn a_plain_question_and_one_with_edns_are_passed_on() {
        let plain = question("a.example", 1, 1);
        assert_eq!(judge(&plain), Judged::Question);
        let mut edns = plain.clone();
        edns[11] = 1;
        edns.extend([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(judge(&edns), Judged::Question);
        assert_eq!(judge(&question("", 2, 1)), Judged::Question, "the root has servers");
    }

    #[test]
    fn what_is_no_question_is_malformed() {
        let plain = question("a.example", 1, 1);
        let with = |at: usize, byte: u8| {
            let mut message = plain.clone();
            message[at] = byte;
            message
        };
        for (what, message) in [
            ("nothing", Vec::new()),
            ("half a header", plain[..7].to_vec()),
            ("half a question", plain[..plain.len() - 1].to_vec()),
            ("an answer", with(2, 0x81)),
            ("no question", with(5, 0)),
            ("two questions", with(5, 2)),
            ("an answer's record", with(7, 1)),
            ("two more records", with(11, 2)),
            ("a compressed name", with(12, 0xc0)),
            ("a reserved label", with(12, 0x40)),
            ("more than it says", [&plain[..], &[0]].concat()),
            ("a name that is too long", question(&vec!["a".repeat(60); 5].join("."), 1, 1)),
        ] {
            assert_eq!(judge(&message), Judged::Malformed, "{what}");
        }
    }

    #[test]
    fn zones_other_classes_and_other_operations_are_refused() {
        assert_eq!(judge(&question("a.example", 252, 1)), Judged::Refused(Code::Refused));
        assert_eq!(judge(&question("version.bind", 16, 3)), Judged::Refused(Code::Refused));
        assert_eq!(judge(&question("sample", 1, 1)), Judged::Refused(Code::Refused));
        let mut update = question("a.example", 1, 1);
        update[2] = 0x28;
        assert_eq!(judge(&update), Judged::Refused(Code::NotImplemented));
        let answer = refusal(&update, Code::NotImplemented).expect("an answer");
        assert_eq!((answer[2], answer[3]), (0xa8, 0x84));
        assert_eq!(id(&answer), 0xabcd);
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        let asked = question("a.example", 1, 1);
        let mut told = refusal(&asked, Code::ServerFailure).expect("an answer");
        assert!(answers(&asked, &told));
        told[13] = b'A';
        assert!(answers(&asked, &told), "the case of letters is no other question");
        set_id(&mut told, 7);
        assert!(!answers(&asked, &told), "another id");
        let other = refusal(&question("b.example", 1, 1), Code::ServerFailure).expect("an answer");
        assert!(!answers(&asked, &other), "another name");
        assert!(!answers(&asked, &asked), "no answer at all");
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let judged = judge(&bytes);
            let answer = refusal(&bytes, Code::Refused);
            prop_assert!(judged == Judged::Malformed || answer.is_some());
            prop_assert!(!answers(&bytes, &bytes) || bytes[2] >> 7 == 1);
        }
    }
}
