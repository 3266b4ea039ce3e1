//! What is done to secrets, and what a checkpoint holds of them.

use warren_common::{Revision, SecretName, Timestamp};
use warren_model::{
    Command, Outcome, Principal,
    command::{
        SecretCommand,
        secret::{DeleteSecret, SetSecret},
    },
    state::{SecretRecord, ValueId, ValueMark, Vault},
};

use super::{
    check,
    commands::client,
    file::{Strings, golden},
    written,
};

#[test]
fn what_is_done_to_secrets_is_read_and_still_written_alike() {
    let name = || "git-token".parse::<SecretName>().expect("a name");
    let of_client = Vault::Client(client(1));
    let web = || Some("web".parse().expect("a name"));
    let set = |vault, version| {
        let (value, mark) = (ValueId([0xab; 16]), ValueMark([0xcd; 16]));
        let made_for = web().filter(|_| vault != Vault::Shared);
        SecretCommand::Set(SetSecret { vault, name: name(), version, value, mark, made_for })
    };
    let delete = |vault| SecretCommand::Delete(DeleteSecret { vault, name: name() });
    let commands = [
        ("set", set(of_client, 1)),
        ("set shared", set(Vault::Shared, 300)),
        ("delete", delete(of_client)),
        ("delete shared", delete(Vault::Shared)),
    ];
    let commands = commands.map(|(name, one)| (name, Command::Secret(Box::new(one))));
    let outcome = Outcome::Secret(300);
    let record = SecretRecord {
        version: 300,
        value: ValueId([0xab; 16]),
        by: Principal::Person("ada".to_owned()),
        at: Timestamp(1_800_000_000_000),
        made_for: web(),
        revision: Revision(12),
    };
    let mut today: Strings = commands.iter().map(|(name, one)| written(name, one)).collect();
    today.extend([written("outcome", &outcome), written("record", &record)]);
    let kept = golden("v0.3-secrets.txt", &today);
    assert_eq!(kept.len(), today.len(), "nothing is skipped");
    for (name, command) in &commands {
        check(name, &kept, command);
    }
    check("outcome", &kept, &outcome);
    check("record", &kept, &record);
}
