//! Names: the node's resolver answers, and nobody else can be asked.

use std::time::Duration;

use anyhow::Result;
use warren_tests::{lab::Around, wait_until};

use crate::field::{EVIL, Field, INTERNET};

/// A question for a name, sent to an address over UDP or TCP; writes how many answers came.
fn ask(name: &str, address: &str, stream: bool) -> String {
    let send = match stream {
        true => format!(
            "s=socket.create_connection(('{address}',53),4)\ns.settimeout(6)\n\
             s.sendall(len(q).to_bytes(2,'big')+q)\nr=s.recv(600)[2:]\n"
        ),
        false => format!(
            "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\ns.settimeout(6)\n\
             s.sendto(q,('{address}',53))\nr=s.recv(600)\n"
        ),
    };
    format!(
        "python3 -c \"import socket\n\
         q=bytes([18,52,1,0,0,1,0,0,0,0,0,0])\
         +b''.join(bytes([len(l)])+l.encode() for l in '{name}'.split('.'))+bytes([0,0,1,0,1])\n\
         {send}print('answers',r[7],'code',r[3]&15,'id',r[:2].hex())\n\""
    )
}

#[test]
fn the_nodes_resolver_answers_and_nobody_else_is_asked() -> Result<()> {
    // the engine's own resolvers are the attacker's: what CVE-2024-29018 made of the host's
    let around = Around {
        bottom: format!("[network]\nresolvers = [\"{INTERNET}\"]\n"),
        dockerd: vec![format!("--dns={EVIL}")],
        ..Around::default()
    };
    let mut field = Field::around(&around)?;
    let (_, _, gateway) = field.network("acme/a")?;
    let file = field.in_a("cat /etc/resolv.conf")?.success()?.stdout;
    let servers: Vec<&str> = file.lines().filter(|line| line.starts_with("nameserver")).collect();
    // the engine's comes second, for what root attached; whom it asks is tested below
    let expected = [format!("nameserver {gateway}"), "nameserver 127.0.0.11".to_owned()];
    anyhow::ensure!(servers == expected, "{file}");
    let changed = field.in_a("echo nameserver 192.0.2.1 >/etc/resolv.conf")?;
    anyhow::ensure!(changed.code != 0, "the workspace changes its resolver");

    for (name, stream) in [("one.example", false), ("two.example", true)] {
        let answered = field.in_a(&ask(name, &gateway, stream))?.success()?.stdout;
        anyhow::ensure!(answered.trim() == "answers 1 code 0 id 1234", "{name}: {answered}");
    }
    anyhow::ensure!(field.log.holds("udp/53 one.example"), "the node's resolver was not asked");
    let found = field.in_a("getent hosts three.example")?.success()?.stdout;
    anyhow::ensure!(found.contains(INTERNET), "{found}");
    junk_is_borne(&field, &gateway)?;
    the_engines_resolver_is_no_way_out(&mut field)
}

/// Anything may be sent to the resolver; it goes on answering, and passes none of it on.
fn junk_is_borne(field: &Field, gateway: &str) -> Result<()> {
    let junk = format!(
        "python3 -c \"import socket,os\n\
         s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n\
         [s.sendto(os.urandom(i%600),('{gateway}',53)) for i in range(300)]\n\
         [s.sendto(bytes([18,52,1,0,0,1,0,0,0,0,0,0,192,12,0,1,0,1]),('{gateway}',53)) \
         for i in range(9)]\n\
         t=socket.create_connection(('{gateway}',53),4)\nt.sendall(bytes([255,255]+[0]*500))\n\""
    );
    field.in_a(&junk)?.success()?;
    wait_until("it answers after junk", Duration::from_secs(20), || {
        field.in_a(&ask("four.example", gateway, false))?.success().map(drop)
    })
}

/// Docker's resolver at 127.0.0.11 asks the node's and nobody else; without the agent nobody.
fn the_engines_resolver_is_no_way_out(field: &mut Field) -> Result<()> {
    field.in_a(&ask("five.example", "127.0.0.11", false))?.success()?;
    anyhow::ensure!(field.log.holds("udp/53 five.example"), "it is no resolver");
    field.lab.cluster.nodes[0].kill()?;
    let secret = field.in_a(&ask("secret.evil.example", "127.0.0.11", false))?;
    anyhow::ensure!(!field.log.holds("secret.evil.example"), "it leaks: {secret:?}");
    // a container that is not ours, beside it: there the engine's resolver is a way out
    let engine = &field.lab.engine;
    engine.docker(&["network", "create", "plain"])?;
    let image = field.lab.container("acme/a")?["Config"]["Image"].as_str().unwrap_or("").to_owned();
    let line = ask("control.evil.example", "127.0.0.11", false);
    let run = ["run", "--rm", "--network=plain", "--entrypoint=bash", &image, "-c", &line];
    let control = engine.try_docker(&run)?;
    anyhow::ensure!(field.log.holds("control.evil.example"), "the probe is blind: {control:?}");
    Ok(())
}
