//! Laws of the filter: any cut, any bytes, and what may reach the server.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

const START: &[u8] = b"RFB 003.008\n\x01\x00";
const STARTED: &[u8] = b"RFB 003.008\n\x01\x01";

fn key(down: u8, key: u8) -> Vec<u8> {
    vec![4, down, 0, 0, 0, 0, 0, key]
}

fn pointer(buttons: u8, x: u8) -> Vec<u8> {
    vec![5, buttons, 0, x, 0, 9]
}

fn text(words: &[u8]) -> Vec<u8> {
    let length = u32::try_from(words.len()).expect("short");
    [&[6, 0, 0, 0][..], &length.to_be_bytes(), words].concat()
}

fn encodings(all: &[i32]) -> Vec<u8> {
    let count = u16::try_from(all.len()).expect("few").to_be_bytes();
    let mut bytes = vec![2, 0, count[0], count[1]];
    all.iter().for_each(|one| bytes.extend_from_slice(&one.to_be_bytes()));
    bytes
}

fn format() -> Vec<u8> {
    vec![0; 20]
}

fn update() -> Vec<u8> {
    vec![3, 1, 0, 0, 0, 0, 5, 0xa0, 3, 0x84]
}

/// Feeds it after the beginning, in pieces of `cut`, and returns what follows the beginning.
fn passed(input: &[u8], control: bool, cut: usize) -> Result<Vec<u8>, Refused> {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    for piece in [START, input].concat().chunks(cut) {
        filter.feed(piece, control, &mut out)?;
    }
    assert!(out.starts_with(STARTED), "{out:?}");
    Ok(out.split_off(STARTED.len()))
}

#[test]
fn whoever_looks_asks_for_pictures_and_nothing_else() {
    let all = [
        format(),
        key(1, 97),
        encodings(&[7, -308, -258, -309, -312, -313, -32, 0, 1]),
        pointer(1, 5),
        text(b"secret"),
        update(),
        key(0, 97),
        text(b""),
        update(),
    ];
    let looks = [format(), encodings(&[7, -32, 0, 1]), update(), update()].concat();
    let mut controls = all.clone();
    controls[2] = encodings(&[7, -32, 0, 1]);
    for cut in [1, 2, 3, 5, 7, 64, 4096] {
        assert_eq!(passed(&all.concat(), false, cut), Ok(looks.clone()), "cut {cut}");
        assert_eq!(passed(&all.concat(), true, cut), Ok(controls.concat()), "cut {cut}");
    }
}

#[test]
fn what_is_not_known_or_too_long_ends_it() {
    for kind in (0..=255).filter(|kind| ![0, 2, 3, 4, 5, 6].contains(kind)) {
        for control in [false, true] {
            assert_eq!(passed(&[kind; 40], control, 64), Err(Refused::Unknown(kind)));
        }
    }
    assert_eq!(passed(&[2, 0, 1, 1], false, 1), Err(Refused::TooLong), "one past the bound");
    assert!(passed(&encodings(&[0; 256]), false, 9).is_ok(), "at the bound");
    let negative = [6, 0, 0, 0, 0xff, 0xff, 0xff, 0xf0];
    assert_eq!(passed(&negative, true, 64), Err(Refused::TooLong), "an extended clipboard");
    assert!(passed(&text(&vec![1; CUT_TEXT]), true, 4096).is_ok());
    assert_eq!(passed(&text(&vec![1; CUT_TEXT + 1]), false, 4096), Err(Refused::TooLong));
    let feed = |input: &[u8]| Filter::default().feed(input, true, &mut Vec::new());
    assert_eq!(feed(b"GET / HTTP/1.1"), Err(Refused::Version));
    assert_eq!(feed(b"RFB 003.889\n"), Err(Refused::Version));
    assert_eq!(feed(b"RFB 003.008\n\x10"), Err(Refused::Security), "only what needs no proof");
}

#[test]
fn the_old_beginning_has_no_security_type() {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    let input = [&b"RFB 003.003\n\x00"[..], &update(), &key(1, 1)].concat();
    filter.feed(&input, false, &mut out).expect("taken");
    assert_eq!(out, [&b"RFB 003.003\n\x01"[..], &update()].concat());
}

#[test]
fn what_is_held_down_is_let_go_when_control_ends() {
    let (mut filter, mut out) = (Filter::default(), Vec::new());
    let input = [START, &key(1, 65), &key(1, 66), &key(0, 65), &pointer(1, 7)].concat();
    filter.feed(&input, true, &mut out).expect("taken");
    out.clear();
    filter.release(&mut out);
    assert_eq!(out, [key(0, 66), pointer(0, 7)].concat());
    out.clear();
    filter.release(&mut out);
    assert!(out.is_empty(), "once");
    filter.feed(&key(1, 67), false, &mut out).expect("taken");
    filter.release(&mut out);
    assert!(out.is_empty(), "what was not passed on is not let go: {out:?}");
}

/// What a server that reads this holds down at its end: keys, and buttons.
fn held(said: &[u8]) -> (BTreeSet<Vec<u8>>, u8, usize) {
    let (mut keys, mut buttons, mut most) = (BTreeSet::new(), 0, 0);
    let mut rest = said;
    while let Some(kind) = rest.first() {
        let length = match kind {
            0 => 20,
            2 => 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]])),
            3 => 10,
            4 => 8,
            5 => 6,
            6 => {
                8 + usize::try_from(u32::from_be_bytes([rest[4], rest[5], rest[6], rest[7]]))
                    .expect("short")
            }
            kind => panic!("type {kind} came through"),
        };
        let (message, after) = rest.split_at_checked(length).expect("whole messages alone");
        match message {
            [4, 0, _, _, key @ ..] => drop(keys.remove(key)),
            [4, _, _, _, key @ ..] => drop(keys.insert(key.to_vec())),
            [5, down, ..] => buttons = *down,
            _ => {}
        }
        most = most.max(keys.len());
        rest = after;
    }
    (keys, buttons, most)
}

fn part() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(format()),
        Just(update()),
        any::<(bool, u8)>().prop_map(|(down, one)| key(down.into(), one)),
        any::<(u8, u8)>().prop_map(|(buttons, x)| pointer(buttons, x)),
        vec(any::<u8>(), 0..50).prop_map(|words| text(&words)),
    ]
}

proptest! {
    #[test]
    fn nothing_stays_down_whenever_control_ends(
        // each part with whether there is control when it comes, and whether that ended just before
        parts in vec((part(), any::<bool>()), 0..80),
        left in 0_usize..60,
        cut in 1_usize..40,
    ) {
        let (mut filter, mut out) = (Filter::default(), Vec::new());
        filter.feed(START, false, &mut out).expect("taken");
        prop_assert_eq!(&out[..], STARTED);
        out.clear();
        let mut controlled = false;
        let last = parts.len();
        for (at, (part, control)) in parts.into_iter().enumerate() {
            if controlled && !control {
                filter.release(&mut out);
                let (keys, buttons, _) = held(&out);
                prop_assert!(keys.is_empty() && buttons == 0, "{:?} {}", keys, buttons);
            }
            controlled = control;
            // the last one may break off within a message
            let part = if at + 1 == last { &part[..left.min(part.len())] } else { &part[..] };
            for piece in part.chunks(cut) {
                filter.feed(piece, control, &mut out).expect("taken");
            }
        }
        filter.release(&mut out);
        let (keys, buttons, most) = held(&out);
        prop_assert!(keys.is_empty() && buttons == 0, "{:?} {}", keys, buttons);
        prop_assert!(most <= KEYS, "{} keys were down", most);
    }

    #[test]
    fn no_bytes_of_a_viewer_are_a_key_or_a_pointer(
        input in vec(prop_oneof![0_u8..7, any::<u8>()], 0..400), cut in 1_usize..50,
    ) {
        let Ok(out) = passed(&input, false, cut) else { return Ok(()) };
        // what came out is read as a server reads it
        let mut rest = &out[..];
        while let Some(kind) = rest.first() {
            let length = match kind {
                0 => 20,
                2 => 4 + 4 * usize::from(u16::from_be_bytes([rest[2], rest[3]])),
                3 => 10,
                kind => panic!("type {kind} came through"),
            };
            rest = rest.get(length..).expect("whole messages alone");
        }
    }

    #[test]
    fn cuts_change_nothing(
        parts in vec(
            prop_oneof![
                Just(format()),
                Just(update()),
                any::<(u8, u8)>().prop_map(|(down, one)| key(down, one)),
                any::<(u8, u8)>().prop_map(|(buttons, x)| pointer(buttons, x)),
                vec(any::<u8>(), 0..50).prop_map(|words| text(&words)),
                vec(any::<i32>(), 0..20).prop_map(|all| encodings(&all)),
            ],
            0..12,
        ),
        control: bool,
        cut in 1_usize..40,
    ) {
        let input = parts.concat();
        prop_assert_eq!(passed(&input, control, cut), passed(&input, control, usize::MAX));
    }
}
